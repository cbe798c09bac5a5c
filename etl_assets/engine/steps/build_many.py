"""Many shards in one process: each attempt is recorded, and a failed shard does not stop the others."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from etl_assets.engine import faults, workers
from etl_assets.engine.duck import Limits, Workbenches
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.lake.store import Found
from etl_assets.engine.published import attempts
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.holding import current_held
from etl_assets.engine.published.lake_shards import known_manifest, reusable_in_lake
from etl_assets.engine.published.mirroring import fetch_rows, fetch_sources, send_attempt
from etl_assets.engine.published.shards import (
    FILES_A_STATEMENT,
    Manifest,
    ShardInput,
    read_shard,
    reusable,
    shard_input,
    verify_shards,
    why_unfit,
)
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.withdrawing import require_undamaged
from etl_assets.engine.site import Site
from etl_assets.engine.steps.build import build_shard, is_small, join_small, workbenches
from etl_assets.engine.steps.joining import is_row_wise
from etl_assets.engine.steps.lake_build import build_in_lake
from etl_assets.engine.stopping import Stop
from etl_assets.errors import (
    AccountingError,
    AttemptTimeoutError,
    ConfigError,
    ProfileError,
    SourceChangedError,
    StoreError,
)

# Memory of a joined row of a source, measured with the rows of the sample data.
_BYTES_A_SOURCE_ROW = 200
# Rows of small shards that are verified in one statement.
_ROWS_A_BATCH = 50_000
# So many small shards to build are worth a join of their own.
_JOINED_TOGETHER = 32


@dataclass(frozen=True)
class ShardsRequest:
    """A request to build shards; `limits` are shared by all shards that are built at once."""

    site: Site
    limits: Limits
    run_id: str
    attempt: int
    force: bool = False
    timeout_s: float = 0.0


@dataclass(frozen=True)
class ShardResult:
    """How an attempt ended: with a manifest, or with an error."""

    attempt: Attempt
    manifest: Manifest | None
    error: Exception | None


# The sources' snapshots, read once for all shards; or the error that each attempt then reports.
_Staged = Mapping[str, Snapshot] | ConfigError | SourceChangedError | StoreError


def build_shards(request: ShardsRequest, shard_ids: Sequence[str]) -> Generator[Attempt | ShardResult, None, None]:
    """Build these shards or reuse what is published; yields each attempt when it starts and its result when it ends."""
    with contextlib.ExitStack() as holder:
        try:
            # Held for all of the time: a run that stages the sources again would sweep the slices that are read here.
            if request.site.lake is not None:
                fetch_sources(request.site)
            staged: _Staged = holder.enter_context(current_held(request.site))
        except (ConfigError, SourceChangedError, StoreError) as error:
            staged = error
        yield from _build(request, staged, shard_ids)


def _build(
    request: ShardsRequest, staged: _Staged, shard_ids: Sequence[str]
) -> Generator[Attempt | ShardResult, None, None]:
    site, stop = request.site, request.limits.stop
    worker_count = side_by_side(request.limits, {} if isinstance(staged, Exception) else staged, shard_ids)
    with (
        publishing.scratch_directory(site.home) as scratch,
        workbenches(site, request.limits.share(worker_count), scratch) as benches,
    ):
        joined = _joined(request, staged, shard_ids, benches, scratch)

        def work(shard_id: str, report: Callable[[Attempt | ShardResult], None]) -> None:
            with faults.scope(shard_id=shard_id, attempt=request.attempt, stop=request.limits.stop):
                begun = attempts.start(request.site.home, shard_id, request.run_id, request.attempt)
                report(begun)
                report(_attempted(request, staged, begun, benches, joined.get(shard_id)))

        yield from workers.run(work, shard_ids, worker_count, stop)


def _joined(
    request: ShardsRequest, staged: _Staged, shard_ids: Sequence[str], benches: Workbenches, scratch: Path
) -> dict[str, Path]:
    """The database that holds a shard's profiles already, for small shards of which there are many to build."""
    site = request.site
    if isinstance(staged, Exception) or len(shard_ids) < _JOINED_TOGETHER or not is_row_wise(site):
        return {}
    inputs = [shard_input(site, staged, shard_id) for shard_id in shard_ids]
    small = [given for given in inputs if is_small(given) and (request.force or _is_unfit(site, given))]
    if len(small) < _JOINED_TOGETHER:
        return {}
    target = scratch / "joined.duckdb"
    if site.lake is not None:
        fetch_rows(site, staged, [given.shard_id for given in small])
    try:
        join_small(site, small, benches, request.limits.stop, target)
    except duckdb.Error:
        # Each shard finds out on its own what is wrong, and reports it.
        request.limits.stop.check()
        return {}
    return {given.shard_id: target for given in small}


