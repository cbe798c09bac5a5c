"""Where the records of a CSV file begin and end, and which of them are damaged.

DuckDB parses and types the values; this room answers what DuckDB does not: how many records a file has (counted
independently, so accounting is a check and not a tautology), on which physical line each begins, its raw text, and how
far damage reaches. An unterminated quote costs its own line, never its neighbours.

The scan is vectorised and reads a file once in bounded memory. Only lines that hold a quote, a NUL or a lone CR in a
chunk with irregular quoting are looked at one by one. `Marks` holds the bytes that separate and enclose cells. The text
is UTF-8 here, whatever the encoding of the file (see `decoding`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import numpy.typing as npt

from etl_assets.engine.reading.empty_records import empty_records
from etl_assets.engine.reading.marks import PLAIN, Marks

CHUNK_BYTES = 4 << 20
MAX_RECORD_BYTES = 1 << 20
# Quarantine keeps this much of a record that is too long.
MAX_RAW_BYTES = 64 << 10

_LF, _CR, _NUL = 10, 13, 0
_BOM = b"\xef\xbb\xbf"


Offsets = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records of one file; all arrays have one entry a record.

    `starts` and `ends` are byte offsets into `data` (terminator left out), `lines` the 1-based physical line of the
    file on which each record starts. A damaged record is one whose structure no reader could trust. Rows of empty cells
    are given as blank lines, and counted.
    """

    data: bytes
    starts: Offsets
    ends: Offsets
    lines: Offsets
    damaged: Mask
    uniform_lf: bool
    uniform_crlf: bool
    empty_row_count: int = 0

    @property
    def blank(self) -> Mask:
        """Which records are empty lines."""
        return np.equal(self.starts, self.ends)

    def raw(self, index: int) -> bytes:
        """The bytes of one record without its terminator, at most MAX_RAW_BYTES of them."""
        start = int(self.starts[index])
        return self.data[start : min(int(self.ends[index]), start + MAX_RAW_BYTES)]

    def is_whole(self, index: int) -> bool:
        """Whether `raw` gives all of a record; of one that was too long to be held, it never does."""
        return int(self.ends[index]) - int(self.starts[index]) < MAX_RAW_BYTES


@dataclass(frozen=True, slots=True)
class _Split:
    starts: Offsets
    stops: Offsets  # one past the terminator
    line_index: Offsets
    damaged: Mask
    line_count: int


def scan(
    stream: IO[bytes],
    chunk_bytes: int = CHUNK_BYTES,
    *,
    column_count: int | None = None,
    marks: Marks = PLAIN,
    first_line: int = 1,
) -> Iterator[Block]:
    """Yield every record of the stream, header and blank lines included, in file order.

    A comment is given as a blank line. `first_line` is the number of the stream's first line in the file.

    With `column_count`, rows of empty cells are blank lines. A record with empty cells beyond that many is damaged:
    DuckDB drops them without a word, and the usual cause is an unquoted comma in a value, which shifted every cell
    behind it.
    """
    carry, at_start = b"", True
    while True:
        chunk = stream.read(chunk_bytes)
        at_end = not chunk
        data = carry + chunk if carry else chunk
        if at_start:
            if len(data) < len(_BOM) and not at_end:
                carry = data
                continue
            data, at_start = data.removeprefix(_BOM), False
        if not data and at_end:
            return
        split = _split(data, marks, at_end=at_end)
        if split is None and not at_end:
            # One byte more than a record may have can still be the CR of its terminator.
            if len(data) > MAX_RECORD_BYTES + 1 and b"\n" not in data:
                yield overlong(data, first_line)
                carry, first_line = skip_line(stream, chunk_bytes), first_line + 1
            else:
                carry = data
            continue
        assert split is not None
        stop = int(split.stops[-1])
        yield _block(data, split, first_line, column_count, marks)
        first_line += split.line_count
        carry = data[stop:]
        if at_end:
            return


