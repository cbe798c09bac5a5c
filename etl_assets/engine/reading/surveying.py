"""The records of a CSV file: counted, judged, and copied without those that DuckDB cannot have.

DuckDB reads a file directly if its structure is regular. If a file has damaged records, mixed line ends or blank lines,
or is not UTF-8, DuckDB reads a scratch copy of the sound records: it would refuse some of these files whole, and an
unterminated quote would swallow the rows after it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from etl_assets.engine.reading import objects
from etl_assets.engine.reading.exports import Export
from etl_assets.engine.reading.marks import marks_of

if TYPE_CHECKING:
    from etl_assets.engine.reading.records import Block


@dataclass(frozen=True)
class Survey:
    """Counts of a CSV file: data records (not blank), damaged ones, and whether DuckDB can read the file directly.

    `is_unended` says that the last line has no line break.
    """

    record_count: int
    damaged_count: int
    is_regular: bool
    is_unended: bool = False
    empty_row_count: int = 0


def survey(export: Export, limit_bytes: int | None = None) -> Survey:
    """Count a CSV file's records and judge its structure; the header is no record, a trailing blank line no flaw.

    InputError when a packed file unpacks to more than `limit_bytes`.
    """
    record_count = damaged_count = empty_row_count = 0
    uniform_lf = uniform_crlf = True
    blanks, last_byte = False, b"\n"
    for block in data_blocks(export, limit_bytes):
        blank = block.blank
        # A blank record followed by any other record: DuckDB's own numbering of records would count it.
        blanks = blanks or bool(blank.any())
        record_count += len(blank) - int(blank.sum())
        damaged_count += int(block.damaged.sum())
        empty_row_count += block.empty_row_count
        uniform_lf = uniform_lf and block.uniform_lf
        uniform_crlf = uniform_crlf and block.uniform_crlf
        last_byte = block.data[-1:]
    is_unended = last_byte not in (b"\n", b"\r") and not export.is_sheet
    is_regular = damaged_count == 0 and not blanks and (uniform_lf or uniform_crlf)
    return Survey(record_count, damaged_count, is_regular and export.is_read_directly, is_unended, empty_row_count)


def write_sound_records(export: Export, target: Path, limit_bytes: int | None = None) -> None:
    """Write the sound records of a CSV file, header first, each ended by LF, without damaged and blank ones."""
    with export.open(limit_bytes) as stream, target.open("wb") as out:
        for block in _scan(export, stream):
            sound = ~(block.damaged | block.blank)
            if block.uniform_lf and sound.all():
                out.write(block.data[: int(block.ends[-1])] + b"\n")
                continue
            spans = zip(block.starts[sound].tolist(), block.ends[sound].tolist(), strict=True)
            lines = [block.data[start:end] for start, end in spans]
            if lines:
                out.write(b"\n".join(lines) + b"\n")


def write_objects(export: Export, target: Path, limit_bytes: int | None = None) -> int:
    """Write the sound records of a file of objects as CSV, header first; returns how many records there are in all."""
    record_count = 0
    with export.open(limit_bytes) as stream, target.open("wb") as out:
        out.write(b",".join(b"c%d" % place for place in range(export.cell_count)) + b"\n")
        for block in _scan_objects(export, stream, out):
            record_count += len(block.starts) - int(block.blank.sum())
    return record_count


def data_blocks(export: Export, limit_bytes: int | None = None) -> "Iterator[Block]":
    """Every data record of a CSV file, blank and damaged ones too, by block; line-end flags include the header."""
    from etl_assets.engine.reading.records import Block

    with export.open(limit_bytes) as stream:
        if export.is_objects:
            yield from _scan_objects(export, stream)
            return
        for number, block in enumerate(_scan(export, stream)):
            if number:
                yield block
            else:
                yield Block(
                    block.data,
                    block.starts[1:],
                    block.ends[1:],
                    block.lines[1:],
                    block.damaged[1:],
                    block.uniform_lf,
                    block.uniform_crlf,
                    block.empty_row_count,
                )


def _scan_objects(export: Export, stream: IO[bytes], out: IO[bytes] | None = None) -> "Iterator[Block]":
    rows = objects.Rows(export.wanted, export.dialect)
    return objects.scan(stream, rows, 1 + export.dialect.skip_lines, out)


def _scan(export: Export, stream: IO[bytes]) -> "Iterator[Block]":
    """The records of a CSV file. Imported here: `status` and an unchanged `run` read none, and numpy takes 0.1 s."""
    from etl_assets.engine.reading.records import scan

    first_line = 1 + export.dialect.skip_lines
    blocks = scan(stream, column_count=export.cell_count, marks=marks_of(export.dialect), first_line=first_line)
    return _by_rows(blocks, 1 + export.sheet.skip_lines) if export.is_sheet else blocks


def _by_rows(blocks: "Iterator[Block]", first_row: int) -> "Iterator[Block]":
    """The records of a sheet: a record is a row, whatever line breaks are in it, and has its number."""
    import numpy as np

    for block in blocks:
        yield replace(block, lines=np.arange(first_row, first_row + len(block.starts)))
        first_row += len(block.starts)
