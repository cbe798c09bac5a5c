"""The records of a JSON Lines file: an object a line, found, judged, and written as the cells of the declared columns.

Top-level fields are columns, and `address.city` is the field of an object in a field. Names are compared as those of a
header are (see `headers`), record by record: a field may be left out of any of them, which is null. A line that is no
object, or that has a field twice, is a damaged record. Cells keep their text as it is written, so that no number passes
through a float. A list or an object has no text that is a value: a record's last cell names the columns that hold one.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from etl_assets.project.columns import ColumnType, plain_name
from etl_assets.project.contract import Source
from etl_assets.project.dialect import Dialect

if TYPE_CHECKING:
    from etl_assets.engine.reading.records import Block

_BOM = b"\xef\xbb\xbf"
_NAMES_KEPT = 10_000
_DOT = "."
# What a file's columns are found from: at least so many records, but no more blocks.
_RECORDS_LOOKED_AT, _BLOCKS_LOOKED_AT = 1_000, 16
_CHARS_SHOWN = 60
_WHOLE = re.compile(r"-?\d+")
# From here on not every whole number is a float.
_FIRST_INEXACT, _DIGITS_OF_INEXACT = 2**53, 16


class Number(str):
    """A number as it is written."""

    __slots__ = ()


class _NoRecordError(ValueError):
    """Why a line is no sound record."""


@dataclass(frozen=True)
class Wanted:
    """A field that the contract reads: the first of `headers` that a record has. `columns` are the contract's names.

    `is_text` where a number or a truth value stays as it is written; else it is written as the dialect reads it. Of an
    id (`is_id`), a number has to be whole, and is written as a whole number is.
    """

    headers: tuple[str, ...]
    columns: tuple[str, ...]
    is_text: bool = True
    is_id: bool = False

    @property
    def label(self) -> str:
        """Its name for messages, and among the columns of an export."""
        return " or ".join(self.headers)


def wanted_of(source: Source) -> tuple[Wanted, ...]:
    """The fields of a source's records, the key's first; one for all columns that have the same headers."""
    ids, entries = source.id_columns, list[tuple[tuple[str, ...], str, bool]]()
    entries += [((header,), source.key.name, True) for header in source.key_headers]
    entries += [(column.headers, column.name, column.type is ColumnType.TEXT) for column in source.columns]
    found: dict[tuple[str, ...], Wanted] = {}
    for headers, name, is_text in entries:
        one = found.get(headers, Wanted(headers, ()))
        found[headers] = Wanted(headers, (*one.columns, name), one.is_text and is_text, one.is_id or name in ids)
    return tuple(found.values())


class Rows:
    """Records as rows of cells, one for each wanted field, in the form of these dialects."""

    def __init__(self, wanted: Sequence[Wanted], dialect: Dialect) -> None:
        self._wanted = wanted
        self._comment = dialect.comment.encode()
        self._dialect = dialect
        self._places: dict[str, tuple[tuple[int, int], ...]] = {}

    @property
    def fields(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """The fields of the records so far, each with the places of the wanted fields that it may be, and its rank."""
        return self._places

    def is_blank(self, line: bytes) -> bool:
        """Whether a line is no record at all."""
        return not line.strip() or bool(self._comment and line.startswith(self._comment))

    def row(self, line: bytes) -> bytes | None:
        """The record on a line as a line of CSV; None when it is damaged."""
        try:
            return self._row(fields_of(line))
        except (ValueError, RecursionError):
            return None

    def _row(self, fields: Mapping[str, Any]) -> bytes:
        cells = [""] * len(self._wanted)
        nested: list[str] = []
        for place, value in self.values(fields).items():
            if type(value) is str:
                cells[place] = value
            elif self._wanted[place].is_id:
                cells[place] = _text(value)
                whole = _whole_number(value) if isinstance(value, Number) else None
                if whole is None:
                    nested += self._wanted[place].columns
                else:
                    cells[place] = whole
            elif isinstance(value, Number):
                # A point is no decimal mark in this dialect, but it is one in JSON.
                is_text = self._wanted[place].is_text
                cells[place] = value if is_text else value.replace(_DOT, self._dialect.decimal)
            elif isinstance(value, bool):
                word = self._dialect.true_word if value else self._dialect.false_word
                cells[place] = _text(value) if self._wanted[place].is_text else word
            else:
                cells[place] = _text(value)
                nested += self._wanted[place].columns
        cells.append(f",{','.join(nested)}," if nested else "")
        row = '"' + '","'.join([cell.replace('"', '""') if '"' in cell else cell for cell in cells]) + '"\n'
        if "\0" in row:
            raise _NoRecordError("a text holds NUL")
        return row.encode()

    def values(self, fields: Mapping[str, Any]) -> dict[int, Any]:
        """The values that are not null, by the place of their wanted field."""
        found: dict[int, tuple[int, Any]] = {}
        for name, value in fields.items():
            for place, rank in self._places_of(name):
                if value is None:
                    continue
                best = found.get(place)
                if best is not None and best[0] == rank:
                    raise _NoRecordError("two fields are the same column")
                if best is None or rank < best[0]:
                    found[place] = rank, value
        return {place: value for place, (_, value) in found.items()}

    def _places_of(self, name: str) -> tuple[tuple[int, int], ...]:
        """The wanted fields that a field of this name may be, each with a rank; the lowest is the best."""
        places = self._places.get(name)
        if places is None:
            # No name of half a character, which no report can hold.
            name.encode()
            if len(self._places) >= _NAMES_KEPT:
                self._places.clear()
            ranks = ((place, _rank(name, one.headers)) for place, one in enumerate(self._wanted))
            places = self._places[name] = tuple((place, rank) for place, rank in ranks if rank is not None)
        return places


def _rank(name: str, headers: Sequence[str]) -> int | None:
    """How well a field's name fits: an earlier header before a later one, the very name before its plain form."""
    written, plain = name.strip().lower(), plain_name(name)
    for number, header in enumerate(headers):
        if written == header.strip().lower():
            return 2 * number
        if plain and plain == plain_name(header):
            return 2 * number + 1
    return None


