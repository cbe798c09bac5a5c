-- One row for each vehicle, in two steps.
WITH rated AS (
    SELECT
        *,
        condition_of(telematics.odometer_km, workshop.open_defects, insurance.claims) AS condition
    FROM vehicles
)

SELECT
    base.* EXCLUDE (idempotency_key),
    registry.*,
    telematics.* EXCLUDE (mean_kmh),
    workshop.open_defects,
    coalesce(fuel.spent, 0) + coalesce(insurance.premium, 0) AS cost,
    condition,
    duty_of(telematics.odometer_km, fuel.litres) AS duty,
    rated.base.idempotency_key
FROM rated
