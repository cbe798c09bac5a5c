"""The export files of a source: finding them, reading their headers, hashing and surveying their bytes.

A source is one file (`<source>.csv`, `.csv.gz`, `.parquet`), a folder of them (`<source>/*`), or what the contract's
patterns name, read in the natural order of names. DuckDB reads a file directly if its structure is regular. If a file
has damaged records, mixed line ends or blank lines, or is not UTF-8, DuckDB reads a scratch copy of the sound records:
it would refuse some of these files whole, and an unterminated quote would swallow the rows after it.
"""

import csv
import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import duckdb
import xxhash

from etl_assets.engine import duck
from etl_assets.engine.reading.decoding import text_of
from etl_assets.engine.reading.headers import find_columns
from etl_assets.engine.reading.marks import marks_of
from etl_assets.engine.reading.patterns import matching_files, natural_order
from etl_assets.engine.sql_text import pattern_literal
from etl_assets.errors import Action, Advice, InputError
from etl_assets.project.contract import Source
from etl_assets.project.dialect import Dialect

if TYPE_CHECKING:
    from etl_assets.engine.reading.records import Block

SUFFIXES = (".csv", ".csv.gz", ".parquet")
# DuckDB's name for the number of a row; a file that has such a column cannot be read with it.
_ROW_NUMBER = "file_row_number"
_EXPORT_AGAIN = Advice(Action.EXPORT_AGAIN)
_PLAIN = Dialect()
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Export:
    """One file of a source.

    `columns` are its header's names as written. `found` maps the contract's names to them, `key_columns` are those
    that make up the key.
    """

    path: Path
    name: str
    columns: tuple[str, ...]
    found: dict[str, str]
    key_columns: tuple[str, ...] = ()
    dialect: Dialect = _PLAIN

    @property
    def is_parquet(self) -> bool:
        """Whether this file has a schema of its own."""
        return self.name.endswith(".parquet")

    @property
    def is_read_directly(self) -> bool:
        """Whether DuckDB can read the text as it lies in the file, if its records are regular."""
        return self.dialect.encoding == _PLAIN.encoding and not (
            self.dialect.skip_lines or self.dialect.footer_lines or self.dialect.comment or self.dialect.surplus_cell
        )

    @property
    def cell_count(self) -> int:
        """Cells of a record: the header's, and the surplus one of the dialect."""
        return len(self.columns) + self.dialect.surplus_cell

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns the contract does not know; they are ignored."""
        known = {*self.found.values(), *self.key_columns}
        return tuple(column for column in self.columns if column not in known)

    def open(self) -> IO[bytes]:
        """The text of a CSV file as UTF-8 bytes: unpacked, decoded, from its header to its last record."""
        if self.name.endswith(".gz"):
            return text_of(cast("IO[bytes]", gzip.open(self.path, "rb")), self.dialect)
        return text_of(self.path.open("rb"), self.dialect)


@dataclass(frozen=True)
class Survey:
    """Counts of a CSV file: data records (not blank), damaged ones, and whether DuckDB can read the file directly."""

    record_count: int
    damaged_count: int
    is_regular: bool


def find_files(source: Source, root: Path) -> list[Path]:
    """The files of a source in natural order of their names; InputError says what was expected and what was found."""
    if not root.is_dir():
        raise InputError(
            f"The folder of the exports, {root}, does not exist.",
            Advice(Action.SET, "ETL_SOURCES"),
            Advice(Action.GENERATE, value=str(root)),
            subject=str(root),
        )
    if source.files:
        files = matching_files(source, root)
        for path in files:
            _require_text(path)
        return files
    candidates = [root / f"{source.name}{suffix}" for suffix in SUFFIXES]
    found = [path for path in candidates if path.is_file()]
    folder = root / source.name
    if folder.is_dir():
        found += [folder]
    if not found:
        names = ", ".join(sorted(path.name for path in root.iterdir())[:20]) or "nothing"
        raise InputError(
            f"No export of source '{source.name}' in {root}: expected {source.name}.csv, {source.name}.csv.gz, "
            f"{source.name}.parquet or a folder {source.name}/, found {names}.",
            Advice(Action.SET, "ETL_SOURCES"),
            subject=source.name,
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(
            f"Source '{source.name}' has more than one export in {root}: {names}. Keep one of them.",
            subject=source.name,
        )
    files = _files_in(folder, source) if found == [folder] else found
    for path in files:
        _require_text(path)
    return files


def _require_text(path: Path) -> None:
    """Quarantine names files, and neither DuckDB nor JSON can hold a name that is not text."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The name of {os.fsencode(path)!r} is not UTF-8 text. Rename the file.") from error


