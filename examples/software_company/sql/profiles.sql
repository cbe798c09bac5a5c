-- The profile: one row for each account. Sources with many rows an account are counted and summed first.
WITH subscriptions_of_account AS (
    SELECT
        account_id,
        count(*) AS subscription_count,
        sum(monthly_amount(amount, interval))::DECIMAL(12, 2) AS mrr,
        bool_or(status = 'past_due') AS payment_is_late
    FROM subscriptions
    WHERE status IN ('active', 'past_due')
    GROUP BY account_id
),

events_of_account AS (
    SELECT
        account_id,
        count(*) FILTER (is_recent(happened_at)) AS event_count,
        count(DISTINCT happened_at::DATE) FILTER (is_recent(happened_at)) AS active_days,
        max(happened_at) AS last_event_at
    FROM product_events
    GROUP BY account_id
),

tickets_of_account AS (
    SELECT
        account_id,
        count(*) AS ticket_count,
        count(*) FILTER (status IN ('New', 'Open', 'Pending', 'Hold')) AS open_ticket_count,
        -- The number decides between tickets of the same second.
        max_by(status, (created_at, ticket_id)) AS last_ticket_status,
        count(*) FILTER (satisfaction = 'Good') AS good_count,
        count(*) FILTER (satisfaction IN ('Good', 'Bad')) AS rated_count
    FROM tickets
    GROUP BY account_id
),

counted AS (
    SELECT
        base,
        accounts,
        coalesce(subscription_count, 0) AS subscription_count,
        coalesce(mrr, 0) AS mrr,
        coalesce(payment_is_late, false) AS payment_is_late,
        coalesce(event_count, 0) AS event_count,
        coalesce(active_days, 0) AS active_days,
        last_event_at,
        coalesce(ticket_count, 0) AS ticket_count,
        coalesce(open_ticket_count, 0) AS open_ticket_count,
        last_ticket_status,
        (100 * good_count / nullif(rated_count, 0))::DECIMAL(4, 1) AS satisfied_pct
    FROM customers
    LEFT JOIN subscriptions_of_account ON subscriptions_of_account.account_id = base.account_id
    LEFT JOIN events_of_account ON events_of_account.account_id = base.account_id
    LEFT JOIN tickets_of_account ON tickets_of_account.account_id = base.account_id
)

SELECT
    base.account_id,
    accounts.*,
    counted.* EXCLUDE (base, accounts),
    health_score(active_days, payment_is_late, open_ticket_count, satisfied_pct) AS health_score,
    churn_risk(health_score(active_days, payment_is_late, open_ticket_count, satisfied_pct)) AS churn_risk,
    base.sources,
    base.issues,
    base.shard_id,
    base.idempotency_key
FROM counted
