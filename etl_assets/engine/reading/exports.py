"""The export files of a source: finding them, opening them, reading their headers.

A source is one file (`<source>.csv`, `.csv.gz`, `.parquet`), a folder of them (`<source>/*`), or what the contract's
patterns name, read in the natural order of names. Every file is read through `Export`, which opens the file whose stats
were taken, and no other.
"""

import contextlib
import csv
import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, cast

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files.regular import NotRegularError, require_regular
from etl_assets.engine.reading import verified
from etl_assets.engine.reading.decoding import text_of
from etl_assets.engine.reading.headers import find_columns
from etl_assets.engine.reading.marks import marks_of
from etl_assets.engine.reading.patterns import matching_files, names_in, natural_order
from etl_assets.engine.reading.verified import FileStat, not_a_file, stat_files
from etl_assets.engine.sql_text import pattern_literal
from etl_assets.engine.stopping import Stop
from etl_assets.errors import Action, Advice, InputError, shown
from etl_assets.project.contract import Source
from etl_assets.project.dialect import Dialect

SUFFIXES = (".csv", ".csv.gz", ".parquet")
# DuckDB's name for the number of a row; a file that has such a column cannot be read with it.
_ROW_NUMBER = "file_row_number"
_EXPORT_AGAIN = Advice(Action.EXPORT_AGAIN)
_PLAIN = Dialect()
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_REASON = 150


@dataclass(frozen=True)
class Export:
    """One file of a source, identified by the stats that were taken first. `stop` interrupts the reading of it.

    `columns` are its header's names as written. `found` maps the contract's names to them, `key_columns` are those
    that make up the key.
    """

    root: Path
    stat: FileStat
    columns: tuple[str, ...] = ()
    found: dict[str, str] = field(default_factory=dict)
    key_columns: tuple[str, ...] = ()
    dialect: Dialect = _PLAIN
    stop: Stop = field(default_factory=Stop, compare=False, repr=False)

    @property
    def name(self) -> str:
        """Its path in the folder of the exports."""
        return self.stat.name

    @property
    def shown(self) -> str:
        """Its name for messages."""
        return shown(self.name)

    @property
    def is_parquet(self) -> bool:
        """Whether this file has a schema of its own."""
        return self.name.endswith(".parquet")

    @property
    def is_packed(self) -> bool:
        """Whether this file is gzip."""
        return self.name.endswith(".gz")

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Columns the contract does not know; they are ignored."""
        known = {*self.found.values(), *self.key_columns}
        return tuple(column for column in self.columns if column not in known)

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

    @contextlib.contextmanager
    def open(self, limit_bytes: int | None = None) -> Iterator[IO[bytes]]:
        """The text of a CSV file as UTF-8 bytes: unpacked, decoded, from its header to its last record.

        InputError when there are more than `limit_bytes` in a packed file.
        """
        with contextlib.ExitStack() as stack:
            stream: IO[bytes] = stack.enter_context(verified.open_verified(self.root, self.stat))
            if self.is_packed:
                stream = cast("IO[bytes]", stack.enter_context(gzip.GzipFile(fileobj=stream)))
            text = cast("IO[bytes]", _Text(self, stream, limit_bytes if self.is_packed else None))
            yield text_of(text, self.dialect)

    def held(self) -> contextlib.AbstractContextManager[Path]:
        """A path at which DuckDB reads this very file, within the block."""
        return verified.held(self.root, self.stat)

    @contextlib.contextmanager
    def reader(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own that reads exports: a damaged file may cost the connection that reads it."""
        with duck.reader(self.root) as connection, self.stop.watching(connection):
            yield connection


class _Text:
    """A file's text. Reading it can be stopped; a packed one has a limit: a few MB can unpack to more than any disk."""

    def __init__(self, export: Export, stream: IO[bytes], limit_bytes: int | None) -> None:
        self._export, self._stream, self._limit_bytes = export, stream, limit_bytes
        self._read_bytes = 0

    def read(self, size: int) -> bytes:
        """The next bytes; InputError beyond the limit."""
        self._export.stop.check()
        chunk = self._stream.read(size)
        self._read_bytes += len(chunk)
        if self._limit_bytes is not None and self._read_bytes > self._limit_bytes:
            raise unpacks_to_more(self._export, self._limit_bytes)
        return chunk