def _block(data: bytes, split: _Split, first_line: int, column_count: int | None, marks: Marks) -> Block:
    """Give a split its file coordinates and take the terminators off."""
    buffer = np.frombuffer(data, np.uint8)
    last = split.stops - 1
    has_lf = buffer[last] == _LF
    ends = np.where(has_lf, last, split.stops)
    has_crlf = has_lf & (ends > split.starts) & (buffer[np.maximum(ends - 1, 0)] == _CR)
    ends = np.where(has_crlf, ends - 1, ends)
    damaged = split.damaged | (ends - split.starts > MAX_RECORD_BYTES)
    if marks.comment:
        is_comment = _begins_with(buffer, split.starts, ends, marks.comment)
        ends, damaged = np.where(is_comment, split.starts, ends), damaged & ~is_comment
    empty_row_count = 0
    if column_count is not None:
        empty = empty_records(data, split.starts, ends, marks) & (ends - split.starts <= MAX_RECORD_BYTES)
        ends, damaged, empty_row_count = np.where(empty, split.starts, ends), damaged & ~empty, int(empty.sum())
        damaged[_with_surplus(data, split.starts, ends, column_count, marks)] = True
    return Block(
        data,
        split.starts,
        ends,
        first_line + split.line_index,
        damaged,
        uniform_lf=not has_crlf.any(),
        uniform_crlf=bool(has_crlf[has_lf].all()),
        empty_row_count=empty_row_count,
    )


def _begins_with(buffer: npt.NDArray[np.uint8], starts: Offsets, ends: Offsets, mark: bytes) -> Mask:
    """Which records begin with `mark`."""
    found: Mask = ends - starts >= len(mark)
    for place, byte in enumerate(mark):
        found &= buffer[np.minimum(starts + place, len(buffer) - 1)] == byte
    return found


def _with_surplus(data: bytes, starts: Offsets, ends: Offsets, column_count: int, marks: Marks) -> list[int]:
    """The records that end in an empty cell beyond `column_count`; only candidates are counted."""
    buffer = np.frombuffer(data, np.uint8)
    last = buffer[np.maximum(ends - 1, 0)]
    (candidates,) = np.nonzero((ends > starts) & ((last == marks.delimiter[0]) | (last == marks.quote[0])))
    found = []
    for index, start, end in zip(
        candidates.tolist(), starts[candidates].tolist(), ends[candidates].tolist(), strict=True
    ):
        if data.count(marks.delimiter, start, end) < column_count:
            continue
        record = data[start:end]
        # Delimiters inside quotes separate nothing: take the quoted fields out before counting.
        if marks.quote not in record or marks.quoted.sub(b"", record).count(marks.delimiter) >= column_count:
            found.append(index)
    return found


def _split(data: bytes, marks: Marks, *, at_end: bool) -> _Split | None:
    """Cut `data` into records up to the last complete one; None when not even one is complete."""
    buffer = np.frombuffer(data, np.uint8)
    newlines = np.flatnonzero(buffer == _LF)
    quoted = marks.quote in data
    regular = b"\0" not in data and (b"\r" not in data or _has_no_lone_cr(data, at_end))
    # A quote that is no quote: after a backslash, or in a comment.
    has_other = quoted and (
        (not marks.doubles_quotes and marks.escape in data) or (bool(marks.comment) and marks.comment in data)
    )
    if quoted or not regular:
        quotes = np.flatnonzero(buffer == marks.quote[0])
        record_newlines = newlines[np.searchsorted(quotes, newlines) % 2 == 0]
        if not regular or has_other or not _quoting_is_sound(buffer, quotes, record_newlines, marks, at_end=at_end):
            return _walk(data, newlines, marks, at_end=at_end)
    else:
        record_newlines = newlines
    stops = record_newlines + 1
    if at_end and (not len(stops) or stops[-1] < len(data)):
        stops = np.append(stops, len(data))
    if not len(stops):
        return None
    starts = np.concatenate(([0], stops[:-1]))
    line_index = np.searchsorted(newlines, starts) if quoted else np.arange(len(starts))
    line_count = int(np.searchsorted(newlines, stops[-1]))
    return _Split(starts, stops, line_index, np.zeros(len(starts), np.bool_), line_count)


def _has_no_lone_cr(data: bytes, at_end: bool) -> bool:
    return data.count(b"\r") == data.count(b"\r\n") + (data.endswith(b"\r") and not at_end)


