-- A word as the scores compare it: trimmed, lower case, spaces and hyphens as underscores; missing is empty.
CREATE MACRO normalise_word(word) AS coalesce(replace(replace(lower(strip(word)), ' ', '_'), '-', '_'), '')