def unpacks_to_more(export: Export, limit_bytes: int) -> InputError:
    """The error for a file whose text is longer than the limit."""
    limit_mb = limit_bytes >> 20
    return InputError(
        f"{export.shown} ({export.stat.size_bytes} bytes) unpacks to more than the {limit_mb} MB that are allowed.",
        Advice(Action.SET, "ETL_MAX_UNPACKED", f"{2 * limit_mb}MB"),
        subject=export.name,
    )


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
        return [path for path in matching_files(source, root) if _is_file(path, root)]
    candidates = [root / f"{source.name}{suffix}" for suffix in SUFFIXES]
    found = [path for path in candidates if _is_file(path, root)]
    folder = root / source.name
    if folder.is_dir():
        found += [folder]
    if not found:
        raise InputError(
            f"No export of source '{source.name}' in {root}: expected {source.name}.csv, {source.name}.csv.gz, "
            f"{source.name}.parquet or a folder {source.name}/, found {names_in(root)}.",
            Advice(Action.SET, "ETL_SOURCES"),
            subject=source.name,
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(
            f"Source '{source.name}' has more than one export in {root}: {names}. Keep one of them.",
            subject=source.name,
        )
    return _files_in(folder, source, root) if found == [folder] else found


def _require_text(path: Path) -> None:
    """Quarantine names files, and neither DuckDB nor JSON can hold a name that is not text."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The name of {os.fsencode(path)!r} is not UTF-8 text. Rename the file.") from error


def _files_in(folder: Path, source: Source, root: Path) -> list[Path]:
    files = [path for path in natural_order(filter(_is_export, folder.iterdir())) if _is_file(path, root)]
    if not files:
        raise InputError(
            f"The folder {folder} of source '{source.name}' holds no .csv, .csv.gz or .parquet file.",
            subject=source.name,
        )
    return files


def _is_export(path: Path) -> bool:
    # Hidden files belong to other programs: unfinished copies, macOS's ._name.csv.
    return path.name.endswith(SUFFIXES) and not path.name.startswith(".")


def _is_file(path: Path, root: Path) -> bool:
    """Whether there is a file; InputError for something else of that name: it may be meant to be read."""
    _require_text(path)
    try:
        require_regular(path, os.stat(path))
    except NotRegularError as error:
        raise not_a_file(path, root, error.kind) from error
    except PermissionError:
        raise
    except OSError as error:
        if path.is_symlink():
            raise not_a_file(path, root, "a link that leads nowhere") from error
        return False
    return True


def open_exports(
    source: Source, root: Path, stats: Sequence[FileStat] | None = None, stop: Stop | None = None
) -> list[Export]:
    """Read the headers of a source's files; InputError when one breaks the contract as a whole.

    `stats` are those of the files, if they were taken already.
    """
    if stats is None:
        stats = stat_files(find_files(source, root), root)
    return [open_export(source, root, stat, stop) for stat in stats]


def open_export(source: Source, root: Path, stat: FileStat, stop: Stop | None = None) -> Export:
    """Read the header of one file; InputError when it breaks the contract as a whole."""
    export = Export(root, stat, dialect=source.csv, stop=stop or Stop())
    name = export.shown
    if export.stat.size_bytes == 0:
        raise InputError(
            f"{name} of source '{source.name}' is empty (0 bytes): expected a header and rows.",
            _EXPORT_AGAIN,
            subject=source.name,
        )
    columns = _parquet_columns(export) if export.is_parquet else _csv_columns(export)
    found, key_columns = find_columns(source, columns, name)
    return replace(export, columns=tuple(columns), found=found, key_columns=key_columns)


def _csv_columns(export: Export) -> list[str]:
    # Here: `status` and an unchanged `run` read no records, and numpy takes 0.1 s to import.
    from etl_assets.engine.reading.records import scan

    name, dialect = export.shown, export.dialect
    try:
        with export.open() as stream:
            start = stream.read(2)
        if start in _UTF16_MARKS:
            raise InputError(f"{name} is UTF-16 text; expected UTF-8. Convert it: iconv -f UTF-16 -t UTF-8")
        with export.open() as stream:
            block = next(scan(stream, marks=marks_of(dialect)), None)
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


def _parquet_columns(export: Export) -> list[str]:
    with export.held() as path, export.reader() as connection:
        try:
            rows = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({pattern_literal(path)})").fetchall()
        except duckdb.Error as error:
            export.stop.check()
            finding = f"{export.shown} is not a readable Parquet file ({reason(error, export, path)})."
            raise InputError(finding, _EXPORT_AGAIN, subject=export.name) from error
    columns = [row[0] for row in rows]
    if _ROW_NUMBER in map(str.lower, columns):
        raise InputError(
            f"{export.shown} has a column {_ROW_NUMBER}, which DuckDB keeps for itself. Export it without."
        )
    return columns


def reason(error: duckdb.Error, export: Export, path: Path) -> str:
    """DuckDB's reason to refuse a file that it read at `path`, in few words: it may write pages on its own state."""
    if isinstance(error, duckdb.FatalException | duckdb.InternalException):
        return "its parts contradict each other"
    first_line = next(iter(str(error).strip().splitlines()), "")
    return shown(first_line.replace(str(path), export.name)[:_LONGEST_REASON])