def _quoting_is_sound(
    buffer: npt.NDArray[np.uint8], quotes: Offsets, record_newlines: Offsets, marks: Marks, *, at_end: bool
) -> bool:
    """Whether every quote up to the last complete record opens or closes a field, or is doubled inside one."""
    stop = len(buffer) if at_end else (int(record_newlines[-1]) + 1 if len(record_newlines) else 0)
    if stop == 0:
        # No record ends yet: an open quote. Wait for more, unless no record may be that long.
        return len(buffer) <= MAX_RECORD_BYTES
    quotes = quotes[: np.searchsorted(quotes, stop)]
    if len(quotes) % 2:
        return False
    opens, closes = quotes[0::2], quotes[1::2]
    before = buffer[np.maximum(opens - 1, 0)]
    after = buffer[np.minimum(closes + 1, len(buffer) - 1)]
    doubled = np.zeros(len(opens) + 1, np.bool_)
    doubled[1:-1] = opens[1:] == closes[:-1] + 1
    delimiter = marks.delimiter[0]
    opens_field = (opens == 0) | (before == delimiter) | (before == _LF) | doubled[:-1]
    closes_field = (closes + 1 == len(buffer)) | (after == delimiter) | (after == _LF) | (after == _CR) | doubled[1:]
    # An open tail or a record longer than one may be is damage too; the line-wise walk finds where it starts.
    tail_is_short = len(buffer) - stop <= MAX_RECORD_BYTES
    records_are_short = not (np.diff(record_newlines, prepend=-1) > MAX_RECORD_BYTES).any()
    return bool(opens_field.all() and closes_field.all() and tail_is_short and records_are_short)


def _walk(data: bytes, newlines: Offsets, marks: Marks, *, at_end: bool) -> _Split | None:
    """Cut irregular data line by line: a line that cannot start a sound record is damaged, and only that line."""
    buffer = np.frombuffer(data, np.uint8)
    stops = newlines + 1
    if at_end and (not len(stops) or stops[-1] < len(data)):
        stops = np.append(stops, len(data))
    if not len(stops):
        return None
    starts = np.concatenate(([0], stops[:-1]))
    kept = np.ones(len(starts), np.bool_)
    damaged = np.zeros(len(starts), np.bool_)
    record_stops = stops.copy()
    next_line, line_limit = 0, len(starts)
    for line in _suspicious_lines(buffer, newlines, len(starts), marks):
        if line < next_line or (marks.comment and data.startswith(marks.comment, int(starts[line]))):
            continue
        stop = _record_stop(data, int(starts[line]), marks, at_end=at_end)
        if stop is None:
            line_limit = line
            break
        if stop < 0:
            damaged[line] = True
            continue
        next_line = int(np.searchsorted(stops, stop)) + 1
        kept[line + 1 : next_line] = False
        record_stops[line] = stop
    kept[line_limit:] = False
    if not kept.any():
        return None
    (line_index,) = np.nonzero(kept)
    return _Split(starts[kept], record_stops[kept], line_index, damaged[kept], line_limit)


def _suspicious_lines(buffer: npt.NDArray[np.uint8], newlines: Offsets, line_count: int, marks: Marks) -> list[int]:
    """The lines that hold a quote, a NUL or a CR, ascending."""
    places = np.flatnonzero((buffer == marks.quote[0]) | (buffer == _NUL) | (buffer == _CR))
    lines = np.unique(np.searchsorted(newlines, places))
    return [int(line) for line in lines if line < line_count]


def _record_stop(data: bytes, start: int, marks: Marks, *, at_end: bool) -> int | None:
    """One past the record that starts here; -1 when it is damaged; None when more data is needed to tell."""
    match = marks.record.match(data, start, start + MAX_RECORD_BYTES + 2)
    assert match is not None, "the pattern matches the empty record"
    stop = match.end()
    if match.group(1) or (stop == len(data) and at_end):
        return stop if stop - len(match.group(1) or b"") - start <= MAX_RECORD_BYTES else -1
    ends_in_cr = stop + 1 == len(data) and data.endswith(b"\r")
    undecided = stop == len(data) or ends_in_cr or marks.open_field.match(data, stop) is not None
    if undecided and not at_end and len(data) - start <= MAX_RECORD_BYTES + 1:
        return None
    return -1


def overlong(data: bytes, line: int) -> Block:
    """A block of one damaged record: a line longer than any record may be, cut to what quarantine keeps."""
    kept = data[:MAX_RAW_BYTES]
    return Block(
        kept,
        np.array([0]),
        np.array([len(kept)]),
        np.array([line]),
        np.array([True]),
        uniform_lf=False,
        uniform_crlf=False,
    )


def skip_line(stream: IO[bytes], chunk_bytes: int) -> bytes:
    """Drop the rest of the current line without holding it; return what was read beyond it."""
    while chunk := stream.read(chunk_bytes):
        cut = chunk.find(b"\n")
        if cut >= 0:
            return chunk[cut + 1 :]
    return b""