def _files_in(folder: Path, source: Source) -> list[Path]:
    files = natural_order(path for path in folder.iterdir() if _is_export(path))
    if not files:
        raise InputError(
            f"The folder {folder} of source '{source.name}' holds no .csv, .csv.gz or .parquet file.",
            subject=source.name,
        )
    return files


def _is_export(path: Path) -> bool:
    # Hidden files belong to other programs: unfinished copies, macOS's ._name.csv.
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".") and path.is_file()


def open_exports(source: Source, root: Path) -> list[Export]:
    """Find the files of a source and read their headers; InputError when one breaks the contract as a whole."""
    return [open_export(source, path, root) for path in find_files(source, root)]


def open_export(source: Source, path: Path, root: Path) -> Export:
    """Read the header of one file; InputError when it breaks the contract as a whole."""
    name = path.relative_to(root).as_posix()
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{name} of source '{source.name}' is a link that leads out of {root}. Copy the file instead.")
    if path.stat().st_size == 0:
        raise InputError(
            f"{name} of source '{source.name}' is empty (0 bytes): expected a header and rows.",
            _EXPORT_AGAIN,
            subject=source.name,
        )
    columns = _parquet_columns(path, name) if name.endswith(".parquet") else _csv_columns(path, name, source.csv)
    found, key_columns = find_columns(source, columns, name)
    return Export(path, name, tuple(columns), found, key_columns, source.csv)


def _csv_columns(path: Path, name: str, dialect: Dialect) -> list[str]:
    export = Export(path, name, (), {}, (), dialect)
    try:
        with export.open() as stream:
            start = stream.read(2)
        if start in _UTF16_MARKS:
            raise InputError(f"{name} is UTF-16 text; expected UTF-8. Convert it: iconv -f UTF-16 -t UTF-8")
        with export.open() as stream:
            block = next(_scan(export, stream), None)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{name} is not a readable gzip file ({error}).", _EXPORT_AGAIN) from error
    if block is None or block.blank[0]:
        raise InputError(f"{name} starts with an empty line; expected a header with column names on line 1.")
    try:
        header = block.raw(0).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"The header of {name} is not UTF-8 text ({error}). Export it as UTF-8.") from error
    if block.damaged[0]:
        raise InputError(f"The header of {name} is not a sound CSV line: {header[:200]!r}.")
    escape = None if dialect.escape == dialect.quote else dialect.escape
    lines = csv.reader(
        [header],
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        escapechar=escape,
        doublequote=escape is None,
    )
    return next(lines)


def _parquet_columns(path: Path, name: str) -> list[str]:
    with duck.reader(path.parent) as connection:
        try:
            rows = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({pattern_literal(path)})").fetchall()
        except duckdb.Error as error:
            finding = str(error).splitlines()[0]
            raise InputError(f"{name} is not a readable Parquet file ({finding}).", _EXPORT_AGAIN) from error
    columns = [row[0] for row in rows]
    if _ROW_NUMBER in map(str.lower, columns):
        raise InputError(f"{name} has a column {_ROW_NUMBER}, which DuckDB keeps for itself. Export it without.")
    return columns


def parquet_row_count(export: Export) -> int:
    """Rows of a Parquet file by its own footer."""
    with duck.reader(export.path.parent) as connection:
        row = connection.execute(
            f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({pattern_literal(export.path)})"
        ).fetchone()
    assert row is not None
    return int(row[0])


@dataclass(frozen=True)
class FileStat:
    """The stats of a file; while none of them changes, the bytes count as the same.

    A user cannot set the change time, so a restored modification time does not hide a change.
    """

    name: str
    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int