def fields_of(line: bytes) -> dict[str, Any]:
    """The fields of the object on a line, those of objects in it too; ValueError when it is no sound object."""
    record = _DECODER.decode(line.decode())
    if not isinstance(record, dict):
        raise _NoRecordError("no object")
    if dict not in map(type, record.values()):
        return record
    # A name with a dot and the path of another field may be the same.
    return _once(list(_flat(record, "")))


def _flat(record: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        yield prefix + name, value
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}{_DOT}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NoRecordError("a field twice")
    return found


def _no_constant(name: str) -> None:
    raise _NoRecordError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_float=Number, parse_int=Number, parse_constant=_no_constant)


def _text(value: Any) -> str:
    """A value as JSON, with numbers as they were written."""
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        return "{" + ",".join(f"{_text(name)}:{_text(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_text, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _whole_number(value: Number) -> str | None:
    """A whole number without point and exponent; None for another one, and for one that a float may have rounded."""
    if _WHOLE.fullmatch(value):
        return value
    number = Decimal(value)
    # Of a huge exponent, the number itself would fill the memory.
    is_exact = number.adjusted() < _DIGITS_OF_INEXACT and abs(number) < _FIRST_INEXACT
    return f"{number:.0f}" if is_exact and number == number.to_integral_value() else None


@dataclass(frozen=True)
class Sample:
    """The first records of a file. `names` are the fields that they have, `others` those that are not wanted.

    `places` are the wanted fields that a record had. `first_line` is that of the first record; 0 without any.
    """

    record_count: int
    is_whole: bool
    places: frozenset[int]
    names: tuple[str, ...]
    others: tuple[str, ...]
    first_line: int
    first_text: str


def look_at(stream: IO[bytes], wanted: Sequence[Wanted], dialect: Dialect, first_line: int) -> Sample:
    """Look at the first records of a file; damaged ones say nothing of its fields."""
    rows = Rows(wanted, dialect)
    sound = damaged = line = 0
    text, is_whole = "", True
    for number, block in enumerate(scan(stream, rows, first_line), 1):
        filled = (~block.blank).nonzero()[0]
        if not line and len(filled):
            first = int(filled[0])
            line, text = int(block.lines[first]), block.raw(first)[:_CHARS_SHOWN].decode("utf-8", "backslashreplace")
        damaged += int(block.damaged.sum())
        sound += len(filled) - int(block.damaged.sum())
        if sound + damaged >= _RECORDS_LOOKED_AT or number >= _BLOCKS_LOOKED_AT:
            is_whole = False
            break
    fields = rows.fields
    read = {name for name, places in fields.items() if places}
    # Of an object that is read in part, the rest goes without saying.
    others = (
        name
        for name in fields
        if name not in read
        and name.rpartition(_DOT)[0] not in fields
        and not any(one.startswith(name + _DOT) for one in read)
    )
    places = frozenset(place for ranked in fields.values() for place, _ in ranked)
    return Sample(sound, is_whole, places, tuple(fields), tuple(others), line, text)


def fields_with_values(stream: IO[bytes]) -> tuple[str, ...]:
    """The fields of the first records, without those that hold a list or an object in one of them."""
    names: dict[str, bool] = {}
    for number, block in enumerate(scan(stream, Rows((), Dialect())), 1):
        for place in (~(block.blank | block.damaged)).nonzero()[0].tolist():
            for name, value in fields_of(block.data[block.starts[place] : block.ends[place]]).items():
                names[name] = names.get(name, False) or isinstance(value, list | dict)
        if number >= _BLOCKS_LOOKED_AT:
            break
    return tuple(name for name, is_nested in names.items() if not is_nested)


def scan(stream: IO[bytes], rows: Rows, first_line: int = 1, out: IO[bytes] | None = None) -> "Iterator[Block]":
    """Yield every line of the stream as a record, blank ones too; write the rows of the sound ones to `out`."""
    from etl_assets.engine.reading.records import CHUNK_BYTES, MAX_RECORD_BYTES, overlong, skip_line

    carry, line, at_start = b"", first_line, True
    while True:
        chunk = stream.read(CHUNK_BYTES)
        data = carry + chunk
        if at_start and len(data) < len(_BOM) and chunk:
            carry = data
            continue
        if at_start:
            data, at_start = data.removeprefix(_BOM), False
        stop = data.rfind(b"\n") + 1 if chunk else len(data)
        carry = data[stop:]
        if stop:
            block = _block(data[:stop], line, rows, out)
            yield block
            line += len(block.starts)
        if not chunk:
            return
        # One byte more than a record may have can still be the CR before its end.
        if len(carry) > MAX_RECORD_BYTES + 1:
            yield overlong(carry, line)
            carry, line = skip_line(stream, CHUNK_BYTES), line + 1


def _block(data: bytes, first_line: int, rows: Rows, out: IO[bytes] | None) -> "Block":
    import numpy as np

    from etl_assets.engine.reading.records import MAX_RECORD_BYTES, Block

    lines = data.split(b"\n")
    if not lines[-1]:
        del lines[-1]
    starts, ends, damaged, written, start = [], [], [], [], 0
    for line in lines:
        is_blank, size = rows.is_blank(line), len(line) - line.endswith(b"\r")
        row = None if is_blank or size > MAX_RECORD_BYTES else rows.row(line)
        starts.append(start)
        ends.append(start if is_blank else start + size)
        damaged.append(row is None and not is_blank)
        if row is not None:
            written.append(row)
        start += len(line) + 1
    if out is not None:
        out.write(b"".join(written))
    first = np.arange(first_line, first_line + len(lines))
    arrays = np.array(starts, np.int64), np.array(ends, np.int64), first, np.array(damaged, np.bool_)
    return Block(data, *arrays, uniform_lf=False, uniform_crlf=False)
