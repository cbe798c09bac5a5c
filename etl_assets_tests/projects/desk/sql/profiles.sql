WITH totals AS (
    SELECT client, count(*) AS tickets, sum(minutes::DECIMAL(18, 3)) AS minutes, max(updated_at) AS last_ticket
    FROM tickets
    GROUP BY client
)
SELECT
    base.client,
    accounts.email,
    accounts.revenue,
    accounts.is_open,
    coalesce(totals.tickets, 0) AS tickets,
    totals.minutes,
    totals.last_ticket,
    base.sources,
    base.issues,
    base.shard_id,
    base.idempotency_key
FROM clients
LEFT JOIN totals ON totals.client = base.client
