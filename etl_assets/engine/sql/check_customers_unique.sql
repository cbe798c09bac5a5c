-- Every customer stands exactly once.
SELECT
    count(*) AS record_count,
    count(DISTINCT customer_id) AS customer_count,
    record_count = customer_count AS passed
FROM merged_profiles
