CREATE MACRO churn_risk(score) AS
    CASE WHEN score < 40 THEN 'HIGH' WHEN score < 70 THEN 'MEDIUM' ELSE 'LOW' END