def _is_unfit(site: Site, given: ShardInput) -> bool:
    if site.lake is not None:
        return reusable_in_lake(site, given, known_manifest(site, given)) is None
    return why_unfit(site, read_shard(site.home, given.shard_id), given) is not None


def side_by_side(limits: Limits, snapshots: Mapping[str, Snapshot], shard_ids: Iterable[str]) -> int:
    """How many of the shards are built at once: one a thread, and fewer where their joins would not fit in memory.

    Small shards on a thread each cost the least. A large one that spills takes longer than one that is built alone,
    by all threads and with all of the memory.
    """
    row_count = max(
        (sum(s.slice_of(shard_id).record_count for s in snapshots.values()) for shard_id in shard_ids), default=0
    )
    fit = (limits.memory_mb << 20) // max(1, row_count * _BYTES_A_SOURCE_ROW)
    return max(1, min(limits.threads, fit))


def unfinished(home: Home, run_id: str, shard_ids: Sequence[str]) -> list[str]:
    """Those of the shards that this run has not finished yet: all of them, unless it is being retried."""
    latest = attempts.latest_attempts(home, shard_ids)
    done = {attempt.shard_id for attempt in latest if attempt.run_id == run_id and attempt.status.is_done}
    return [shard_id for shard_id in shard_ids if shard_id not in done]


def damaged(home: Home, manifests: Sequence[Manifest], worker_count: int) -> list[str]:
    """Those of the published shards whose files, read whole, do not hold what their manifests say."""

    def work(batch: Sequence[Manifest], report: Callable[[str], None]) -> None:
        for shard_id in verify_shards(home, batch):
            report(shard_id)

    return list(workers.run(work, list(_batches(manifests)), worker_count, Stop()))


def _batches(manifests: Iterable[Manifest]) -> Iterator[list[Manifest]]:
    """Small shards together, large ones each on their own."""
    batch: list[Manifest] = []
    for manifest in manifests:
        batch.append(manifest)
        if len(batch) == FILES_A_STATEMENT or sum(m.record_count for m in batch) >= _ROWS_A_BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


def _attempted(
    request: ShardsRequest, staged: _Staged, begun: Attempt, benches: Workbenches, joined: Path | None
) -> ShardResult:
    home = request.site.home
    try:
        if isinstance(staged, Exception):
            raise staged
        manifest, status = _built_or_reused(request, staged, begun, benches, joined)
    except Exception as error:  # noqa: BLE001  reported with its shard; the caller decides what becomes of the run
        status = Status.CANCELLED if request.limits.stop.requested else Status.FAILED
        failed = attempts.finish(home, begun, status, error=f"{type(error).__name__}: {error}")
        send_attempt(request.site, failed)
        return ShardResult(failed, None, error)
    done = attempts.finish(home, begun, status, record_count=manifest.record_count)
    send_attempt(request.site, done)
    return ShardResult(done, manifest, None)


def _built_or_reused(
    request: ShardsRequest,
    snapshots: Mapping[str, Snapshot],
    begun: Attempt,
    benches: Workbenches,
    joined: Path | None,
) -> tuple[Manifest, Status]:
    error = AttemptTimeoutError(
        f"{begun.shard_id} took longer than ETL_SHARD_TIMEOUT_S={request.timeout_s:g} seconds and was interrupted.",
        subject=begun.shard_id,
    )
    with (
        request.limits.stop.within(request.timeout_s, error) as stop,
        faults.scope(shard_id=begun.shard_id, attempt=request.attempt, stop=stop),
    ):
        given = shard_input(request.site, snapshots, begun.shard_id)
        known = known_manifest(request.site, given) if request.site.lake is not None else None
        if not request.force and request.site.lake is not None:
            in_lake = reusable_in_lake(request.site, given, known)
            if in_lake is not None:
                return in_lake, Status.REUSED
        elif not request.force:
            with benches.one(stop) as connection:
                published = reusable(request.site, given, connection)
            if published is not None:
                return published, Status.REUSED
        try:
            built = _build_one(request, given, benches, stop, joined, known)
        except (duckdb.Error, AccountingError, ProfileError):
            # DuckDB raises errors of several types for a damaged file. Interrupted work needs no look at the files.
            stop.check()
            require_undamaged(request.site, request.limits, snapshots, [begun.shard_id])
            raise
        return built, Status.SUCCEEDED


def _build_one(
    request: ShardsRequest,
    given: ShardInput,
    benches: Workbenches,
    stop: Stop,
    joined: Path | None,
    known: Found | None,
) -> Manifest:
    site, run_id, attempt = request.site, request.run_id, request.attempt
    if site.lake is None:
        return build_shard(site, given, benches, stop, run_id=run_id, attempt=attempt, joined=joined)
    fetch_rows(site, given.snapshots, [given.shard_id])
    return build_in_lake(site, given, benches, stop, run_id=run_id, attempt=attempt, joined=joined, known=known)
