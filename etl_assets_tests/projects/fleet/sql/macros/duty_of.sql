CREATE MACRO duty_of(odometer_km, litres) AS
    CASE
        WHEN coalesce(litres, 0) > 500 OR coalesce(odometer_km, 0) > 200000 THEN 'HEAVY'
        WHEN coalesce(odometer_km, 0) > 1000 THEN 'NORMAL'
        ELSE 'IDLE'
    END
