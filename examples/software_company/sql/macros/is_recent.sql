-- The 30 days before the exports were made. Deliberately a fixed day: the same exports give the same profiles tomorrow.
CREATE MACRO is_recent(moment) AS
    moment >= TIMESTAMP '2026-06-01 00:00:00' AND moment < TIMESTAMP '2026-07-01 00:00:00'
