-- A day, or null when the text is not an ISO date; of a moment, its day in UTC. Needs parse_timestamp.
-- The first branch is the fast path: text that is exactly how DuckDB writes the date.
CREATE MACRO parse_date(cell) AS
    CASE
        WHEN strlen(cell) = 10 AND TRY_CAST(cell AS DATE)::VARCHAR = cell THEN TRY_CAST(cell AS DATE)
        ELSE parse_timestamp(cell)::DATE
    END
