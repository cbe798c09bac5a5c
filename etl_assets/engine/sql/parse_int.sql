-- A whole number, or null when the text is not one. DuckDB's own cast would round 12.7, read 0x10 and 1_000.
-- The first branch is the fast path: text that is exactly how DuckDB writes the number.
CREATE MACRO parse_int(cell) AS
    CASE
        WHEN TRY_CAST(cell AS BIGINT)::VARCHAR = cell THEN TRY_CAST(cell AS BIGINT)
        WHEN regexp_full_match(strip(cell), '[+-]?[0-9]+(\.0*)?')
            THEN TRY_CAST(regexp_extract(cell, '[+-]?[0-9]+') AS BIGINT)
    END
