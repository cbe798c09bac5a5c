"""Export to snapshot: validated rows routed into one immutable Parquet slice a shard, everything else to quarantine.

A source is read once whatever the number of shards: when every shard reads and filters all files, the cost grows with
shards × data. A snapshot is a content-addressed folder, published whole:

    staged/<source>/<snapshot>/shard_NN.parquet    accepted rows of the shard (plus file_index, source_row)
    staged/<source>/<snapshot>/quarantine.parquet  rejected rows with file, line, raw text and reason
    staged/<source>/<snapshot>/snapshot.json       the accounting
    staged/<source>/current.json                   which snapshot the shards are to use
"""

import contextlib
import gzip
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.engine import duck, faults, keys
from etl_assets.engine.files.publishing import (
    MISSING,
    Home,
    publish_directory,
    publish_json,
    read_json,
    remove,
    scratch_directory,
    stamp,
    sweep,
)
from etl_assets.engine.reading import exports, quarantine
from etl_assets.engine.routing import route_macro, shard_keys
from etl_assets.errors import (
    AccountingError,
    ConfigError,
    DamagedSnapshotError,
    InputError,
    RejectRatioError,
    SourceChangedError,
)
from etl_assets.project.contract import CUSTOMER_ID, MAX_CUSTOMER_ID_CHARS, SOURCES, Column, ColumnType, Source
from etl_assets.project.version import code_fingerprint

# What `content_hash_sql` gives for no rows.
EMPTY_CONTENT_HASH = "0-0000000000000000-0"
# Of one packed file: a hundred million rows, and what its unpacked copy may take of the disk while it is read.
DEFAULT_MAX_UNPACKED_MB = 16 * 1024
# Rows of all slices together that are collected before the slices' writers get them. A writer gathers some sixty
# portions for a row group, so that together they hold the less, the smaller the portions are. With six times as many,
# thirty slices of ten million rows did not fit into 350 MB any more, and what was spilled took as long as the rest.
_FLUSH_ROWS = 8_192
# Rows DuckDB rejected go to this partition of the one COPY that writes a source.
_REJECTED = -1
# A file changed less than this before it was looked at may change again without its time stamps showing it.
_STAMP_GRANULARITY_NS = 1_000_000_000
# Old snapshots stay this long for shards that are still reading them.
_SNAPSHOT_GRACE_S = 3600.0
_READ_BUFFER_BYTES = 8 << 20
# The newer encodings are a fifth smaller and read in two thirds of the time. The search for a dictionary is given up
# early, because addresses and names have none.
_PARQUET = "FORMAT parquet, COMPRESSION snappy, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 5000"
_PARSERS = {ColumnType.INT: "parse_int", ColumnType.FLOAT: "parse_float", ColumnType.DATE: "parse_date"}
_MACROS = ("strip", "blank_to_null", "parse_int", "parse_float", "parse_date")


@dataclass(frozen=True)
class Slice:
    """One shard's accepted rows of one source; the content hash does not depend on the order of rows."""

    shard_id: str
    record_count: int
    content_hash: str


@dataclass(frozen=True)
class Snapshot:
    """What staging made of one source's files, and its accounting (`rows_in` = accepted + quarantined)."""

    source: str
    snapshot: str
    data_hash: str
    shard_count: int
    files: tuple[str, ...]
    size_bytes: int
    extra_columns: tuple[str, ...]
    rows_in: int
    rows_accepted: int
    rows_quarantined: int
    reasons: dict[str, int]
    slices: tuple[Slice, ...]

    @property
    def reject_ratio(self) -> float:
        """Share of the rows that broke the contract; superseded rows are sound rows that a later one replaced."""
        broken = self.rows_quarantined - self.reasons.get("superseded", 0)
        return broken / self.rows_in if self.rows_in else 0.0

    def slice_of(self, shard_id: str) -> Slice:
        """The slice of one shard."""
        return self._slices_by_shard[shard_id]

    @cached_property
    def _slices_by_shard(self) -> dict[str, Slice]:
        return {part.shard_id: part for part in self.slices}


@dataclass(frozen=True)
class StagingRequest:
    """What `stage` needs to know."""

    sources: Path
    home: Home
    shard_count: int
    max_reject_ratio: float
    limits: duck.Limits
    max_unpacked_mb: int = DEFAULT_MAX_UNPACKED_MB


