"""The forms of values as SQL: from a cell as a system writes it to a value of the contract's type, or null.

The forms of a source are those of its dialect and no others: `1.234` is a thousand with `thousands: .`, else it is one
and a bit, and a sign that is not declared makes a cell no number. So nothing is read with another meaning than its own.
"""

import re
from collections.abc import Sequence

from etl_assets.engine.reading.null_cells import text_sql
from etl_assets.engine.sql_text import literal
from etl_assets.project.columns import Column, ColumnType
from etl_assets.project.dialect import COUNTED_DATES, Dialect, has_zone
from etl_assets.project.identity import Case, Key, Strip

MACROS = ("strip", "blank_to_null", "parse_int", "parse_float", "parse_timestamp", "parse_date")
# Everything that looks like nothing: blanks of every kind, and marks without width.
_UNICODE_BLANKS = r"[\s\p{Z}\x{200B}-\x{200D}\x{2060}\x{FEFF}]+"
# Blanks that spreadsheets and browsers write between groups of digits.
_DIGIT_BLANKS = r"[ \x{00A0}\x{2009}\x{202F}]"
# A number with an exponent, and the first one from which not every whole double is exact: as in parse_int.sql.
_WITH_EXPONENT, _FIRST_INEXACT = r"[+-]?[0-9]{1,16}(\.[0-9]{0,17})?[eE][0-9]{1,2}", 2**53
_COUNTED = {
    "epoch": "make_timestamp(TRY_CAST({cell} AS BIGINT) * 1000000)",
    "epoch_ms": "make_timestamp(TRY_CAST({cell} AS BIGINT) * 1000)",
    # Day 60 of a spreadsheet is 29 February 1900, which never existed; later days count from 30 December 1899.
    "excel": "TIMESTAMP '1899-12-30' + to_microseconds(round(TRY_CAST({cell} AS DOUBLE) * 86400) ::BIGINT * 1000000)",
}
# How a counted date may be written: DuckDB's own cast would read 1_700_000_000 and round 1.5. Only days have fractions.
_COUNTED_FORM = {"epoch": "-?[0-9]+", "epoch_ms": "-?[0-9]+", "excel": "[0-9]+({point}[0-9]+)?"}
# The first count that is a date, and the first one that is none again: from 1900-01-01 on, in a spreadsheet from
# 1900-03-01 on, to the end of 2199.
_COUNTED_RANGE = {
    "epoch": (-2_208_988_800, 7_258_118_400),
    "epoch_ms": (-2_208_988_800_000, 7_258_118_400_000),
    "excel": (61, 109_575),
}


def key_sql(cell: str, key: Key) -> str:
    """The key in a cell: without the blanks around it, in the case that counts; null when nothing is left."""
    text = _stripped_sql(cell, key)
    if key.case is Case.LOWER:
        text = f"lower({text})"
    return f"nullif({text}, '')"


def joined_key_sql(cells: Sequence[str], key: Key) -> str:
    """The cells that make up a key together, with slashes between them; null when one of them has nothing.

    A slash or a backslash in a cell gets a backslash: two keys of other parts are never the same text.
    """
    parts = [rf"regexp_replace(nullif({_stripped_sql(cell, key)}, ''), '([/\\])', '\\\1', 'g')" for cell in cells]
    return " || '/' || ".join(parts)


def _stripped_sql(cell: str, key: Key) -> str:
    if key.strip is Strip.UNICODE:
        return f"regexp_replace({cell}, '^{_UNICODE_BLANKS}|{_UNICODE_BLANKS}$', '', 'g')"
    return f"strip({cell})"


def value_sql(cell: str, column: Column, dialect: Dialect) -> str:
    """The value in a cell; null when it is not of the column's type."""
    match column.type:
        case ColumnType.TEXT:
            return text_sql(cell, dialect, column)
        case ColumnType.INT:
            return f"parse_int({number_sql(cell, dialect)})"
        case ColumnType.FLOAT:
            return f"parse_float({number_sql(cell, dialect)})"
        case ColumnType.DECIMAL:
            return _decimal_sql(number_sql(cell, dialect), column)
        case ColumnType.BOOL:
            return _bool_sql(cell, dialect)
        case ColumnType.DATE:
            return _first_of([f"parse_date({cell})", *(f"{form}::DATE" for form in _dated_sql(cell, dialect))])
        case ColumnType.TIMESTAMP:
            return _first_of([f"parse_timestamp({cell})", *_dated_sql(cell, dialect)])


