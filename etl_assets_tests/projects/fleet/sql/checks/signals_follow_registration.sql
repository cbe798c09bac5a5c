-- No vehicle sends before it is registered.
SELECT count(*) FILTER (last_signal < registered) AS too_early, too_early = 0 AS passed
FROM merged_profiles