def stage(source: Source, request: StagingRequest, *, force: bool = False) -> tuple[Snapshot, bool]:
    """Make the current snapshot of a source; returns it and whether an earlier one was reused.

    Raises InputError for files that break the contract as a whole, RejectRatioError for too many bad rows (the
    snapshot stays on disk for inspection but does not become current), SourceChangedError when a file changed.
    """
    paths = exports.find_files(source, request.sources)
    looked_at_ns = time.time_ns()
    stats = exports.stat_files(paths, request.sources)
    known = None if force else _known_snapshot(source, request, stats)
    if known is not None:
        _check_reject_ratio(known, request)
        return known, True
    opened = exports.open_exports(source, request.sources)
    data_hash = exports.hash_files(paths)
    names = tuple(export.name for export in opened)
    folder = request.home.snapshot(source.name, _snapshot_id(data_hash, names, request.shard_count))
    snapshot = None if force else load_snapshot(folder)
    reused = snapshot is not None
    if snapshot is None:
        snapshot = _build(source, request, opened, data_hash, folder, stats, force=force)
    _check_unchanged(source, request, stats)
    _check_reject_ratio(snapshot, request)
    publish_json(
        request.home.source_pointer(source.name),
        {
            "snapshot": snapshot.snapshot,
            "looked_at_ns": looked_at_ns,
            "files": [asdict(stat) for stat in stats],
        },
    )
    _sweep_snapshots(source, request.home, keep=snapshot.snapshot)
    return snapshot, reused


def current_snapshot(source: Source, home: Home) -> Snapshot | None:
    """The snapshot shards are to use, or None when the source was never staged (or its snapshot is gone)."""
    pointer = read_json(home.source_pointer(source.name))
    return load_snapshot(home.snapshot(source.name, pointer["snapshot"])) if pointer else None


def current_snapshots(home: Home, shard_count: int) -> dict[str, Snapshot]:
    """The current snapshot of every source; ConfigError names the sources that must be materialized first."""
    found = {source.name: current_snapshot(source, home) for source in SOURCES}
    unstaged = [
        name
        for name, snapshot in found.items()
        if snapshot is None or snapshot.shard_count != shard_count or not made_by_this_code(snapshot)
    ]
    if unstaged:
        raise ConfigError(
            f"Source{'s' if len(unstaged) > 1 else ''} {', '.join(unstaged)} not staged for "
            f"{shard_count} shards by this code yet. "
            "Materialize the assets of group 'sources' first, or run: etl-assets run"
        )
    return {name: snapshot for name, snapshot in found.items() if snapshot is not None}


def made_by_this_code(snapshot: Snapshot) -> bool:
    """Whether staging the same bytes now would give this snapshot: the contract and the reading code are the same."""
    return snapshot.snapshot == _snapshot_id(snapshot.data_hash, snapshot.files, snapshot.shard_count)


def is_current(source: Source, request: StagingRequest) -> bool:
    """Whether staging would take the current snapshot as it is: told by the files' stats, without reading them."""
    stats = exports.stat_files(exports.find_files(source, request.sources), request.sources)
    known = _known_snapshot(source, request, stats)
    return known is not None and known.reject_ratio <= request.max_reject_ratio


def load_snapshot(folder: Path) -> Snapshot | None:
    """A published snapshot's accounting, or None when there is none."""
    path = folder / "snapshot.json"
    published = stamp(path)
    # Nothing is remembered of one that is not there: it may be there by now, and withdrawn later.
    return None if published == MISSING else _parsed_snapshot(path, published)


@lru_cache(maxsize=len(SOURCES) * 2)
def _parsed_snapshot(path: Path, _stamp: str) -> Snapshot | None:
    # Kept because each shard asks twice for all of them: with a thousand shards to parse it costs a third of a shard.
    document = read_json(path)
    if document is None:
        return None
    return Snapshot(
        **{
            **document,
            "files": tuple(document["files"]),
            "extra_columns": tuple(document["extra_columns"]),
            "slices": tuple(Slice(**part) for part in document["slices"]),
        }
    )


