"""Query results as text: a table for people, CSV and JSON for programs. The module does not know the rows' origin.

CSV and JSON are written while the rows arrive. A table needs the width of every cell first, so its size is limited.
"""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import chain, count
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from etl_assets.cli import terminal
from etl_assets.cli.output import machine_writer, printable

# Rows of a table, and records shown as one line per column when a row is too wide.
TABLE_ROWS = 1000
WIDE_RECORDS = 20
# The least width of a folded text; a table that needs narrower columns is shown as one line per column.
_FOLDED_CHARS = 20
_GAP = "  "
_NULL = "NULL"

_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL")
# The csv module writes these as they should be.
_PLAIN_IN_CSV = ("VARCHAR", "DATE", "UUID", "ENUM", "INTERVAL")


@dataclass(frozen=True)
class ColumnShown:
    """A column's name and DuckDB type."""

    name: str
    type: str

    @property
    def is_number(self) -> bool:
        """Whether its values are aligned on the right."""
        return self.type.removeprefix("U").startswith(_NUMBERS) and not self.type.endswith("]")


@dataclass
class Result:
    """Columns and rows of a statement."""

    columns: Sequence[ColumnShown]
    shown_rows: int = field(default=0, init=False)
    has_more: bool = field(default=False, init=False)

    def batches(self) -> Iterator[list[tuple[object, ...]]]:
        """The rows, in batches."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Writing:
    """What the csv module writes to."""

    write: Callable[[str], object]


def write_csv(result: Result) -> None:
    """RFC 4180 with Unix line ends: a header, null as an empty field, ISO 8601 dates, lists as DuckDB writes them."""
    writer = csv.writer(_Writing(machine_writer()), lineterminator="\n")
    writer.writerow([column.name for column in result.columns])
    converted = [
        index
        for index, column in enumerate(result.columns)
        if not (column.is_number or column.type.startswith(_PLAIN_IN_CSV)) or column.type.endswith("]")
    ]
    for rows in result.batches():
        writer.writerows(_with_text(rows, converted) if converted else rows)


def _with_text(rows: list[tuple[object, ...]], indexes: Sequence[int]) -> Iterator[list[object]]:
    for row in rows:
        cells = list(row)
        for index in indexes:
            if cells[index] is not None:
                cells[index] = to_text(cells[index])
        yield cells


def write_json(result: Result) -> None:
    """An array of objects, one per line; dates in ISO 8601, lists as lists, NaN and infinity as null."""
    write = machine_writer(is_json=True)
    keys = [_quoted(name) + ": " for name in _unique([c.name for c in result.columns])]
    write("[")
    separator = "\n"
    for row in chain.from_iterable(result.batches()):
        write(separator + "{" + ", ".join([key + to_json(cell) for key, cell in zip(keys, row)]) + "}")  # noqa: B905
        separator = ",\n"
    write("\n]\n" if separator != "\n" else "]\n")


def _unique(names: Sequence[str]) -> list[str]:
    """The names, made different from each other: an object cannot hold two values of one name."""
    unique: list[str] = []
    for name in names:
        candidates = chain([name], (f"{name}_{number}" for number in count(2)))
        taken = {*unique, *names} if name in unique else set(unique)
        unique.append(next(candidate for candidate in candidates if candidate not in taken))
    return unique


def to_json(value: object) -> str:
    """A value as JSON; a Decimal keeps its digits, so json.dumps will not do."""
    encode = _ENCODERS.get(type(value))
    return encode(value) if encode else _quoted(to_text(value))


# Three times as fast as json.dumps, which creates an encoder for every call.
_quoted = json.JSONEncoder(ensure_ascii=False).encode


def _json_object(value: dict[object, object]) -> str:
    return "{" + ", ".join(f"{_quoted(to_text(key))}: {to_json(item)}" for key, item in value.items()) + "}"


_ENCODERS: dict[type, Callable[[Any], str]] = {
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: str,
    float: lambda value: repr(value) if math.isfinite(value) else "null",
    Decimal: lambda value: format(value, "f"),
    str: _quoted,
    datetime: lambda value: f'"{value.isoformat()}"',
    list: lambda value: "[" + ", ".join(map(to_json, value)) + "]",
    tuple: lambda value: "[" + ", ".join(map(to_json, value)) + "]",
    dict: _json_object,
}


def to_text(value: object) -> str:
    """A value as text, nested ones as DuckDB writes them: `[crm, billing]`, `{'a': 1}`."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case bytes():
            return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02X}" for byte in value)
        case list() | tuple():
            return "[" + ", ".join(map(to_text, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{key!r}: {to_text(item)}" for key, item in value.items()) + "}"
        case _:
            return str(value)


# The characters DuckDB draws plans with, for a terminal that has ASCII only.
_DRAWN_IN_ASCII = str.maketrans(dict.fromkeys("┌┐└┘├┤┬┴┼╭╮╰╯", "+") | {"─": "-", "│": "|"})


def write_plan(result: Result) -> None:
    """A query plan as DuckDB draws it."""
    encoding = terminal.console().encoding
    for row in chain.from_iterable(result.batches()):
        for line in str(row[-1]).rstrip("\n").split("\n"):
            drawn = line if encoding.startswith("utf") else line.translate(_DRAWN_IN_ASCII)
            print(printable(drawn, encoding))


def write_table(result: Result, limit: int | None) -> None:
    """A table when its rows fit on a line, else one line per column.

    `limit` is the number of rows to show, 0 for all, None for TABLE_ROWS (WIDE_RECORDS when they do not fit).
    """
    console = terminal.console()
    rows = _take(result, TABLE_ROWS if limit is None else limit)
    texts = [[None if cell is None else printable(to_text(cell), console.encoding) for cell in row] for row in rows]
    columns = [ColumnShown(printable(column.name, console.encoding), column.type) for column in result.columns]
    if not console.is_terminal or _width(columns, texts) <= console.width:
        console.print(_table(columns, texts, fold=console.is_terminal))
        return
    if limit is None and len(texts) > WIDE_RECORDS:
        texts, result.has_more = texts[:WIDE_RECORDS], True
    result.shown_rows = len(texts)
    for number, record in enumerate(texts, start=1):
        console.print(_record(columns, record, number), soft_wrap=True)


def write_footer(result: Result, elapsed_ms: int) -> None:
    """Rows shown and time taken, on stderr: stdout holds the result only."""
    if result.has_more:
        shown = f"first {terminal.count(result.shown_rows, 'row')}; all with --limit 0 or --format csv"
    else:
        shown = terminal.count(result.shown_rows, "row")
    terminal.console(sys.stderr).print(f"{shown} ({terminal.duration(elapsed_ms)})", style="dim", soft_wrap=True)


def _take(result: Result, limit: int) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for batch in result.batches():
        rows += batch
        if limit and len(rows) > limit:
            break
    result.has_more = bool(limit) and len(rows) > limit
    result.shown_rows = min(len(rows), limit or len(rows))
    return rows[: result.shown_rows]


def _width(columns: Sequence[ColumnShown], texts: Sequence[Sequence[str | None]]) -> int:
    """The width of a row in characters when long texts fold."""
    total = 0
    for index, column in enumerate(columns):
        widest = max((cell_len(row[index] or _NULL) for row in texts), default=0)
        total += max(cell_len(column.name), widest if column.is_number else min(widest, _FOLDED_CHARS))
    return total + len(_GAP) * (len(columns) - 1)


def _table(columns: Sequence[ColumnShown], texts: Sequence[Sequence[str | None]], *, fold: bool) -> Table:
    made = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, len(_GAP) - 1, 0, 0), collapse_padding=True
    )
    for column in columns:
        foldable = fold and not column.is_number
        made.add_column(
            Text(column.name),
            justify="right" if column.is_number else "left",
            no_wrap=not foldable,
            overflow="fold",
        )
    for row in texts:
        made.add_row(*(_cell(text) for text in row))
    return made


def _record(columns: Sequence[ColumnShown], texts: Sequence[str | None], number: int) -> Text:
    """A row that is too wide, one line per column, like psql's expanded display."""
    width = max(cell_len(column.name) for column in columns)
    lines = [Text(f"row {number:,}", style="bold")]
    for column, text in zip(columns, texts, strict=True):
        lines.append(Text(column.name + " " * (width - cell_len(column.name)) + _GAP).append_text(_cell(text)))
    return Text("\n").join([*lines, Text()])


def _cell(text: str | None) -> Text:
    return Text(_NULL, style="dim") if text is None else Text(text)
