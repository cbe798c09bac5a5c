-- Points to the level a person reads.
CREATE MACRO points_to_level(points) AS
    CASE WHEN points >= 5 THEN 'HIGH' WHEN points >= 2 THEN 'MEDIUM' ELSE 'LOW' END