def require_undamaged(home: Home, snapshots: Iterable[Snapshot]) -> None:
    """Withdraw snapshots whose files do not hold what was written; DamagedSnapshotError when there are such.

    Asked when reading one failed: it reads all of it. A withdrawn one is never taken again, by nobody.
    """
    damaged = [snapshot for snapshot in snapshots if not _holds_what_was_written(home, snapshot)]
    for snapshot in damaged:
        remove(home.snapshot(snapshot.source, snapshot.snapshot) / "snapshot.json")
    if damaged:
        names = ", ".join(snapshot.source for snapshot in damaged)
        raise DamagedSnapshotError(
            f"The staged rows of {names} are damaged: their files in {home.staged} do not hold what was written. They "
            "are withdrawn; nothing was published from them. Read the exports again: etl-assets run"
        )


def _holds_what_was_written(home: Home, snapshot: Snapshot) -> bool:
    folder = home.snapshot(snapshot.source, snapshot.snapshot)
    source = next(source for source in SOURCES if source.name == snapshot.source)
    with contextlib.closing(duckdb.connect()) as connection:
        try:
            slices = [
                _measure_slice(connection, source, folder / f"{part.shard_id}.parquet") for part in snapshot.slices
            ]
            quarantined = connection.execute(
                "SELECT count(*), max(hash(row)) FROM read_parquet(?) row",
                [duck.pattern(folder / "quarantine.parquet")],
            ).fetchone()
        except (duckdb.Error, OSError):
            return False
    promised = [(part.record_count, part.record_count, part.content_hash) for part in snapshot.slices]
    return slices == promised and quarantined is not None and quarantined[0] == snapshot.rows_quarantined


@cache
def staging_version() -> str:
    """The version of the code that decides what a snapshot holds."""
    modules = (
        "project/contract",
        "engine/routing",
        *(f"engine/reading/{name}" for name in ("records", "exports", "quarantine")),
        "engine/steps/stage",
    )
    return code_fingerprint(modules, _MACROS)


def _known_snapshot(source: Source, request: StagingRequest, stats: list[exports.FileStat]) -> Snapshot | None:
    """The current snapshot if the files' stats prove that it is still theirs."""
    pointer = read_json(request.home.source_pointer(source.name))
    if not pointer or pointer["files"] != [asdict(stat) for stat in stats]:
        return None
    settled_ns = pointer["looked_at_ns"] - _STAMP_GRANULARITY_NS
    if any(max(stat.changed_ns, stat.modified_ns) > settled_ns for stat in stats):
        return None
    snapshot = load_snapshot(request.home.snapshot(source.name, pointer["snapshot"]))
    if snapshot is None or snapshot.shard_count != request.shard_count or not made_by_this_code(snapshot):
        return None
    return snapshot


def _snapshot_id(data_hash: str, names: Sequence[str], shard_count: int) -> str:
    # The names as well: quarantine points to files, and a renamed file's old name is no help.
    return keys.stable_hash("\0".join([data_hash, str(shard_count), staging_version(), *names]))[:16]


def _build(
    source: Source,
    request: StagingRequest,
    opened: list[exports.Export],
    data_hash: str,
    folder: Path,
    stats: list[exports.FileStat],
    *,
    force: bool,
) -> Snapshot:
    """Read the files, write slices and quarantine, close the books, publish the folder."""
    sweep(folder.parent)
    sweep(request.home.scratch)
    folders = [request.sources, request.home.staged]
    with (
        scratch_directory(request.home) as scratch,
        # A folder that is there and was not taken is damaged.
        publish_directory(folder, replace=force or folder.is_dir()) as target,
        duck.workbench(request.limits, scratch, folders=folders, flush_rows=_FLUSH_ROWS) as connection,
    ):
        duck.add_macros(connection, _MACROS)
        duck.add_hashing(connection)
        connection.execute(route_macro(request.shard_count))
        limit_bytes = request.max_unpacked_mb << 20
        readings = [_prepare(export, number, scratch, limit_bytes) for number, export in enumerate(opened)]
        try:
            _copy_partitioned(connection, source, readings, target)
        except duckdb.Error:
            _blame_unreadable(connection, readings)
            raise
        faults.point("staging.read")
        slices = _finish_slices(connection, source, request.shard_count, target)
        faults.point("staging.slices", target / f"{slices[0].shard_id}.parquet")
        reasons = quarantine.write(connection, source.name, readings, target / "quarantine.parquet")
        faults.point("staging.quarantine", target / "quarantine.parquet")
        snapshot = Snapshot(
            source=source.name,
            snapshot=folder.name,
            data_hash=data_hash,
            shard_count=request.shard_count,
            files=tuple(export.name for export in opened),
            size_bytes=sum(export.path.stat().st_size for export in opened),
            extra_columns=tuple(sorted({name for export in opened for name in export.extra_columns})),
            rows_in=sum(reading.record_count for reading in readings),
            rows_accepted=sum(part.record_count for part in slices),
            rows_quarantined=sum(reasons.values()),
            reasons=reasons,
            slices=tuple(slices),
        )
        _close_books(snapshot)
        publish_json(target / "snapshot.json", asdict(snapshot))
        # Before it is published: a folder named after the hash of other bytes than it holds would be reused later.
        _check_unchanged(source, request, stats)
    return snapshot


