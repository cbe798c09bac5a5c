"""Which line of the contract reads what broke it: from rejected cells and rows to words of the dialect.

A word is proposed only where it reads all the cells of a column that broke the contract. One that would give the sound
cells another meaning, such as a decimal comma, is proposed only where there are hardly any sound ones.
"""

import csv
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from etl_assets.engine.reading import cell_forms
from etl_assets.engine.reading.encodings import detect_in
from etl_assets.project.columns import Column, ColumnType
from etl_assets.project.dialect import COUNTED_DATES, Dialect
from etl_assets.project.null_words import DEFAULT_NULLS

_NUMBERS = (ColumnType.INT, ColumnType.FLOAT, ColumnType.DECIMAL)
_DATES = (ColumnType.DATE, ColumnType.TIMESTAMP)
_MOSTLY = 0.5
# Days as spreadsheets count them, from 1954 to 2173.
_SPREADSHEET_DAYS = range(20_000, 100_000)
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_FOOTER_LINES = 20


@dataclass(frozen=True)
class BadText:
    """What the texts of rows that are no UTF-8 say: the first byte that is none, and the likely encoding."""

    byte: int
    encoding: str | None


@dataclass(frozen=True)
class BadRow:
    """A row whose structure broke the contract: the line on which it begins, and its text."""

    line: int
    text: str


def words_for_cells(columns: Mapping[Column, Sequence[str]], row_count: int, dialect: Dialect) -> dict[str, object]:
    """Words under which all of these cells are values of their columns; empty where there are none."""
    words: dict[str, object] = {}
    numbers = [cells for column, cells in columns.items() if column.type in _NUMBERS]
    nulls = {cell.strip() for cells in columns.values() for cell in cells} & set(cell_forms.NULL_WORDS)
    if nulls:
        words["nulls"] = [*(DEFAULT_NULLS if dialect.nulls is None else dialect.nulls), *sorted(nulls)]
    kept = [[cell for cell in cells if cell.strip() not in nulls] for cells in numbers]
    words |= _number_words([cells for cells in kept if cells], row_count, dialect)
    forms = [*dialect.dates]
    for column, cells in columns.items():
        if column.type in _DATES:
            form = _date_form(column, [cell for cell in cells if cell.strip() not in nulls], dialect)
            forms += [form] if form and form not in forms else []
    if len(forms) > len(dialect.dates):
        words["dates"] = forms
    pairs = [cell_forms.truth_words(cells) for column, cells in columns.items() if column.type is ColumnType.BOOL]
    pair = next(filter(None, pairs), None)
    if pair:
        words["true_words"], words["false_words"] = [*dialect.true_words, pair[0]], [*dialect.false_words, pair[1]]
    return words


def _number_words(columns: Sequence[Sequence[str]], row_count: int, dialect: Dialect) -> dict[str, object]:
    if not columns:
        return {}
    decimal, thousands, currencies, percent, parentheses = cell_forms.number_marks(columns, dialect.separator)
    signs = (*dialect.currency, *(sign for sign in currencies if sign not in dialect.currency))
    # A column of which one cell is no number at all does not hide how the others are written.
    columns = [cells for cells in columns if cell_forms.is_number(cells, (decimal, thousands), signs)]
    if not columns:
        return {}
    words: dict[str, object] = {}
    if decimal != dialect.decimal:
        if max(map(len, columns)) < _MOSTLY * row_count:
            return {}
        words["decimal"] = decimal
    if thousands and thousands != dialect.thousands:
        words["thousands"] = thousands
    if signs != dialect.currency:
        words["currency"] = list(signs)
    if percent and not dialect.percent:
        words["percent"] = True
    if parentheses and not dialect.parentheses:
        words["parentheses"] = True
    return words


def _date_form(column: Column, cells: Sequence[str], dialect: Dialect) -> str | None:
    if not cells:
        return None
    if all(cell.strip().isdigit() and int(cell) in _SPREADSHEET_DAYS for cell in cells if len(cell) < 10) and all(
        len(cell.strip()) == 5 for cell in cells
    ):
        return COUNTED_DATES[2]
    counted = cell_forms.counted_form(cells, column.name)
    found, guesses = cell_forms.date_forms({column.name: cells}, dialect.separator)
    # Day and month that cannot be told apart are for a person to say.
    return counted or (found.get(column.name) if not guesses else None)


def words_for_rows(rows: Sequence[BadRow], record_count: int, dialect: Dialect) -> dict[str, object]:
    """Words under which rows of a broken structure in one file are read, or are no rows; empty where there are none."""
    widths = Counter(len(cells) for row in rows if (cells := _cells(row.text, dialect)) and not cells[-1].strip())
    if len(rows) == record_count and sum(widths.values()) == len(rows) and len(widths) == 1:
        return {"surplus_cell": True}
    first, last = min(row.line for row in rows), max(row.line for row in rows)
    before = record_count - len(rows)
    # All other records come before the first of these: it is the end of the file that is none.
    if (
        before
        and len(rows) <= _FOOTER_LINES
        and first >= before + 2 + dialect.skip_lines
        and last - first < 2 * len(rows) + 5
    ):
        return {"footer_lines": last - first + 1}
    return {}


def _cells(text: str, dialect: Dialect) -> list[str]:
    try:
        return next(csv.reader([text], delimiter=dialect.separator, quotechar=dialect.quote), [])
    except csv.Error:
        return []


def bad_text(texts: Sequence[str]) -> BadText | None:
    r"""What rows that are no UTF-8 are, from their texts with \xNN for the bytes that are none."""
    data = b"\n".join(_ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), text.encode()) for text in texts)
    first = _ESCAPED.search(texts[0].encode()) if texts else None
    if first is None:
        return None
    encoding = detect_in(data).name
    return BadText(int(first[1], 16), None if encoding == "utf-8" else encoding)
