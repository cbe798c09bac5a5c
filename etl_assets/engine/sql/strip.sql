-- A cell without the white space around it (space, tab, newline, CR, VT, FF).
-- The first branch is the fast path: visible ASCII only. Trimming a set of characters costs three times as much.
CREATE MACRO strip(cell) AS
    CASE
        WHEN regexp_full_match(cell, '[!-~]+') THEN cell
        ELSE trim(cell, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13))
    END
