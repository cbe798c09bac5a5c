-- No vehicle sends before it is registered.
SELECT vin, last_signal, registered
FROM merged_profiles
WHERE last_signal < registered
