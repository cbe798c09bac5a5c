-- A word as the scores compare it: trimmed, lower case, spaces and hyphens as underscores; missing is empty.
CREATE MACRO normalise_word(word) AS coalesce(translate(lower(strip(word)), ' -', '__'), '')