def _check_unchanged(source: Source, request: StagingRequest, stats: list[exports.FileStat]) -> None:
    if exports.stat_files(exports.find_files(source, request.sources), request.sources) != stats:
        raise SourceChangedError(f"A file of source '{source.name}' changed while it was read. It will be read again.")


def _prepare(export: exports.Export, number: int, scratch: Path, limit_bytes: int) -> quarantine.Reading:
    """Survey a file and decide what DuckDB reads: the file itself, or a mended copy without its damaged records."""
    if export.is_parquet:
        return quarantine.Reading(export, number, export.path, record_count=exports.parquet_row_count(export))
    try:
        survey = exports.survey(export, limit_bytes)
        readable = export.path
        # DuckDB would unpack gzip a second time, on one thread, and refuses padded files that every other tool reads.
        if not survey.is_regular or export.name.endswith(".gz"):
            readable = scratch / f"mended_{number}.csv"
            exports.mend(export, readable, limit_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{export.name} is a damaged gzip file ({error}). Export it again.") from error
    return quarantine.Reading(export, number, readable, record_count=survey.record_count)


def _blame_unreadable(connection: duckdb.DuckDBPyConnection, readings: Sequence[quarantine.Reading]) -> None:
    """Raise InputError for the Parquet file that cannot be read to its end, if any: DuckDB does not name it."""
    for reading in readings:
        if not reading.export.is_parquet:
            continue
        try:
            connection.execute(
                f"SELECT max(hash(row)) FROM read_parquet({duck.pattern_literal(reading.readable)}) row"
            ).fetchone()
        except duckdb.Error as error:
            detail = str(error).strip().splitlines()[0]
            raise InputError(f"{reading.export.name} is a damaged Parquet file ({detail}). Export it again.") from error


def _copy_partitioned(
    connection: duckdb.DuckDBPyConnection, source: Source, readings: Sequence[quarantine.Reading], target: Path
) -> None:
    """Parse, validate and route every row in one pass; the rejected ones land in a partition of their own."""
    rows = "\nUNION ALL\n".join(_rows_sql(source, reading) for reading in readings)
    parsed = ", ".join(f"{_parsed(column)} AS {column.name}" for column in source.columns)
    cells = ", ".join(f"{_cell(column)}" for column in source.columns if column.type is not ColumnType.TEXT)
    columns = ", ".join(column.name for column in source.columns)
    query = f"""
        WITH cells AS ({rows}),
        parsed AS (
            SELECT file_index, source_row, nullif(strip(cell_customer_id), '') AS customer_id, {parsed}, {cells}
            FROM cells
        ),
        judged AS (SELECT *, {_reason_sql(source)} AS reason FROM parsed)
        SELECT customer_id, {columns}, file_index, source_row, reason,
            CASE WHEN reason IS NULL THEN route(customer_id) ELSE {_REJECTED} END AS shard
        FROM judged"""
    connection.execute(
        f"COPY ({query}) TO {duck.literal(str(target))} ({_PARQUET}, PARTITION_BY (shard), OVERWRITE_OR_IGNORE)"
    )


def _rows_sql(source: Source, reading: quarantine.Reading) -> str:
    """One file's rows as text cells `cell_<column>` in contract order, numbered from 1 in file order."""
    export = reading.export
    cells = ", ".join(
        f"CAST({duck.identifier(reading.column(name))} AS VARCHAR) AS cell_{name}" for name in source.required
    )
    path = duck.pattern_literal(reading.readable)
    if export.is_parquet:
        return (
            f"SELECT {reading.number}::SMALLINT AS file_index, file_row_number + 1 AS source_row, {cells} "
            f"FROM read_parquet({path}, file_row_number = true)"
        )
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(export.columns)))
    # Explicit columns, no sniffing: a type guessed from the first rows is wrong for the last ones.
    return f"""
        SELECT {reading.number}::SMALLINT AS file_index, row_number() OVER () AS source_row, {cells}
        FROM read_csv({path}, columns = {{{columns}}}, auto_detect = false, header = true, delim = ',', quote = '"',
            escape = '"', strict_mode = true, compression = 'none', buffer_size = {_READ_BUFFER_BYTES},
            store_rejects = true, rejects_limit = 0, rejects_table = '{reading.rejects_table}',
            rejects_scan = '{reading.rejects_table}_scan')"""


