-- The text of a cell, or null when it is empty or only white space (space, tab, newline, CR, VT, FF).
-- The first branch is the fast path: text that starts with a visible character.
CREATE MACRO blank_to_null(cell) AS
    CASE WHEN cell >= '!' THEN cell WHEN strip(cell) <> '' THEN cell END
