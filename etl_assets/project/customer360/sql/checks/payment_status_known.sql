-- Every payment status is a word that the scores know: active, past due or failed, or canceled and trialing, which have
-- no effect on purpose.
SELECT payment_status, count(*) AS customer_count
FROM merged_profiles
WHERE
    replace(replace(lower(trim(payment_status)), ' ', '_'), '-', '_') NOT IN (
        'active', 'past_due', 'failed', 'canceled', 'cancelled', 'trialing'
    )
GROUP BY payment_status
