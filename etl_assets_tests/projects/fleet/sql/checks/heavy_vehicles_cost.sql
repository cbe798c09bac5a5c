-- A vehicle that burns fuel has cost something.
SELECT
    count(*) FILTER (duty = 'HEAVY') AS heavy_count,
    count(*) FILTER (duty = 'HEAVY' AND cost IS NULL) AS without_cost,
    without_cost = 0 AS passed
FROM merged_profiles
