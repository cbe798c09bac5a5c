-- Every key has exactly one profile.
SELECT
    count(*) AS record_count,
    count(DISTINCT {key}) AS distinct_count,
    record_count = distinct_count AS passed
FROM merged_profiles
