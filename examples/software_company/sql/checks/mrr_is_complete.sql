-- The revenue of all profiles is that of all running subscriptions.
SELECT
    (SELECT coalesce(sum(mrr), 0) FROM merged_profiles) AS of_profiles,
    coalesce(
        sum(CASE interval WHEN 'month' THEN amount ELSE ((((amount * 100)::BIGINT + 6) // 12) / 100)::DECIMAL(12, 2) END),
        0
    ) AS of_subscriptions
FROM subscriptions
WHERE status IN ('active', 'past_due')
HAVING of_profiles IS DISTINCT FROM of_subscriptions
