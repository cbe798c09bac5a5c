-- A finite number, or null when the text is not one. Minus zero becomes zero: one value, one key.
-- The first branch is the fast path: a plain decimal that no double can fail to hold.
CREATE MACRO parse_float(cell) AS
    CASE
        WHEN regexp_full_match(cell, '[0-9]+(\.[0-9]+)?') AND strlen(cell) < 300 THEN TRY_CAST(cell AS DOUBLE)
        WHEN regexp_full_match(strip(cell), '[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?')
            AND isfinite(TRY_CAST(strip(cell) AS DOUBLE))
            THEN CASE WHEN TRY_CAST(strip(cell) AS DOUBLE) = 0 THEN 0.0::DOUBLE ELSE TRY_CAST(strip(cell) AS DOUBLE) END
    END
