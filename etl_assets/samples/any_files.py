"""Write the sample of any project: for each source, files of the names, the structure and the spelling it declares."""

import contextlib
import csv
import gzip
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import IO, cast

from etl_assets.engine import duck
from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.reading.formats import dialect_of
from etl_assets.project.contract import Contract, Source
from etl_assets.project.dialect import Dialect
from etl_assets.samples.any_project import AnySample, Field
from etl_assets.samples.customers import KEY, knows
from etl_assets.samples.map_files import map_files
from etl_assets.samples.spelling import line_of
from etl_assets.samples.writing import FORMATS, FileFormat, check_arguments, generate, refuse_other_formats

_PROGRESS_ROWS = 5_000
_GZIP_LEVEL = 1
_MEMORY_MB = 256
_TEXT_ENDINGS = (".csv", ".csv.gz", ".tsv", ".txt")
_ENDINGS = (*_TEXT_ENDINGS, ".parquet")
# What may stand in a pattern for a part of a name, and a text that it matches.
_WILD = re.compile(r"\[([^\]!])[^\]]*\]|\*+|\?")

Write = Callable[[Sequence[str]], object]


def is_customer360(contract: Contract) -> bool:
    """Whether the sample of customer 360 has values for every column, written as the contract says."""
    return contract.key.name == KEY and all(
        knows(source)
        and source.csv == Dialect()
        and not source.csv_by_file
        and not (source.files or source.key_from or source.key_map or source.has_many)
        and not any(column.from_ for column in source.columns)
        for source in contract.sources
    )


def writer_of(contract: Contract) -> Callable[..., list[Path]]:
    """What writes the sample of a project: `generate` or `generate_any`, without what follows from the contract."""
    if is_customer360(contract):
        return partial(generate, sources=contract.sources)
    return partial(generate_any, contract=contract)


