"""Exports to a snapshot: rows validated, typed and routed into one immutable slice a shard, all others to quarantine.

A source is read once whatever the number of shards: when every shard reads and filters all files, the cost grows with
shards × data. A snapshot is content-addressed and published whole, then the source's pointer is set to it.
"""

import gzip
import time
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from etl_assets.engine import duck, faults
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import (
    QUARANTINE_FILE,
    Snapshot,
    is_of_site,
    load_snapshot,
    read_pointer,
    snapshot_id,
    write_accounting,
)
from etl_assets.engine.reading import exports, quarantine
from etl_assets.engine.reading.forms import MACROS
from etl_assets.engine.reading.judging import PARTITION, judged_rows_sql
from etl_assets.engine.routing import route_macro
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import literal, pattern_literal
from etl_assets.engine.steps.slices import PARQUET, finish_slices
from etl_assets.errors import AccountingError, Action, Advice, InputError, RejectRatioError, SourceChangedError
from etl_assets.project.contract import Source

# Rows of all slices together that DuckDB collects before it hands them to the slices' writers. Each writer gathers some
# sixty portions for a row group, so smaller portions take less memory. With six times as many rows, thirty slices of
# ten million rows did not fit into 350 MB, and spilling took as long as the rest.
_FLUSH_ROWS = 8_192
# A file that changed less than this before its stats were taken may change again and keep its time stamps.
_STAMP_GRANULARITY_NS = 1_000_000_000
# Old snapshots stay this long for shards that are still reading them.
_SNAPSHOT_GRACE_S = 3600.0


@dataclass(frozen=True)
class StagingRequest:
    """The parameters of `stage`; `exports` is the folder of the files."""

    site: Site
    exports: Path
    max_reject_ratio: float
    limits: duck.Limits
    max_unpacked_mb: int = 16 * 1024


def stage(source: Source, request: StagingRequest, *, force: bool = False) -> tuple[Snapshot, bool]:
    """Make the current snapshot of a source; returns it and whether an earlier one was reused.

    Raises InputError for files that break the contract as a whole, RejectRatioError for too many bad rows (the
    snapshot stays on disk for inspection but does not become current), SourceChangedError when a file changed.
    """
    home = request.site.home
    paths = exports.find_files(source, request.exports)
    looked_at_ns = time.time_ns()
    stats = exports.stat_files(paths, request.exports)
    known = None if force else _known_snapshot(source, request, stats)
    if known is not None:
        _check_reject_ratio(known, request)
        return known, True
    opened = exports.open_exports(source, request.exports)
    data_hash = exports.hash_files(paths)
    name = snapshot_id(request.site, source, data_hash, [export.name for export in opened])
    snapshot = None if force else load_snapshot(home, source.name, name)
    reused = snapshot is not None
    if snapshot is None:
        snapshot = _build(source, request, opened, data_hash, _free_folder(home, source, name), stats)
    _check_unchanged(source, request, stats)
    _check_reject_ratio(snapshot, request)
    pointer = {
        "folder": snapshot.folder,
        "looked_at_ns": looked_at_ns,
        "files": [asdict(stat) for stat in stats],
    }
    publishing.publish_json(home.source_pointer(source.name), pointer, what="pointer")
    _sweep_snapshots(source, home, keep=snapshot.folder)
    return snapshot, reused


def is_current(source: Source, request: StagingRequest) -> bool:
    """Whether staging would take the current snapshot as it is; decided by the files' stats, without reading them."""
    stats = exports.stat_files(exports.find_files(source, request.exports), request.exports)
    known = _known_snapshot(source, request, stats)
    return known is not None and known.reject_ratio <= request.max_reject_ratio


def _known_snapshot(source: Source, request: StagingRequest, stats: list[exports.FileStat]) -> Snapshot | None:
    """The current snapshot if the files' stats prove that it is still theirs."""
    pointer = read_pointer(request.site.home, source.name)
    if not pointer or pointer.get("files") != [asdict(stat) for stat in stats]:
        return None
    settled_ns = pointer["looked_at_ns"] - _STAMP_GRANULARITY_NS
    if any(max(stat.changed_ns, stat.modified_ns) > settled_ns for stat in stats):
        return None
    snapshot = load_snapshot(request.site.home, source.name, pointer["folder"])
    return snapshot if snapshot is not None and is_of_site(request.site, snapshot) else None


def _free_folder(home: Home, source: Source, name: str) -> str:
    """The snapshot's own name, or another one where that is taken: by a damaged one, or by one that is made again.

    Folders are never replaced, so that a shard that is reading one never finds it gone.
    """
    taken = home.snapshot(source.name, name).exists()
    return f"{name}-{uuid.uuid4().hex[:6]}" if taken else name