def stat_files(paths: list[Path], root: Path) -> list[FileStat]:
    """The stats of a source's files, in order."""
    stats = [(path, os.stat(path)) for path in paths]
    return [
        FileStat(path.relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        for path, stat in stats
    ]


def hash_files(paths: list[Path]) -> str:
    """xxh3_128 over the files' hashes in order, 32 hex digits: the data version of a source."""
    total = xxhash.xxh3_128()
    for path in paths:
        digest = xxhash.xxh3_128()
        with path.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
        total.update(digest.digest())
    return total.hexdigest()


class _Bounded:
    """A packed file's text, up to a limit: a few MB can unpack to more than any disk holds."""

    def __init__(self, export: Export, stream: IO[bytes], limit_bytes: int) -> None:
        self._export, self._stream, self._limit_bytes = export, stream, limit_bytes
        self._left = limit_bytes

    def read(self, size: int) -> bytes:
        """The next bytes; InputError beyond the limit."""
        chunk = self._stream.read(size)
        self._left -= len(chunk)
        if self._left < 0:
            raise InputError(
                f"{self._export.name} ({self._export.path.stat().st_size} bytes) unpacks to more than the "
                f"{self._limit_bytes >> 20} MB that are allowed.",
                Advice(Action.SET, "ETL_MAX_UNPACKED", f"{2 * (self._limit_bytes >> 20)}MB"),
                subject=self._export.name,
            )
        return chunk


def _bounded(export: Export, stream: IO[bytes], limit_bytes: int | None) -> IO[bytes]:
    is_packed = limit_bytes is not None and export.name.endswith(".gz")
    return cast("IO[bytes]", _Bounded(export, stream, limit_bytes or 0)) if is_packed else stream


def survey(export: Export, limit_bytes: int | None = None) -> Survey:
    """Count a CSV file's records and judge its structure; the header is no record, a trailing blank line no flaw.

    InputError when a packed file unpacks to more than `limit_bytes`.
    """
    record_count = damaged_count = 0
    uniform_lf = uniform_crlf = True
    blanks = False
    for block in data_blocks(export, limit_bytes):
        blank = block.blank
        # A blank record followed by any other record: DuckDB's own numbering of records would count it.
        blanks = blanks or bool(blank.any())
        record_count += len(blank) - int(blank.sum())
        damaged_count += int(block.damaged.sum())
        uniform_lf = uniform_lf and block.uniform_lf
        uniform_crlf = uniform_crlf and block.uniform_crlf
    is_regular = damaged_count == 0 and not blanks and (uniform_lf or uniform_crlf)
    return Survey(record_count, damaged_count, is_regular and export.is_read_directly)


def write_sound_records(export: Export, target: Path, limit_bytes: int | None = None) -> None:
    """Write the sound records of a CSV file, header first, each ended by LF, without damaged and blank ones."""
    with export.open() as stream, target.open("wb") as out:
        for block in _scan(export, _bounded(export, stream, limit_bytes)):
            sound = ~(block.damaged | block.blank)
            if block.uniform_lf and sound.all():
                out.write(block.data[: int(block.ends[-1])] + b"\n")
                continue
            spans = zip(block.starts[sound].tolist(), block.ends[sound].tolist(), strict=True)
            lines = [block.data[start:end] for start, end in spans]
            if lines:
                out.write(b"\n".join(lines) + b"\n")


def data_blocks(export: Export, limit_bytes: int | None = None) -> "Iterator[Block]":
    """Every data record of a CSV file, blank and damaged ones too, by block; line-end flags include the header."""
    from etl_assets.engine.reading.records import Block

    with export.open() as stream:
        bounded = _bounded(export, stream, limit_bytes)
        for number, block in enumerate(_scan(export, bounded)):
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
                )


def _scan(export: Export, stream: IO[bytes]) -> "Iterator[Block]":
    """The records of a CSV file. Imported here: `status` and an unchanged `run` read none, and numpy takes 0.1 s."""
    from etl_assets.engine.reading.records import scan

    return scan(
        stream,
        column_count=export.cell_count if export.columns else None,
        marks=marks_of(export.dialect),
        first_line=1 + export.dialect.skip_lines,
    )
