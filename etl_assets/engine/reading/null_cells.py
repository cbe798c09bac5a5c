"""Cells that mean null, as SQL: which words do, in a text, in a number or date, and in a key.

Nearly no cell is such a word, and every cell is asked, so each question begins with what rules nearly all of them out.
"""

from collections.abc import Iterable

from etl_assets.engine.sql_text import literal
from etl_assets.project.columns import Column
from etl_assets.project.dialect import Dialect
from etl_assets.project.null_words import DEFAULT_NULLS, declared_nulls, folded_nulls, key_refuses_defaults, text_nulls

_FOLDED = folded_nulls()
# Between these are all letters and digits, and few of the signs with which words for null begin.
_FIRST_SIGN, _NO_SIGN = ".", "\x7f"
# The damage that a spreadsheet does to ids: a long number with an exponent, an error, a column that was too narrow.
# Deliberately not `4e12`, which may be the start of a hash: a mark or a plus sign tells a number.
DAMAGED = r"(?i)[+-]?[0-9]+([.,][0-9]*e[+-]?[0-9]+|e\+[0-9]+)|#[¡¿]?[\p{L}/ ]+0?[!?]|#{2,}"


def text_sql(cell: str, dialect: Dialect, column: Column) -> str:
    """A text, or null when it is blank or a word for null; declared words are null already, see `cell_sql`."""
    if declared_nulls(dialect, column) is not None:
        return f"blank_to_null({cell})"
    words = text_nulls(dialect, column)
    # A map is asked in half the time of IN.
    is_word = f"map([{', '.join(map(literal, ('', *words)))}], {[True] * (len(words) + 1)})[strip({cell})]"
    return f"CASE WHEN {_begins_otherwise_sql(cell, words)} THEN {cell} WHEN {is_word} IS NULL THEN {cell} END"


def cell_sql(text: str, dialect: Dialect, column: Column | None = None) -> str:
    """A cell as text; null when it is one of the declared words. The default words are left to the other questions."""
    declared = declared_nulls(dialect, column)
    if not declared:
        return text
    return f"CASE WHEN strip({text}) NOT IN ({', '.join(map(literal, declared))}) THEN {text} END"


def any_cell_sql(text: str, dialect: Dialect) -> str:
    """A cell as text; null when it is one of the words, declared or by default, that are null in a text."""
    words = DEFAULT_NULLS if dialect.nulls is None else dialect.nulls
    return cell_sql(text, dialect.model_copy(update={"nulls": words}))


def key_cell_sql(text: str, dialect: Dialect) -> str:
    """A cell of a key as text; null when it is a word for null.

    The default words count beside declared ones: strangers whose ids are `NULL` would become one.
    """
    declared = cell_sql(text, dialect)
    if not key_refuses_defaults(dialect):
        return declared
    spellings = [spelling for word in _FOLDED for spelling in (word, word.upper())]
    return (
        f"CASE WHEN {_begins_otherwise_sql(text, spellings)} THEN {declared} "
        f"WHEN NOT {is_folded_null_sql(f'strip({text})')} THEN {declared} END"
    )


def _begins_otherwise_sql(text: str, words: Iterable[str]) -> str:
    """Whether a text begins with a letter, a digit or a sign that begins none of the words; it may miss some that do.

    It compares first bytes, which takes DuckDB a fifth of the time of looking at the end of a text or into a map.
    """
    firsts = sorted({word[0] for word in words if word and _FIRST_SIGN <= word[0] < _NO_SIGN})
    bounds = zip([_FIRST_SIGN, *(chr(ord(sign) + 1) for sign in firsts)], [*firsts, _NO_SIGN], strict=True)
    # Most texts begin with a letter, and those come last.
    ranges = [f"({text} >= {literal(first)} AND {text} < {literal(end)})" for first, end in bounds if first < end]
    return f"({' OR '.join(reversed(ranges))})"


def is_folded_null_sql(text: str) -> str:
    """Whether a text without blanks around it is a default word, whatever its case."""
    return f"lower({text}) IN ({', '.join(map(literal, _FOLDED))})"


def filled_cell_sql(cell: str, has_defaults: str) -> str:
    """Whether a cell that is no value of its type has something in it; `has_defaults` is SQL for a truth value."""
    filled = f"blank_to_null({cell}) IS NOT NULL"
    if has_defaults == "false":
        return filled
    no_word = f"NOT {is_folded_null_sql(f'strip({cell})')}"
    return f"{filled} AND {no_word}" if has_defaults == "true" else f"{filled} AND ({no_word} OR NOT {has_defaults})"


def is_damaged_key_sql(key: str, part_count: int = 1) -> str:
    """Whether an id is what a spreadsheet leaves of one; of a key of several parts, one of them."""
    pattern = DAMAGED if part_count == 1 else rf"(?:^|/)(?:{DAMAGED})(?:/|$)".replace("(?i)", "")
    if part_count > 1:
        return f"regexp_matches({key}, {literal('(?i)' + pattern)})"
    may_be = f"{key} < ':' AND ({key} < '$' OR contains({key}, 'E') OR contains({key}, 'e'))"
    return f"({may_be} AND regexp_full_match({key}, {literal(pattern)}))"
