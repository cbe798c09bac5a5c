"""Exports to a snapshot: rows validated, typed and routed into one immutable slice a shard, all others to quarantine.

A source is read once whatever the number of shards: when every shard reads and filters all files, the cost grows with
shards × data. A snapshot is content-addressed and published whole, then the source's pointer is set to it.
"""

import contextlib
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.engine import duck, faults
from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.holding import hold, sweep_accepted, sweep_replaced
from etl_assets.engine.published.snapshots import (
    QUARANTINE_FILE,
    Pointer,
    Snapshot,
    is_of_site,
    load_snapshot,
    read_pointer,
    snapshot_id,
    write_accounting,
)
from etl_assets.engine.reading import exports, parquet, parquet_values, quarantine, surveying, verified, workbooks
from etl_assets.engine.reading.blaming import naming_files
from etl_assets.engine.reading.exports import Export
from etl_assets.engine.reading.forms import MACROS
from etl_assets.engine.reading.judging import PARTITION, judged_rows_sql
from etl_assets.engine.reading.mapping import Inputs, add_key_map, drop_key_map, find_inputs, map_source, unmatched_ids
from etl_assets.engine.reading.quarantine import Reading
from etl_assets.engine.reading.strays import refuse_strays
from etl_assets.engine.routing import route_macro
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import literal
from etl_assets.engine.steps.accounting import check_reject_ratio, close_books
from etl_assets.engine.steps.collapsing import check_collapse, count_repeated, is_collapsed
from etl_assets.engine.steps.refusing import Refusal, refusing
from etl_assets.engine.steps.report_rows import report_rows
from etl_assets.engine.steps.shrinking import ShrinkLimit, check_source
from etl_assets.engine.steps.slices import PARQUET, finish_slices
from etl_assets.engine.stopping import Stop
from etl_assets.errors import AttemptTimeoutError, SourceChangedError
from etl_assets.project.contract import Source

# Rows of all slices together that DuckDB collects before it hands them to the slices' writers. Each writer gathers some
# sixty portions for a row group, so smaller portions take less memory. With six times as many rows, thirty slices of
# ten million rows did not fit into 350 MB, and spilling took as long as the rest.
_FLUSH_ROWS = 8_192
# A file that changed less than this before its stats were taken may change again and keep its time stamps.
_STAMP_GRANULARITY_NS = 1_000_000_000


@dataclass(frozen=True)
class StagingRequest:
    """The parameters of `stage`; `exports` is the folder of the files. A time limit of 0 is none."""

    site: Site
    exports: Path
    max_reject_ratio: float
    limits: duck.Limits
    max_unpacked_mb: int = 16 * 1024
    timeout_s: float = 0.0
    max_superseded_ratio: float = 1.0
    shrink: ShrinkLimit = field(default_factory=ShrinkLimit)


@dataclass(frozen=True)
class _Opened:
    """The opened files of a source and of its key map, their stats, and the hash of all their bytes."""

    exports: list[Export]
    maps: list[Export]
    inputs: Inputs
    data_hash: str

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(export.name for export in self.exports)

    @property
    def map_files(self) -> tuple[str, ...]:
        return tuple(export.name for export in self.maps)


def stage(source: Source, request: StagingRequest, *, force: bool = False) -> tuple[Snapshot, bool]:
    """Make the current snapshot of a source; returns it and whether an earlier one was reused.

    Raises InputError for files that break the contract as a whole, RejectRatioError for too many bad rows,
    CollapsedError for ids that most rows share, ShrunkError for far fewer rows than were published (the snapshot stays
    on disk for inspection but does not become current), SourceChangedError when a file changed, AttemptTimeoutError
    beyond the time limit.
    """
    error = AttemptTimeoutError(
        f"Source '{source.name}' took longer than ETL_SOURCE_TIMEOUT_S={request.timeout_s:g} seconds and was "
        "interrupted.",
        subject=source.name,
    )
    stop = request.limits.stop
    home = request.site.home
    with refusing(home, source.name) as refusal, stop.within(request.timeout_s, error) as within:
        limited = replace(request, limits=replace(request.limits, stop=within))
        with faults.stopped_by(within):
            return _stage(source, limited, refusal, force=force)


