"""The export files of a source: opening them, reading their headers. `listing` says which files those are.

Every file is read through `Export`, which opens the file whose stats were taken, and no other.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, cast

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.reading import formats, objects, unpacking, verified, workbooks
from etl_assets.engine.reading.decoding import text_of
from etl_assets.engine.reading.formats import Format, Packing
from etl_assets.engine.reading.headers import find_columns, lacks_columns
from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.reading.objects import Wanted
from etl_assets.engine.reading.text_headers import header_of
from etl_assets.engine.reading.verified import FileStat, stat_files
from etl_assets.engine.reading.worksheets import SheetForm
from etl_assets.engine.sql_text import parquet_sql
from etl_assets.engine.stopping import Stop
from etl_assets.errors import Action, Advice, InputError, all_in_one, shown
from etl_assets.project.contract import Source
from etl_assets.project.dialect import Dialect

# DuckDB's name for the number of a row; a file that has such a column cannot be read with it.
_ROW_NUMBER = "file_row_number"
_EXPORT_AGAIN = Advice(Action.EXPORT_AGAIN)
_PLAIN = Dialect()
_ANY_SHEET = SheetForm()
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_LONGEST_REASON = 150
_ERRORS_SHOWN = 5


@dataclass(frozen=True)
class Export:
    """One file of a source, identified by the stats that were taken first. `stop` interrupts the reading of it.

    `columns` are its header's names as written. `found` maps the contract's names to them, `key_columns` are those
    that make up the key. `dialect` is that of its text, `cells` that of the values. `member` is the name of the file in
    an archive. `wanted` are the fields of a file of objects; `absent` are the contract's columns that none of the
    objects had that were looked at. `sheet` is what is read of a workbook, `converted` our CSV of it. Of Parquet,
    `partition` are the texts of columns that only folders name, `types` the types of the others.
    """

    root: Path
    stat: FileStat
    columns: tuple[str, ...] = ()
    found: dict[str, str] = field(default_factory=dict)
    key_columns: tuple[str, ...] = ()
    dialect: Dialect = _PLAIN
    cells: Dialect = _PLAIN
    member: str = ""
    wanted: tuple[Wanted, ...] = ()
    absent: tuple[str, ...] = ()
    sheet: SheetForm = _ANY_SHEET
    converted: Path | None = None
    partition: Mapping[str, str | None] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
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
    def format(self) -> Format:
        """What is in it."""
        return formats.format_of(self.member or self.name)

    @property
    def is_parquet(self) -> bool:
        """Whether this file has a schema of its own."""
        return self.format is Format.PARQUET

    @property
    def is_objects(self) -> bool:
        """Whether each of its lines is an object."""
        return self.format is Format.OBJECTS

    @property
    def is_sheet(self) -> bool:
        """Whether it is a workbook."""
        return self.format is Format.SHEET

    @property
    def packing(self) -> Packing | None:
        """What it is packed in."""
        return formats.packing_of(self.name)

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
        """Cells of a record as DuckDB reads it: the header's, and the surplus one of the dialect.

        Of an object: the fields that are wanted, and the names of those that hold no value.
        """
        return len(self.wanted) + 1 if self.is_objects else len(self.columns) + self.dialect.surplus_cell

    @property
    def structure(self) -> Dialect:
        """The dialect in which DuckDB reads its records."""
        return _PLAIN if self.is_objects else self.dialect

    @contextlib.contextmanager
    def open(self, limit_bytes: int | None = None) -> Iterator[IO[bytes]]:
        """The text of a CSV file as UTF-8 bytes: unpacked, decoded, from its header to its last record.

        InputError when there are more than `limit_bytes` in a packed file.
        """
        with contextlib.ExitStack() as stack:
            if self.is_sheet:
                yield stack.enter_context(self._opened_sheet(limit_bytes))
                return
            stream: IO[bytes] = stack.enter_context(verified.open_verified(self.root, self.stat))
            if self.packing:
                packed = unpacking.unpacked(stream, self.packing, self.stat, self.stop, limit_bytes)
                text = cast("IO[bytes]", stack.enter_context(packed))
            else:
                text = cast("IO[bytes]", _Text(stream, self.stop))
            yield text_of(text, self.dialect)

    def _opened_sheet(self, limit_bytes: int | None) -> contextlib.AbstractContextManager[IO[bytes]]:
        if self.converted is None:
            return workbooks.opened(self.root, self.stat, self.sheet, self.stop, limit_bytes)
        return self.converted.open("rb")

    def held(self) -> contextlib.AbstractContextManager[Path]:
        """A path at which DuckDB reads this very file, within the block."""
        if self.converted is not None:
            return contextlib.nullcontext(self.converted)
        return verified.held(self.root, self.stat)

    @contextlib.contextmanager
    def reader(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection of its own that reads exports: a damaged file may cost the connection that reads it."""
        with duck.reader(self.root) as connection, self.stop.watching(connection):
            yield connection


