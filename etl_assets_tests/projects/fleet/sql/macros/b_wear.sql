CREATE MACRO wear(odometer_km) AS least(5, coalesce(odometer_km, 0) // 50000)