def generate_any(
    out: Path,
    contract: Contract,
    *,
    rows: int,
    seed: int = 42,
    dirty: float = 0.0,
    file_format: FileFormat = "csv",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write exports of `rows` keys of any contract to the folder `out`; returns the files, in contract order.

    `dirty` is the share of records that show a flaw. The files are swapped in together at the end. Raises ValueError
    when an argument is out of range, when a column can have no value, and when `out` holds other files of a source.
    """
    check_arguments(rows, dirty, file_format)
    names = {source.name: file_names(source, file_format) for source in contract.sources}
    maps = map_files(contract, names, partial(_map_name, file_format=file_format))
    _refuse_second_exports(contract, maps.files, file_format)
    sample = AnySample(contract, rows, seed, dirty, maps.of_exports)
    sample.require_possible()
    named = {name: [out / file for file in files] for name, files in names.items()}
    map_paths = {out / name: file for name, file in maps.files.items()}
    written = [*(path for paths in named.values() for path in paths), *map_paths]
    refuse_other_formats(out, [source for source in contract.sources if not source.files], file_format)
    _refuse_other_files(out, contract, written)
    sweeping.sweep(publishing.ensure_directory(out))
    with contextlib.ExitStack() as stack:

        def opened(path: Path, what: str, dialect: Dialect, fields: Sequence[Field]) -> Write:
            target = stack.enter_context(publishing.publish_file(path, what=None))
            is_typed = _is_plain(dialect) and not dirty
            return stack.enter_context(_opened(target, path.name, what, dialect, fields, is_typed=is_typed))

        writers = {
            source.name: [
                opened(path, source.name, source.csv, sample.fields_of(source)) for path in named[source.name]
            ]
            for source in contract.sources
        }
        map_writers = [
            (opened(path, path.stem, file.dialect, file.fields), file.fields) for path, file in map_paths.items()
        ]
        for number in range(rows):
            for write, fields in map_writers:
                write([sample.key_part(one, number) for one in fields])
            for source in contract.sources:
                write = writers[source.name][number % len(writers[source.name])]
                for cells in sample.records(source, number):
                    write(cells)
            if on_progress is not None and (number + 1) % _PROGRESS_ROWS == 0:
                on_progress(number + 1, rows)
    return written


def file_names(source: Source, file_format: FileFormat) -> list[str]:
    """The files of a source, relative to the folder of the exports: one for each of its patterns."""
    if not source.files:
        return [f"{source.name}.{file_format}"]
    names = [_matching_name(pattern, source.name, file_format) for pattern in source.files]
    _require_writable(names, source)
    return list(dict.fromkeys(names))


def _map_name(pattern: str, source: Source, file_format: FileFormat) -> str:
    """A name for the key map of a source."""
    name = _matching_name(pattern, f"{source.name}_ids", file_format)
    _require_writable([name], source)
    return name


def _refuse_second_exports(contract: Contract, names: Iterable[str], file_format: FileFormat) -> None:
    """A map that is the export of a source in another format would be a second export of it."""
    taken = {f"{source.name}.{one}": one for source in contract.sources if not source.files for one in FORMATS}
    for name in names:
        if name in taken:
            raise ValueError(f"a key_map names {name}, so expected the format {taken[name]}, found {file_format}")


def _require_writable(names: Sequence[str], source: Source) -> None:
    bad = [name for name in names if not name.endswith(_ENDINGS)]
    others = [name for name in names if source.dialect_of(name) != source.csv]
    if others:
        raise ValueError(f"expected files written as csv says, but csv_by_file of {source.name} names {others[0]}")
    if bad:
        raise ValueError(f"files of {source.name} can be written as {', '.join(_ENDINGS)}, found {', '.join(bad)}")


def _matching_name(pattern: str, stem: str, file_format: FileFormat) -> str:
    """A name that the pattern matches; one that may end in anything ends as the format does."""
    folders, _, last = pattern.rpartition("/")
    if last in ("*", "**", ""):
        last = f"{stem}.{file_format}"
    elif last.endswith("*"):
        last = f"{last.rstrip('*')}.{file_format}"
    parts = [part for part in folders.split("/") if part not in ("", "**", ".")]
    return "/".join(_WILD.sub(lambda found: found[1] or "1", part) for part in [*parts, last])


def _refuse_other_files(out: Path, contract: Contract, targets: Sequence[Path]) -> None:
    """A file of the user's own that a pattern names would be read with the sample, so there may be none."""
    patterns = [
        pattern
        for source in contract.sources
        for pattern in (*source.files, *(source.key_map.files if source.key_map else ()))
    ]
    found = [path for pattern in patterns for path in out.glob(pattern)]
    others = sorted({path.relative_to(out).as_posix() for path in found if path.is_file() and path not in targets})
    if others:
        raise ValueError(
            f"{out} already holds {', '.join(others)}, which the project would read with the sample. Remove what you "
            "do not need, or write the sample to another folder."
        )


@contextlib.contextmanager
def _opened(
    path: Path, name: str, what: str, dialect: Dialect, fields: Sequence[Field], *, is_typed: bool
) -> Iterator[Write]:
    """A function that writes the cells of one record to `path`, whose name will be `name`."""
    if name.endswith(".parquet"):
        with _parquet(path, fields, is_typed=is_typed) as write:
            yield write
        return
    dialect = dialect_of(dialect, name)
    with contextlib.ExitStack() as stack:
        plain: IO[bytes] = stack.enter_context(path.open("wb"))
        if name.endswith(".gz"):
            # Without name and time in its header, equal data is an equal file.
            packed = gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=plain, mtime=0)
            plain = cast("IO[bytes]", stack.enter_context(packed))
        text = stack.enter_context(io.TextIOWrapper(plain, encoding=dialect.encoding, newline=""))
        for number in range(dialect.skip_lines):
            text.write(f"Export of {what}, line {number + 1}\n")
        text.write(line_of([field.header for field in fields], dialect) + "\n")
        end = f"{dialect.separator if dialect.surplus_cell else ''}\n"
        yield lambda cells: text.write(line_of(cells, dialect) + end)
        for number in range(dialect.footer_lines):
            text.write(f"End of {what}, line {number + 1}\n")


def _is_plain(dialect: Dialect) -> bool:
    """Whether values are read as DuckDB writes them."""
    plain = Dialect()
    words = (dialect.true_words, dialect.false_words)
    is_default = words == (plain.true_words, plain.false_words)
    return dialect.has_plain_numbers and is_default and not (dialect.dates or dialect.nulls)


@contextlib.contextmanager
def _parquet(path: Path, fields: Sequence[Field], *, is_typed: bool) -> Iterator[Write]:
    """Collect the records as CSV and have DuckDB pack them: typed, or as the texts that the dialect says."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "records.csv"
        with plain.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)
            # A record that is too short has null in the place of its last cell.
            yield lambda cells: writer.writerow([*cells, *[""] * (len(fields) - len(cells))])
        columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(fields)))
        types = [field.column.duckdb if field.column and is_typed else "VARCHAR" for field in fields]
        values = ", ".join(
            f"CAST(c{number} AS {kind}) AS {_quoted(field.header)}"
            for number, (field, kind) in enumerate(zip(fields, types, strict=True))
        )
        folders = [plain.parent, path.parent]
        with contextlib.closing(duck.connect(duck.Limits(_MEMORY_MB), None, folders=folders)) as connection:
            connection.execute(
                f"COPY (SELECT {values} FROM read_csv($plain, columns = {{{columns}}}, header = false, "
                "auto_detect = false, delim = ',', quote = '\"', escape = '\"')) TO $file "
                "(FORMAT parquet, COMPRESSION snappy)",
                {"plain": str(plain), "file": str(path)},
            )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
