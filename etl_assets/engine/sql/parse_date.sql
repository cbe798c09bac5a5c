-- An ISO date, or null when the text is not one; a midnight time after it is dropped, any other time is not a date.
-- The first branch is the fast path: text that is exactly how DuckDB writes the date.
CREATE MACRO parse_date(cell) AS
    CASE
        WHEN strlen(cell) = 10 AND TRY_CAST(cell AS DATE)::VARCHAR = cell THEN TRY_CAST(cell AS DATE)
        WHEN regexp_full_match(strip(cell), '[0-9]{4}-[0-9]{2}-[0-9]{2}([ T]00:00(:00(\.0+)?)?(Z|\+00(:00)?)?)?')
            AND left(strip(cell), 4) <> '0000'
            THEN TRY_CAST(left(strip(cell), 10) AS DATE)
    END
