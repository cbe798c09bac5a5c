-- For every source, rows in = rows accepted + rows quarantined, and the quarantine table holds just those rows and cells.
WITH held AS (
    SELECT source, count(*) FILTER (cell IS NULL) AS rows_held, count(cell) AS cells_held FROM quarantine GROUP BY source
)
SELECT
    count(*) AS source_count,
    sum(rows_in)::BIGINT AS rows_in,
    sum(rows_accepted)::BIGINT AS rows_accepted,
    sum(rows_quarantined)::BIGINT AS rows_quarantined,
    sum(cells_quarantined)::BIGINT AS cells_quarantined,
    count(*) FILTER (
        rows_in <> rows_accepted + rows_quarantined OR rows_quarantined <> coalesce(rows_held, 0)
        OR cells_quarantined <> coalesce(cells_held, 0)
    ) AS sources_not_closed,
    sources_not_closed = 0 AND source_count > 0 AS passed
FROM source_snapshots LEFT JOIN held USING (source)
