-- Every record has an idempotency key, and no two records have the same one.
SELECT
    count(*) AS record_count,
    count(DISTINCT idempotency_key) AS key_count,
    count(*) FILTER (idempotency_key IS NULL) AS null_count,
    record_count = key_count AND null_count = 0 AS passed
FROM merged_profiles