def number_sql(cell: str, dialect: Dialect) -> str:
    """A number's text as DuckDB writes it; null when the cell is not a number in this dialect."""
    if dialect.has_plain_numbers:
        return cell
    digits, plain = _digits_pattern(dialect)
    signs = "|".join(re.escape(sign) for sign in dialect.currency)
    before = rf"(?:(?:{signs})\s*)?" if signs else ""
    after = (rf"(?:\s*(?:{signs}))?" if signs else "") + (r"(?:\s*%)?" if dialect.percent else "")
    # The sign may stand before or after that of the currency; blanks count as nothing around both.
    signed = rf"([+-]?)\s*{before}([+-]?)({digits}){after}"
    text = f"strip(regexp_replace({cell}, {literal(_DIGIT_BLANKS)}, ' ', 'g'))"
    cases = [_case(text, signed, r"'\1\2'", r"'\3'", plain)]
    if dialect.parentheses:
        cases.append(_case(text, rf"\(\s*{before}({digits}){after}\s*\)", "'-'", r"'\1'", plain))
    return f"CASE {' '.join(cases)} END"


def _case(text: str, whole: str, sign: str, digits: str, plain: Sequence[tuple[str, str]]) -> str:
    pattern = literal(f"^{whole}$")
    value = f"regexp_replace({text}, {pattern}, {digits})"
    for mark, written in plain:
        value = f"replace({value}, {literal(mark)}, {literal(written)})"
    shown_sign = sign if "\\" not in sign else f"regexp_replace({text}, {pattern}, {sign})"
    return f"WHEN regexp_matches({text}, {pattern}) THEN {shown_sign} || {value}"


def _digits_pattern(dialect: Dialect) -> tuple[str, list[tuple[str, str]]]:
    """The pattern of an unsigned number, and what is replaced in it to get DuckDB's form."""
    point = re.escape(dialect.decimal)
    whole, plain = "[0-9]+", []
    if dialect.thousands:
        # In groups of three, or not at all: `1,23` is not 123, and `0,500` not 500.
        whole = rf"(?:[1-9][0-9]{{0,2}}(?:{re.escape(dialect.thousands)}[0-9]{{3}})+|[0-9]+)"
        plain.append((dialect.thousands, ""))
    if dialect.decimal != ".":
        plain.append((dialect.decimal, "."))
    return rf"(?:{whole}(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?", plain


def _decimal_sql(number: str, column: Column) -> str:
    """Exactly the number that is written; more digits after the point than the column has are refused, not rounded.

    With an exponent, such as Java's `8.0E7`, under the limits of `parse_int`.
    """
    scale, text = column.scale, f"strip({number})"
    without_whole = rf"\.[0-9]{{1,{scale}}}0*" if scale else r"\.0+"
    form = rf"[+-]?([0-9]+(\.[0-9]{{0,{scale}}}0*)?|{without_whole})"
    exact = f"TRY_CAST({text} AS DECIMAL(38, 18))"
    return (
        f"CASE WHEN regexp_full_match({text}, '{form}') THEN TRY_CAST({text} AS {column.duckdb}) "
        f"WHEN regexp_full_match({text}, '{_WITH_EXPONENT}') AND abs({exact}) < {_FIRST_INEXACT} "
        f"AND TRY_CAST({exact} AS {column.duckdb}) = {exact} THEN TRY_CAST({exact} AS {column.duckdb}) END"
    )


def _bool_sql(cell: str, dialect: Dialect) -> str:
    words_of_both = (dialect.true_words, dialect.false_words)
    true, false = (", ".join(literal(word.lower()) for word in words) for words in words_of_both)
    text = f"lower(strip({cell}))"
    return f"CASE WHEN {text} IN ({true}) THEN true WHEN {text} IN ({false}) THEN false END"


def _dated_sql(cell: str, dialect: Dialect) -> list[str]:
    """A timestamp in each of the dialect's own forms."""
    written = [form for form in dialect.dates if form not in COUNTED_DATES]
    found = [_strptime_sql(f"strip({cell})", form) for form in written]
    for form in dialect.dates:
        if form in COUNTED_DATES:
            pattern = _COUNTED_FORM[form].format(point=re.escape(dialect.decimal))
            is_written = f"regexp_full_match(strip({cell}), {literal(pattern)})"
            text = f"replace(strip({cell}), {literal(dialect.decimal)}, '.')"
            first, end = _COUNTED_RANGE[form]
            is_in_range = f"TRY_CAST({text} AS DOUBLE) >= {first} AND TRY_CAST({text} AS DOUBLE) < {end}"
            found.append(f"CASE WHEN {is_written} AND {is_in_range} THEN {_COUNTED[form].format(cell=text)} END")
    return found


def _strptime_sql(text: str, form: str) -> str:
    parsed = f"try_strptime({text}, {literal(form)})"
    # Forms with a zone or with nanoseconds give types of their own. Every form gives the same type, in UTC.
    if has_zone(form):
        parsed = f"({parsed} AT TIME ZONE 'UTC')"
    # Deliberately no cast: it would round the last nanoseconds of a day to the next one.
    return f"make_timestamp(epoch_us({parsed}))"


def _first_of(values: Sequence[str]) -> str:
    return values[0] if len(values) == 1 else f"coalesce({', '.join(values)})"