def _cell(column: Column) -> str:
    return f"cell_{column.name}"


def _parsed(column: Column) -> str:
    if column.type is ColumnType.TEXT:
        return f"blank_to_null({_cell(column)})"
    return f"{_PARSERS[column.type]}({_cell(column)})"


def _reason_sql(source: Source) -> str:
    """The first rule of the contract that a row breaks, as SQL; null for a sound row."""
    whens = [
        "WHEN customer_id IS NULL THEN 'missing_customer_id'",
        f"WHEN length(customer_id) > {MAX_CUSTOMER_ID_CHARS} THEN 'invalid:{CUSTOMER_ID}'",
    ]
    for column in source.columns:
        if column.type is not ColumnType.TEXT:
            whens.append(f"WHEN {' OR '.join(_broken_rules(column))} THEN 'invalid:{column.name}'")
    return f"CASE {' '.join(whens)} END"


def _broken_rules(column: Column) -> Iterator[str]:
    yield f"({column.name} IS NULL AND blank_to_null({_cell(column)}) IS NOT NULL)"
    if column.minimum is not None:
        yield f"{column.name} < {column.minimum}"
    if column.maximum is not None:
        yield f"{column.name} > {column.maximum}"


def _finish_slices(
    connection: duckdb.DuckDBPyConnection, source: Source, shard_count: int, target: Path
) -> list[Slice]:
    """Give every shard its slice file, without superseded rows; those join the rejected ones."""
    connection.execute(
        "CREATE TEMP TABLE rejected (file_index SMALLINT, source_row BIGINT, customer_id VARCHAR, reason VARCHAR)"
    )
    columns = ", ".join(f"NULL::{column.type.value} AS {column.name}" for column in source.columns)
    nothing = (
        f"SELECT NULL::VARCHAR AS customer_id, {columns}, NULL::SMALLINT AS file_index, NULL::BIGINT AS source_row, "
        "NULL::VARCHAR AS reason WHERE false"
    )
    _take_partition(connection, nothing, target, _REJECTED, target / "rejected.parquet")
    connection.execute(
        "INSERT INTO rejected SELECT file_index, source_row, customer_id, reason FROM read_parquet(?)",
        [duck.pattern(target / "rejected.parquet")],
    )
    remove(target / "rejected.parquet")
    return [
        _finish_slice(connection, source, nothing, target, number, shard_id)
        for number, shard_id in enumerate(shard_keys(shard_count))
    ]


def _finish_slice(
    connection: duckdb.DuckDBPyConnection, source: Source, nothing: str, target: Path, number: int, shard_id: str
) -> Slice:
    path = target / f"{shard_id}.parquet"
    _take_partition(connection, nothing, target, number, path)
    record_count, customer_count, content_hash = _measure_slice(connection, source, path)
    if customer_count < record_count:
        _supersede(connection, path)
        record_count, customer_count, content_hash = _measure_slice(connection, source, path)
    return Slice(shard_id, record_count, content_hash)


def _take_partition(connection: duckdb.DuckDBPyConnection, nothing: str, target: Path, number: int, path: Path) -> None:
    """Move the one file COPY wrote for a partition to its name; a partition without rows becomes an empty file."""
    folder = target / f"shard={number}"
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    if len(files) == 1:
        os.rename(files[0], path)
        remove(folder)
        return
    rows = f"SELECT * FROM read_parquet({duck.pattern_literal(folder)} || '/*.parquet')" if files else nothing
    connection.execute(f"COPY ({rows}) TO {duck.literal(str(path))} ({_PARQUET})")
    remove(folder)


