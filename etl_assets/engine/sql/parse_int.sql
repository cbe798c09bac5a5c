-- A whole number, or null when the text is not one. DuckDB's own cast would round 12.7, read 0x10 and 1_000.
-- The first branch is the fast path: text that is exactly how DuckDB writes the number.
-- An exponent, as in 9.9213206E7, is read when the number is whole and every double up to it is exact. Deliberately not
-- 1.23457E+12, which a spreadsheet leaves of a number that had more digits.
CREATE MACRO parse_int(cell) AS
    CASE
        WHEN TRY_CAST(cell AS BIGINT)::VARCHAR = cell THEN TRY_CAST(cell AS BIGINT)
        WHEN regexp_full_match(strip(cell), '[+-]?[0-9]+(\.0*)?')
            THEN TRY_CAST(regexp_extract(cell, '[+-]?[0-9]+') AS BIGINT)
        WHEN regexp_full_match(strip(cell), '[+-]?[0-9]{1,16}(\.[0-9]{0,17})?[eE][0-9]{1,2}')
            AND abs(TRY_CAST(strip(cell) AS DECIMAL(38, 18))) < 9007199254740992
            AND trunc(TRY_CAST(strip(cell) AS DECIMAL(38, 18))) = TRY_CAST(strip(cell) AS DECIMAL(38, 18))
            THEN TRY_CAST(strip(cell) AS DECIMAL(38, 18))::BIGINT
    END
