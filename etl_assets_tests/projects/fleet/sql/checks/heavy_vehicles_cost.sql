-- A vehicle that burns fuel has cost something.
SELECT vin, duty, cost
FROM merged_profiles
WHERE duty = 'HEAVY' AND cost IS NULL