def _stage(source: Source, request: StagingRequest, refusal: Refusal, *, force: bool) -> tuple[Snapshot, bool]:
    home, stop = request.site.home, request.limits.stop
    looked_at_ns = time.time_ns()
    refuse_strays(request.site.contract, source, request.exports)
    inputs = find_inputs(source, request.exports)
    known = None if force else _known_snapshot(source, request, inputs)
    if known is not None:
        refusal.snapshot = known
        check_reject_ratio(home, source, known, request.max_reject_ratio)
        check_collapse(request.site, source, known, request.max_superseded_ratio)
        sweep_accepted(home, source.name)
        return known, True
    opened = _Opened(
        *open_inputs(source, request.exports, inputs, stop),
        inputs,
        verified.hash_files(request.exports, inputs.all, stop),
    )
    # Held until the pointer names it: another run sweeps what no pointer names.
    snapshot = None if force else _earlier(source, request, opened, refusal.holder)
    reused = snapshot is not None
    if snapshot is None:
        snapshot = _build(source, request, opened, refusal.holder)
    _check_unchanged(source, request, inputs)
    # Before the pointer is written as well as after: without file locks, its age tells how long others are unread.
    sweep_replaced(home, source.name, snapshot.folder)
    refusal.snapshot = snapshot
    check_reject_ratio(home, source, snapshot, request.max_reject_ratio)
    check_collapse(request.site, source, snapshot, request.max_superseded_ratio)
    is_shrink_accepted = check_source(home, snapshot, request.shrink)
    pointer = Pointer(snapshot.folder, looked_at_ns, inputs.all, is_shrink_accepted)
    publishing.publish_json(home.source_pointer(source.name), asdict(pointer), what="pointer")
    sweep_accepted(home, source.name)
    return snapshot, reused


def is_current(source: Source, request: StagingRequest) -> bool:
    """Whether staging would take the current snapshot as it is; decided by the files' stats, without reading them."""
    known = _known_snapshot(source, request, find_inputs(source, request.exports))
    if known is None or is_collapsed(source, known, request.max_superseded_ratio):
        return False
    return known.reject_ratio <= request.max_reject_ratio


def is_key_map_changed(source: Source, request: StagingRequest) -> bool:
    """Whether only the files of the key map differ from those of the current snapshot."""
    pointer = read_pointer(request.site.home, source.name)
    inputs = find_inputs(source, request.exports)
    count = len(inputs.exports)
    return pointer is not None and pointer.files[:count] == inputs.exports and pointer.files[count:] != inputs.maps


def open_inputs(
    source: Source, root: Path, inputs: Inputs, stop: Stop | None = None
) -> tuple[list[Export], list[Export]]:
    """Read the headers of a source's files, and of those of its key map; InputError as for `open_exports`."""
    mapped = map_source(source)
    opened = exports.open_exports(source, root, inputs.exports, stop)
    maps = exports.open_exports(mapped, root, inputs.maps, stop) if mapped else []
    parquet_values.require_types(opened, source)
    if mapped:
        parquet_values.require_types(maps, mapped)
    return opened, maps


def _known_snapshot(source: Source, request: StagingRequest, inputs: Inputs) -> Snapshot | None:
    """The current snapshot if the files' stats prove that it is still theirs."""
    pointer = read_pointer(request.site.home, source.name)
    if pointer is None or pointer.files != inputs.all:
        return None
    settled_ns = pointer.looked_at_ns - _STAMP_GRANULARITY_NS
    if any(max(stat.changed_ns, stat.modified_ns) > settled_ns for stat in inputs.all):
        return None
    snapshot = load_snapshot(request.site.home, source.name, pointer.folder)
    return snapshot if snapshot is not None and is_of_site(request.site, snapshot) else None


def _earlier(source: Source, request: StagingRequest, opened: _Opened, holder: contextlib.ExitStack) -> Snapshot | None:
    """The existing snapshot of these bytes; `holder` keeps it."""
    home = request.site.home
    name = snapshot_id(request.site, source, opened.data_hash, opened.files, opened.map_files)
    snapshot = load_snapshot(home, source.name, name)
    facts = (name, opened.data_hash, opened.files)
    if snapshot is None or (snapshot.id, snapshot.data_hash, snapshot.files) != facts:
        return None
    try:
        hold(home, source.name, name, holder)
    except SourceChangedError:
        return None
    return snapshot


def _free_folder(home: Home, source: Source, name: str) -> str:
    """The snapshot's own name, or another one where that is taken: by a damaged one, or by one that is made again.

    Folders are never replaced, so that a shard that is reading one never finds it gone.
    """
    taken = publishing.stamp(home.snapshot(source.name, name)) != publishing.MISSING
    return f"{name}-{uuid.uuid4().hex[:6]}" if taken else name


