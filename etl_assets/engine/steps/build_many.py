"""Many shards in one process: each attempt recorded, a failed shard no reason to stop the others."""

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import duckdb

from etl_assets.engine import faults, workers
from etl_assets.engine.duck import Limits, Workbenches
from etl_assets.engine.files.publishing import Home
from etl_assets.engine.published import attempts
from etl_assets.engine.published.attempts import Attempt, Status
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.build import Manifest
from etl_assets.engine.workers import Stop
from etl_assets.errors import AccountingError, AttemptTimeoutError, ConfigError

DONE = (Status.SUCCEEDED, Status.REUSED)


# What a joined row of a source takes in memory; measured with the rows of the sample data.
_BYTES_A_SOURCE_ROW = 200


@dataclass(frozen=True)
class ShardsRequest:
    """What is to be built; `limits` are those of all shards that are built at once together."""

    home: Home
    shard_count: int
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


def build_shards(request: ShardsRequest, shard_ids: Sequence[str]) -> Generator[Attempt | ShardResult, None, None]:
    """Build these shards or reuse what is published; yields each attempt when it starts and its result when it ends."""
    worker_count = side_by_side(request, shard_ids)
    with shard.workbenches(request.home, request.limits.share(worker_count)) as benches:
        yield from _build_shards(request, shard_ids, worker_count, benches)


def side_by_side(request: ShardsRequest, shard_ids: Sequence[str]) -> int:
    """How many of the shards are built at once: one a thread, and fewer where their joins would not fit in memory.

    Small shards on a thread each cost the least. A large one that spills takes longer than one that is built alone,
    by all threads and with all of the memory.
    """
    with contextlib.suppress(ConfigError):
        snapshots = staging.current_snapshots(request.home, request.shard_count)
        inputs = [shard.input_from(snapshots, shard_id, request.shard_count) for shard_id in shard_ids]
        row_count = max((sum(given.slice_counts.values()) for given in inputs), default=0)
        fit = (request.limits.memory_mb << 20) // max(1, row_count * _BYTES_A_SOURCE_ROW)
        return max(1, min(request.limits.threads, fit))
    # Sources are not staged: each attempt says so.
    return request.limits.threads


def _build_shards(
    request: ShardsRequest, shard_ids: Sequence[str], worker_count: int, benches: Workbenches
) -> Generator[Attempt | ShardResult, None, None]:
    def work(shard_id: str, tell: Callable[[Attempt | ShardResult], None]) -> None:
        with faults.scope(shard_id=shard_id, attempt=request.attempt, stop=request.limits.stop):
            begun = attempts.start(request.home, shard_id, request.run_id, request.attempt)
            tell(begun)
            tell(_attempted(request, begun, benches))

    return workers.run(work, shard_ids, worker_count, request.limits.stop)


def unfinished(home: Home, run_id: str, shard_ids: Sequence[str]) -> list[str]:
    """Those of the shards that this run has not finished yet: all of them, unless it is being retried."""
    latest = attempts.latest_attempts(home, shard_ids)
    done = {attempt.shard_id for attempt in latest if attempt.run_id == run_id and attempt.status in DONE}
    return [shard_id for shard_id in shard_ids if shard_id not in done]


def damaged(home: Home, manifests: Sequence[Manifest], worker_count: int) -> list[str]:
    """Those of the published shards whose files, read whole, do not hold what their manifests say."""

    def work(manifest: Manifest, tell: Callable[[str], None]) -> None:
        if shard.verify_shard(home, manifest):
            tell(manifest.shard_id)

    return list(workers.run(work, manifests, worker_count, Stop()))


def _attempted(request: ShardsRequest, begun: Attempt, benches: Workbenches) -> ShardResult:
    try:
        manifest, status = _built_or_reused(request, begun, benches)
    except Exception as error:  # noqa: BLE001  reported with its shard; the caller decides what becomes of the run
        status = Status.CANCELLED if request.limits.stop.requested else Status.FAILED
        ended = attempts.finish(request.home, begun, status, error=f"{type(error).__name__}: {error}")
        return ShardResult(ended, None, error)
    return ShardResult(attempts.finish(request.home, begun, status, record_count=manifest.record_count), manifest, None)


def _built_or_reused(request: ShardsRequest, begun: Attempt, benches: Workbenches) -> tuple[Manifest, Status]:
    error = AttemptTimeoutError(
        f"{begun.shard_id} took longer than ETL_SHARD_TIMEOUT_S={request.timeout_s:g} seconds and was interrupted"
    )
    with (
        request.limits.stop.within(request.timeout_s, error) as stop,
        faults.scope(shard_id=begun.shard_id, attempt=request.attempt, stop=stop),
    ):
        given = shard.shard_input(request.home, begun.shard_id, request.shard_count)
        published = None if request.force else shard.reusable(request.home, given)
        if published is not None:
            return published, Status.REUSED
        try:
            built = shard.build_shard(
                request.home, given, benches, stop, run_id=request.run_id, attempt=request.attempt
            )
        except (duckdb.Error, AccountingError):
            # What DuckDB raises for a damaged file has no one type. Not asked when the work was merely interrupted.
            stop.check()
            staging.require_undamaged(
                request.home, staging.current_snapshots(request.home, request.shard_count).values()
            )
            raise
        return built, Status.SUCCEEDED