def _measure_slice(connection: duckdb.DuckDBPyConnection, source: Source, path: Path) -> tuple[int, int, str]:
    """Rows, distinct customers and content hash of a slice file."""
    row_hash = f"hash({', '.join(source.required)})"
    rows = f"read_parquet({duck.pattern_literal(path)})"
    # Deliberately two scans: beside other aggregates, counting distinct values takes three times as long.
    row = connection.execute(
        f"SELECT count(*), (SELECT count(DISTINCT customer_id) FROM {rows}), {content_hash_sql(row_hash)} FROM {rows}"
    ).fetchone()
    assert row is not None
    return row[0], row[1], row[2]


def content_hash_sql(row_hash: str) -> str:
    """A hash of a set of rows that does not depend on their order: count, xor and sum of DuckDB's hashes of the rows.

    For comparing data within one DuckDB version (which is part of every code version): it is eight times cheaper than
    a keyed hash of the text of every row.
    """
    return (
        f"printf('%d-%016x-%s', count(*), coalesce(bit_xor({row_hash}), 0::UBIGINT), "
        f"coalesce(sum(({row_hash} >> 1)::BIGINT), 0)::VARCHAR)"
    )


def _supersede(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Keep each customer's last row in file order; the earlier ones are recorded as superseded."""
    window = "row_number() OVER (PARTITION BY customer_id ORDER BY file_index DESC, source_row DESC)"
    connection.execute(
        "INSERT INTO rejected SELECT file_index, source_row, customer_id, 'superseded' "
        f"FROM read_parquet(?) QUALIFY {window} > 1",
        [duck.pattern(path)],
    )
    deduped = path.with_suffix(".deduped")
    connection.execute(
        f"COPY (SELECT * FROM read_parquet({duck.pattern_literal(path)}) t ANTI JOIN "
        "(SELECT file_index, source_row FROM rejected WHERE reason = 'superseded') r USING (file_index, source_row)) "
        f"TO {duck.literal(str(deduped))} ({_PARQUET})"
    )
    os.replace(deduped, path)


def _close_books(snapshot: Snapshot) -> None:
    if snapshot.rows_in != snapshot.rows_accepted + snapshot.rows_quarantined:
        raise AccountingError(
            f"Source '{snapshot.source}': {snapshot.rows_in} rows in the files, but {snapshot.rows_accepted} accepted "
            f"and {snapshot.rows_quarantined} quarantined. Nothing was published; this is a defect of etl_assets, "
            f"please report it with the files {', '.join(snapshot.files)}."
        )


def _check_reject_ratio(snapshot: Snapshot, request: StagingRequest) -> None:
    if snapshot.reject_ratio <= request.max_reject_ratio:
        return
    counts = ", ".join(f"{reason} {count}" for reason, count in sorted(snapshot.reasons.items()))
    path = request.home.snapshot(snapshot.source, snapshot.snapshot) / "quarantine.parquet"
    raise RejectRatioError(
        f"Source '{snapshot.source}': {snapshot.reject_ratio:.1%} of {snapshot.rows_in} rows broke the contract, at "
        f"most {request.max_reject_ratio:.1%} are allowed ({counts}). The rejected rows with file, line and "
        f"reason are in {path}. Mend the export, or raise ETL_MAX_REJECT_RATIO, then run: etl-assets run"
    )


def _sweep_snapshots(source: Source, home: Home, keep: str) -> None:
    """Remove snapshots that are no longer current, once no shard can still be reading them."""
    folder = home.staged / source.name
    sweep(folder)
    for path in folder.iterdir():
        is_old = path.is_dir() and path.name != keep and not path.name.startswith(".")
        # Another run may sweep the same folder.
        with contextlib.suppress(FileNotFoundError):
            if is_old and time.time() - path.stat().st_mtime > _SNAPSHOT_GRACE_S:
                remove(path)


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """The accounting of a snapshot as flat numbers, for metadata and reports."""
    return {
        "rows_in": snapshot.rows_in,
        "rows_accepted": snapshot.rows_accepted,
        "rows_quarantined": snapshot.rows_quarantined,
        "reject_ratio": round(snapshot.reject_ratio, 6),
        "size_bytes": snapshot.size_bytes,
    }
