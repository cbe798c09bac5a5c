-- How good a vehicle is: ten points less those for wear and damage. Needs a macro of a later file.
CREATE MACRO condition_of(odometer_km, open_defects, claims) AS
    greatest(0, 10 - wear(odometer_km) - 2 * coalesce(open_defects, 0) - coalesce(claims, 0))::INTEGER
