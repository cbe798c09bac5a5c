-- Health scores are from 0 to 100; churn risk and expansion potential are LOW, MEDIUM or HIGH; none is missing.
SELECT
    count(*) FILTER (coalesce(health_score NOT BETWEEN 0 AND 100, true)) AS bad_health_scores,
    count(*) FILTER (coalesce(churn_risk NOT IN ('LOW', 'MEDIUM', 'HIGH'), true)) AS bad_churn_risks,
    count(*) FILTER (coalesce(expansion_potential NOT IN ('LOW', 'MEDIUM', 'HIGH'), true)) AS bad_expansion_potentials,
    bad_health_scores + bad_churn_risks + bad_expansion_potentials = 0 AS passed
FROM merged_profiles
