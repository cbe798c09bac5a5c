-- The revenue of all profiles is that of all running subscriptions.
SELECT
    (SELECT sum(mrr) FROM merged_profiles) AS of_profiles,
    sum((amount / CASE interval WHEN 'year' THEN 12 ELSE 1 END)::DECIMAL(12, 2)) AS of_subscriptions
FROM subscriptions
WHERE status IN ('active', 'past_due')
HAVING of_profiles IS DISTINCT FROM of_subscriptions