class _Text:
    """A file's text; reading it can be stopped."""

    def __init__(self, stream: IO[bytes], stop: Stop) -> None:
        self._stream, self._stop = stream, stop

    def read(self, size: int) -> bytes:
        """The next bytes."""
        self._stop.check()
        return self._stream.read(size)


def open_exports(
    source: Source, root: Path, stats: Sequence[FileStat] | None = None, stop: Stop | None = None
) -> list[Export]:
    """Read the headers of a source's files; InputError when one breaks the contract as a whole.

    `stats` are those of the files, if they were taken already.
    """
    if stats is None:
        stats = stat_files(find_files(source, root), root)
    opened, errors = [], []
    for stat in stats:
        try:
            opened.append(open_export(source, root, stat, stop))
        except InputError as error:
            errors.append(error)
    if errors:
        raise all_in_one(errors[:_ERRORS_SHOWN])
    return opened


def open_export(source: Source, root: Path, stat: FileStat, stop: Stop | None = None) -> Export:
    """Read the header of one file; InputError when it breaks the contract as a whole, with what the file is instead."""
    try:
        return _open_export(source, root, stat, stop)
    except InputError as error:
        from etl_assets.engine.reading.diagnosis import diagnosed

        raise diagnosed(error, source, root, stat) from error


def _open_export(source: Source, root: Path, stat: FileStat, stop: Stop | None) -> Export:
    export = unopened(root, stat, stop)
    cells = source.dialect_of(export.name)
    if export.is_sheet:
        export = replace(export, cells=cells, sheet=workbooks.reading_of(source, cells))
    else:
        export = replace(export, cells=cells, dialect=formats.dialect_of(cells, export.member or export.name))
    name = export.shown
    if export.stat.size_bytes == 0:
        raise InputError(
            f"{name} of source '{source.name}' is empty (0 bytes): expected a header and rows.",
            _EXPORT_AGAIN,
            subject=source.name,
        )
    if not (export.is_parquet or export.is_sheet):
        _refuse_utf16(export)
    if export.is_objects:
        return read_fields(export, source)
    types = _parquet_types(export) if export.is_parquet else {}
    columns = list(types) or _csv_columns(export)
    written = {column.strip().lower() for column in columns}
    named = formats.partition_of(export.name).items()
    partition = {name: text for name, text in named if name.strip().lower() not in written}
    columns += partition
    found, key_columns = find_columns(source, columns, name)
    export = replace(export, partition=partition, types=types)
    return replace(export, columns=tuple(columns), found=found, key_columns=key_columns)


def unopened(root: Path, stat: FileStat, stop: Stop | None = None) -> Export:
    """A file whose format is known, and nothing of its contents."""
    export = Export(root, stat, stop=stop or Stop())
    refusal = formats.refusal(export.name)
    if refusal:
        raise InputError(f"{export.shown} {refusal}", subject=export.name)
    return replace(export, member=_member(export))