def _build(source: Source, request: StagingRequest, opened: _Opened, holder: contextlib.ExitStack) -> Snapshot:
    """Read the files, write slices and quarantine, close the books, publish the folder, which `holder` keeps."""
    site = request.site
    name = snapshot_id(site, source, opened.data_hash, opened.files, opened.map_files)
    folder = _free_folder(site.home, source, name)
    target_folder = site.home.snapshot(source.name, folder)
    sweeping.sweep(target_folder.parent)
    sweeping.sweep(site.home.scratch)
    with (
        publishing.scratch_directory(site.home) as scratch,
        publishing.publish_directory(target_folder, what="snapshot", holder=holder) as target,
        contextlib.ExitStack() as files,
        duck.workbench(
            request.limits,
            scratch,
            folders=[request.exports, *site.home.staged_folders([source.name])],
            flush_rows=_FLUSH_ROWS,
        ) as connection,
    ):
        _add_functions(connection, site)
        inputs = enumerate([*opened.exports, *opened.maps])
        prepared = [prepare(one, number, scratch, request.max_unpacked_mb << 20, files) for number, one in inputs]
        readings, map_readings = prepared[: len(opened.exports)], prepared[len(opened.exports) :]
        with naming_files(prepared, request.limits.stop):
            key_map = add_key_map(connection, source, map_readings)
            _write_partitions(connection, source, readings, target)
            drop_key_map(connection)
        faults.point("staging.read")
        slices = finish_slices(connection, source, site.shard_ids, target)
        faults.point("staging.slices", target / f"{slices[0].shard_id}.parquet")
        with naming_files(readings, request.limits.stop):
            reasons, cell_reasons = quarantine.write(connection, source, readings, target / QUARANTINE_FILE)
        faults.point("staging.quarantine", target / QUARANTINE_FILE)
        snapshot = Snapshot(
            source=source.name,
            id=name,
            folder=folder,
            data_hash=opened.data_hash,
            shard_count=site.shard_count,
            size_bytes=sum(stat.size_bytes for stat in opened.inputs.all),
            **_of_files(opened, readings),
            rows_in=sum(reading.record_count for reading in readings),
            rows_accepted=sum(part.record_count for part in slices),
            rows_quarantined=sum(reasons.values()),
            reasons=reasons,
            cell_reasons=cell_reasons,
            slices=tuple(slices),
            **report_rows(connection, source, readings, target),
            rows_repeated=count_repeated(connection, source, target, len(opened.files)),
            unended_files=tuple(reading.export.name for reading in readings if reading.is_unended),
            key_map=replace(key_map, unmatched=unmatched_ids(connection, source)) if key_map else None,
        )
        close_books(snapshot)
        write_accounting(target, snapshot)
        # Before it is published: a folder named after the hash of other bytes than it holds would be reused later.
        _check_unchanged(source, request, opened.inputs)
    # Where another run has published the name first, its folder is kept instead.
    hold(site.home, source.name, folder, holder)
    return snapshot


def _of_files(opened: _Opened, readings: Sequence[Reading]) -> dict[str, Any]:
    """What a snapshot says of its files."""
    return {
        "files": opened.files,
        "rows_empty": sum(reading.empty_row_count for reading in readings),
        "file_rows": tuple(reading.record_count for reading in readings),
        "file_times": tuple(stat.modified_at for stat in opened.inputs.exports),
        "extra_columns": tuple(sorted({name for export in opened.exports for name in export.extra_columns})),
        "absent_columns": tuple(sorted(frozenset.intersection(*(frozenset(one.absent) for one in opened.exports)))),
    }


def _add_functions(connection: duckdb.DuckDBPyConnection, site: Site) -> None:
    """Define what the statements of staging call."""
    duck.add_macros(connection, MACROS)
    duck.add_hashing(connection)
    connection.execute(route_macro(site.shard_count))


def prepare(export: Export, number: int, scratch: Path, limit_bytes: int, files: contextlib.ExitStack) -> Reading:
    """Survey a file and decide what DuckDB reads: the file itself, held open in `files`, or a copy of its records."""
    if export.is_parquet:
        record_count = parquet.row_count(export, limit_bytes)
        return Reading(export, number, files.enter_context(export.held()), record_count, limit_bytes)
    copy = scratch / f"sound_{number}.csv"
    if export.is_objects:
        record_count = surveying.write_objects(export, copy, limit_bytes)
        return Reading(export, number, copy, record_count, limit_bytes, is_copy=True)
    if export.is_sheet:
        converted = scratch / f"sheet_{number}.csv"
        workbooks.write_sheet(export.root, export.stat, export.sheet, export.stop, limit_bytes, converted)
        export = replace(export, converted=converted)
    survey = surveying.survey(export, limit_bytes)
    # DuckDB would unpack gzip a second time, on one thread, and refuses padded files that every other tool reads.
    if survey.is_regular and not export.packing:
        held = files.enter_context(export.held())
        return Reading(export, number, held, survey.record_count, limit_bytes, is_unended=survey.is_unended)
    surveying.write_sound_records(export, copy, limit_bytes)
    reading = Reading(export, number, copy, survey.record_count, limit_bytes, is_copy=True)
    return replace(reading, is_unended=survey.is_unended, empty_row_count=survey.empty_row_count)


def _write_partitions(
    connection: duckdb.DuckDBPyConnection, source: Source, readings: Sequence[Reading], target: Path
) -> None:
    """Parse, validate and route every row in one pass; the rejected ones land in a partition of their own."""
    parquet_values.require_values([reading.export for reading in readings], source)
    rows = judged_rows_sql(source, readings)
    connection.execute(
        f"COPY ({rows}) TO {literal(str(target))} ({PARQUET}, PARTITION_BY ({PARTITION}), OVERWRITE_OR_IGNORE)"
    )


def _check_unchanged(source: Source, request: StagingRequest, inputs: Inputs) -> None:
    if find_inputs(source, request.exports) != inputs:
        raise SourceChangedError(f"A file of source '{source.name}' changed while it was read.", subject=source.name)