def _build(
    source: Source,
    request: StagingRequest,
    opened: list[exports.Export],
    data_hash: str,
    folder: str,
    stats: list[exports.FileStat],
) -> Snapshot:
    """Read the files, write slices and quarantine, close the books, publish the folder."""
    site = request.site
    target_folder = site.home.snapshot(source.name, folder)
    publishing.sweep(target_folder.parent)
    publishing.sweep(site.home.scratch)
    with (
        publishing.scratch_directory(site.home) as scratch,
        publishing.publish_directory(target_folder, what="snapshot") as target,
        duck.workbench(
            request.limits, scratch, folders=[request.exports, site.home.staged], flush_rows=_FLUSH_ROWS
        ) as connection,
    ):
        duck.add_macros(connection, MACROS)
        duck.add_hashing(connection)
        connection.execute(route_macro(site.shard_count))
        readings = _write_partitions(connection, source, request, opened, scratch, target)
        faults.point("staging.read")
        slices = finish_slices(connection, source, site.shard_ids, target)
        faults.point("staging.slices", target / f"{slices[0].shard_id}.parquet")
        reasons, cell_reasons = quarantine.write(connection, source, readings, target / QUARANTINE_FILE)
        faults.point("staging.quarantine", target / QUARANTINE_FILE)
        snapshot = Snapshot(
            source=source.name,
            id=snapshot_id(site, source, data_hash, [export.name for export in opened]),
            folder=folder,
            data_hash=data_hash,
            shard_count=site.shard_count,
            files=tuple(export.name for export in opened),
            size_bytes=sum(stat.size_bytes for stat in stats),
            extra_columns=tuple(sorted({name for export in opened for name in export.extra_columns})),
            rows_in=sum(reading.record_count for reading in readings),
            rows_accepted=sum(part.record_count for part in slices),
            rows_quarantined=sum(reasons.values()),
            reasons=reasons,
            cell_reasons=cell_reasons,
            slices=tuple(slices),
        )
        _close_books(snapshot)
        write_accounting(target, snapshot)
        # Before it is published: a folder named after the hash of other bytes than it holds would be reused later.
        _check_unchanged(source, request, stats)
    return snapshot


def _write_partitions(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    request: StagingRequest,
    opened: Sequence[exports.Export],
    scratch: Path,
    target: Path,
) -> list[quarantine.Reading]:
    """Parse, validate and route every row in one pass; the rejected ones land in a partition of their own."""
    limit_bytes = request.max_unpacked_mb << 20
    readings = [prepare(export, number, scratch, limit_bytes) for number, export in enumerate(opened)]
    rows = judged_rows_sql(source, readings)
    try:
        connection.execute(
            f"COPY ({rows}) TO {literal(str(target))} ({PARQUET}, PARTITION_BY ({PARTITION}), OVERWRITE_OR_IGNORE)"
        )
    except duckdb.Error:
        _name_unreadable(connection, readings)
        raise
    return readings


def prepare(export: exports.Export, number: int, scratch: Path, limit_bytes: int) -> quarantine.Reading:
    """Survey a file and decide what DuckDB reads: the file itself, or a copy of its sound records."""
    if export.is_parquet:
        return quarantine.Reading(export, number, export.path, record_count=exports.parquet_row_count(export))
    try:
        survey = exports.survey(export, limit_bytes)
        readable = export.path
        # DuckDB would unpack gzip a second time, on one thread, and refuses padded files that every other tool reads.
        if not survey.is_regular or export.name.endswith(".gz"):
            readable = scratch / f"sound_{number}.csv"
            exports.write_sound_records(export, readable, limit_bytes)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{export.name} is a damaged gzip file ({error}).", Advice(Action.EXPORT_AGAIN)) from error
    return quarantine.Reading(export, number, readable, record_count=survey.record_count)


def _name_unreadable(connection: duckdb.DuckDBPyConnection, readings: Sequence[quarantine.Reading]) -> None:
    """Raise InputError for the Parquet file that cannot be read to its end, if any: DuckDB does not name it."""
    for reading in readings:
        if not reading.export.is_parquet:
            continue
        try:
            connection.execute(
                f"SELECT max(hash(row)) FROM read_parquet({pattern_literal(reading.readable)}) row"
            ).fetchone()
        except duckdb.Error as error:
            detail = str(error).strip().splitlines()[0]
            raise InputError(
                f"{reading.export.name} is a damaged Parquet file ({detail}).", Advice(Action.EXPORT_AGAIN)
            ) from error


def _check_unchanged(source: Source, request: StagingRequest, stats: list[exports.FileStat]) -> None:
    if exports.stat_files(exports.find_files(source, request.exports), request.exports) != stats:
        raise SourceChangedError(f"A file of source '{source.name}' changed while it was read.", subject=source.name)


def _close_books(snapshot: Snapshot) -> None:
    if snapshot.rows_in != snapshot.rows_accepted + snapshot.rows_quarantined:
        raise AccountingError(
            f"Source '{snapshot.source}': {snapshot.rows_in} rows in the files, but {snapshot.rows_accepted} accepted "
            f"and {snapshot.rows_quarantined} quarantined. Nothing was published. Files: {', '.join(snapshot.files)}.",
            Advice(Action.REPORT),
            subject=snapshot.source,
        )


def _check_reject_ratio(snapshot: Snapshot, request: StagingRequest) -> None:
    if snapshot.reject_ratio <= request.max_reject_ratio:
        return
    counts = ", ".join(
        [f"{reason} {count}" for reason, count in sorted(snapshot.reasons.items())]
        + [f"{reason} {count} cells" for reason, count in sorted(snapshot.cell_reasons.items())]
    )
    path = request.site.home.snapshot(snapshot.source, snapshot.folder) / QUARANTINE_FILE
    raise RejectRatioError(
        f"Source '{snapshot.source}': {snapshot.reject_ratio:.1%} of {snapshot.rows_in} rows broke the contract, at "
        f"most {request.max_reject_ratio:.1%} are allowed ({counts}). The rejected rows with file, line and "
        f"reason are in {path}.",
        Advice(Action.EXPORT_AGAIN),
        Advice(Action.SET, "ETL_MAX_REJECT_RATIO", f"{_rounded_up(snapshot.reject_ratio):g}"),
        subject=snapshot.source,
    )


def _rounded_up(share: float) -> float:
    return min(1.0, int(share * 100 + 1) / 100)


def _sweep_snapshots(source: Source, home: Home, keep: str) -> None:
    """Remove snapshots that are not current any more, once no shard can still be reading them."""
    folder = home.staged / source.name
    publishing.sweep(folder)
    for path, changed_s in publishing.list_folders(folder).items():
        if path.name != keep and time.time() - changed_s > _SNAPSHOT_GRACE_S:
            publishing.remove(path)