def _member(export: Export) -> str:
    """The name of the file in an archive that does not say itself what it holds."""
    if export.packing is not Packing.ZIP or formats.suffix_of(export.name).lower() != ".zip":
        return ""
    with verified.open_verified(export.root, export.stat) as stream:
        member = unpacking.name_of_member(stream, export.stat)
    if formats.packing_of(member) or formats.refusal(f"{member}.zip"):
        raise InputError(f"{export.shown} holds {shown(member)}; expected a text. Unpack it.", subject=export.name)
    return member


def _refuse_utf16(export: Export) -> None:
    with export.open() as stream:
        start = stream.read(2)
    if start in _UTF16_MARKS:
        raise InputError(f"{export.shown} is UTF-16 text; expected UTF-8. Convert it: iconv -f UTF-16 -t UTF-8")


def read_fields(export: Export, source: Source) -> Export:
    """The export with the fields that its first records have; InputError when one that must be there is in none.

    A field that need not be there may be left out of all records. Its name may be misspelled as well, so it is noted.
    """
    wanted = objects.wanted_of(source)
    export = replace(export, wanted=wanted)
    with export.open() as stream:
        sample = objects.look_at(stream, wanted, export.dialect, 1 + export.dialect.skip_lines)
    name = export.shown
    if not sample.first_line:
        raise InputError(f"{name} of source '{source.name}' holds no record.", _EXPORT_AGAIN, subject=source.name)
    if not sample.record_count:
        raise InputError(
            f"{name} is no JSON Lines file: expected a JSON object on each line, found on line {sample.first_line} "
            f"{sample.first_text!r}.",
            _EXPORT_AGAIN,
            subject=source.name,
        )
    absent = [one for place, one in enumerate(wanted) if place not in sample.places]
    of_key, of_column = source.words_of_headers
    missing = [
        (one.headers, of_key if source.key.name in one.columns else of_column)
        for one in absent
        if source.key.name in one.columns or source.needed & {*one.columns}
    ]
    if missing:
        has = "Its records have" if sample.is_whole else f"Its first {sample.record_count:,} records have"
        raise lacks_columns(source, missing, sample.names, name, has)
    labels = {column: one.label for one in wanted for column in one.columns}
    return replace(
        export,
        columns=(*(one.label for one in wanted), *sample.others),
        found={column.name: labels[column.name] for column in source.columns},
        key_columns=source.key_headers,
        absent=tuple(column for one in absent for column in one.columns),
    )


def _csv_columns(export: Export) -> list[str]:
    if export.is_sheet:
        export = replace(export, sheet=replace(export.sheet, row_count=1))
    with export.open() as stream:
        return header_of(stream, export.dialect, export.shown)


def _parquet_types(export: Export) -> dict[str, str]:
    with export.held() as path, export.reader() as connection:
        try:
            rows = connection.execute(f"DESCRIBE SELECT * FROM {parquet_sql(path)}").fetchall()
        except duckdb.Error as error:
            export.stop.check()
            finding = f"{export.shown} is not a readable Parquet file ({reason(error, export, path)})."
            raise InputError(finding, _EXPORT_AGAIN, subject=export.name) from error
    types = {row[0]: row[1] for row in rows}
    if _ROW_NUMBER in map(str.lower, types):
        raise InputError(
            f"{export.shown} has a column {_ROW_NUMBER}, which DuckDB keeps for itself. Export it without."
        )
    return types


def reason(error: duckdb.Error, export: Export, path: Path) -> str:
    """DuckDB's reason to refuse a file that it read at `path`, in few words: it may write pages on its own state."""
    if isinstance(error, duckdb.FatalException | duckdb.InternalException):
        return "its parts contradict each other"
    first_line = next(iter(str(error).strip().splitlines()), "")
    return shown(first_line.replace(str(path), export.name)[:_LONGEST_REASON])
