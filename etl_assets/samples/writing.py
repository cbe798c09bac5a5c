"""Write the sample: one file for each source, as CSV, gzipped CSV or Parquet, in chunks, swapped in together."""

import contextlib
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.reading.formats import SUFFIXES
from etl_assets.project.contract import Source
from etl_assets.project.loading import load_project
from etl_assets.samples import cells, customers, dice
from etl_assets.samples.cells import Export, cells_sql, lines_sql
from etl_assets.samples.flaws import BOM_SOURCES, NOT_UTF8, NOT_UTF8_STAND_IN, PER_MILLION, dirt_of

FileFormat = Literal["csv", "csv.gz", "parquet"]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
MAX_DIRTY = 0.5
MAX_ROWS = customers.MAX_CUSTOMERS

# 50,000 rows keep a chunk's text below 10 MB. Larger chunks were not faster; smaller ones spend more on planning.
_CHUNK_ROWS = 50_000
_ROW_GROUP_ROWS = 100_000
_MEMORY_MB = 256
# Fixed, because Python's default may change. Level 1 packs to a third of the size in a fifth of the time of level 9.
_GZIP_LEVEL = 1
_BOM = b"\xef\xbb\xbf"


def generate(
    out: Path,
    *,
    rows: int,
    seed: int = 42,
    dirty: float = 0.0,
    file_format: FileFormat = "csv",
    on_progress: Callable[[int, int], None] | None = None,
    sources: Sequence[Source] | None = None,
) -> list[Path]:
    """Write the exports of `rows` customers to the folder `out`; returns one file for each source, in contract order.

    `dirty` is the share of each file's rows, from 0 to 0.5, that show a flaw of `flaws`. `sources` are those of the
    shipped contract unless others are passed. The files are built under temporary names and swapped in together at the
    end, so that a failure or a kill leaves `out` as it was. `on_progress` gets the number of customers done and `rows`,
    after each chunk for CSV and after each file for Parquet. Raises ValueError when an argument is out of range and
    when `out` already holds a source in another format.
    """
    sources = load_project().contract.sources if sources is None else tuple(sources)
    check_arguments(rows, dirty, file_format)
    refuse_other_formats(out, sources, file_format)
    sweeping.sweep(publishing.ensure_directory(out))
    targets = [out / f"{source.name}.{file_format}" for source in sources]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(publishing.publish_file(target, what=None)) for target in targets]
        connection = stack.enter_context(contextlib.closing(_connect(out)))
        exports = _exports(sources, seed, dirty, file_format)
        write = _write_parquet if file_format == "parquet" else _write_csv
        for rows_done in write(connection, exports, rows, files, file_format):
            if on_progress is not None:
                on_progress(rows_done, rows)
    return targets


def check_arguments(rows: int, dirty: float, file_format: str) -> None:
    """ValueError when one is out of its range."""
    if not 1 <= rows <= MAX_ROWS:
        raise ValueError(f"rows must be from 1 to {MAX_ROWS}, found {rows}")
    if not 0 <= dirty <= MAX_DIRTY:
        raise ValueError(f"dirty must be a share from 0 to {MAX_DIRTY}, found {dirty}")
    if file_format not in FORMATS:
        raise ValueError(f"file_format must be one of {', '.join(FORMATS)}, found {file_format!r}")


def refuse_other_formats(out: Path, sources: Sequence[Source], file_format: FileFormat) -> None:
    """A source with two files stops the pipeline, and the existing file may be someone's own, so it is not removed."""
    endings = ["", *(ending for ending in SUFFIXES if ending != f".{file_format}")]
    names = [f"{source.name}{ending}" for source in sources for ending in endings]
    existing = [name for name in names if (out / name).exists()]
    if existing:
        raise ValueError(
            f"{out} already holds {', '.join(existing)}, and each source may have one file only. "
            f"Remove what you do not need, or write the {file_format} files to another folder."
        )


def _connect(out: Path) -> duckdb.DuckDBPyConnection:
    # One thread: it keeps the order of the rows, and 50,000 rows are less than DuckDB gives to a second one.
    connection = duck.connect(duck.Limits(_MEMORY_MB), None, folders=[out])
    for macro in (*dice.MACROS, *customers.MACROS, *cells.MACROS):
        connection.execute(macro)
    return connection


def _exports(sources: tuple[Source, ...], seed: int, dirty: float, file_format: FileFormat) -> list[Export]:
    mixed_seed = zlib.crc32(str(seed).encode())
    if not dirty:
        return [Export(sources, source, mixed_seed, None) for source in sources]
    dirty_ppm = max(1, round(dirty * PER_MILLION))
    has_lines = file_format != "parquet"
    return [
        Export(sources, source, mixed_seed, dirt_of(source, number, mixed_seed, dirty_ppm, has_lines=has_lines))
        for number, source in enumerate(sources)
    ]


def _write_csv(
    connection: duckdb.DuckDBPyConnection,
    exports: Sequence[Export],
    rows: int,
    files: Sequence[Path],
    file_format: FileFormat,
) -> Iterator[int]:
    """Write the files side by side, chunk by chunk; yields the number of customers done."""
    with contextlib.ExitStack() as stack:
        writers = [stack.enter_context(_opened(file, file_format)) for file in files]
        for export, write in zip(exports, writers, strict=True):
            write(_header(export))
        for first in range(0, rows, _CHUNK_ROWS):
            end = min(first + _CHUNK_ROWS, rows)
            for export, write in zip(exports, writers, strict=True):
                write(_csv_chunk(connection, export, first, end))
            yield end


@contextlib.contextmanager
def _opened(path: Path, file_format: FileFormat) -> Iterator[Callable[[bytes], object]]:
    with path.open("wb") as plain:
        if file_format == "csv":
            yield plain.write
            return
        # Without name and time in its header, equal data is an equal file.
        with gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=plain, mtime=0) as packed:
            yield packed.write


def _header(export: Export) -> bytes:
    mark = _BOM if export.dirt and export.source.name in BOM_SOURCES else b""
    return mark + ",".join(export.source.required).encode() + b"\n"


def _csv_chunk(connection: duckdb.DuckDBPyConnection, export: Export, first: int, end: int) -> bytes:
    """The lines of the customers from number `first` up to, not including, `end`."""
    lines = lines_sql(export, f"SELECT range AS position FROM range({first}, {end})")
    row = connection.execute(
        f"SELECT encode(string_agg(line, chr(10) ORDER BY position, version) || chr(10)) FROM ({lines})"
    ).fetchone()
    text: bytes | None = row[0] if row else None
    # None: the source knows no customer of this chunk.
    return (text or b"").replace(NOT_UTF8_STAND_IN.encode(), NOT_UTF8)


def _write_parquet(
    connection: duckdb.DuckDBPyConnection,
    exports: Sequence[Export],
    rows: int,
    files: Sequence[Path],
    file_format: FileFormat,
) -> Iterator[int]:
    """Write one file after another, as a Parquet file cannot be extended; yields the share of the customers done."""
    numbers = f"SELECT range AS position FROM range({rows})"
    for number, (export, file) in enumerate(zip(exports, files, strict=True), start=1):
        columns = ", ".join(export.source.required)
        # Deliberately without ORDER BY: one thread streams the rows in the order of their numbers, a sort holds all.
        connection.execute(
            f"COPY (SELECT {columns} FROM ({cells_sql(export, numbers)})) TO $file "
            f"(FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE {_ROW_GROUP_ROWS})",
            {"file": str(file)},
        )
        yield rows * number // len(exports)
