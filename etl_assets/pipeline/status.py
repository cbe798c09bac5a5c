"""What `etl-assets status` knows: sources, shards and warehouse held against each other. Reads, never writes.

The dataclasses are the structure of `status --json`, field by field; fields may be added, none is renamed or removed.
Times are ISO 8601 in UTC, durations milliseconds, what is not known is null.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, Literal

from etl_assets.engine.published import attempts, warehouse
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published.attempts import Attempt, Status
from etl_assets.engine.published.shards import ShardSet
from etl_assets.engine.reading import exports
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.stage import Snapshot
from etl_assets.errors import ConfigError, InputError
from etl_assets.project.contract import SOURCES, Source
from etl_assets.project.settings import Settings

SourceState = Literal["current", "stale", "not_staged", "unavailable"]
ShardState = Literal["published", "stale", "missing", "damaged", "running", "failed"]
WarehouseState = Literal["current", "outdated", "partial", "damaged", "missing"]

_ENDED_BADLY = (Status.FAILED, Status.KILLED, Status.CANCELLED)


@dataclass(frozen=True)
class SourceFacts:
    """A source: `stale` means that its files are not those of the snapshot, `unavailable` that they are not there."""

    source: str
    state: SourceState
    reason: str | None
    snapshot: str | None
    files: Sequence[str]
    rows_in: int | None
    rows_accepted: int | None
    rows_quarantined: int | None
    quarantine_reasons: dict[str, int]


@dataclass(frozen=True)
class AttemptFacts:
    """The latest attempt at a shard; `error` is the first line of it."""

    run_id: str
    attempt: int
    status: str
    started_at: str
    ended_at: str | None
    elapsed_ms: int | None
    record_count: int | None
    error: str | None


@dataclass(frozen=True)
class ShardFacts:
    """A shard: `failed` means that nothing current is published and the latest attempt at it ended badly.

    `record_count`, `elapsed_ms` (to build it) and `published_at` are those of the published file, current or not.
    """

    shard_id: str
    state: ShardState
    reason: str | None
    record_count: int | None
    elapsed_ms: int | None
    published_at: str | None
    attempt_count: int
    last_attempt: AttemptFacts | None


@dataclass(frozen=True)
class WarehouseFacts:
    """The warehouse: `outdated` means that merging the shards now would publish something else."""

    path: str
    state: WarehouseState
    reason: str | None
    published_at: str | None
    record_count: int | None
    digest: str | None
    shard_count: int | None
    is_partial: bool | None
    missing_shards: Sequence[str]


@dataclass(frozen=True)
class Facts:
    """Everything; `next_command` is what would bring it up to date, null when nothing would."""

    sources_folder: str
    home: str
    shard_count: int
    sources: Sequence[SourceFacts]
    shards: Sequence[ShardFacts]
    warehouse: WarehouseFacts
    next_command: str | None


@dataclass(frozen=True)
class PublicationFacts:
    """The `publication` row of a warehouse, typed."""

    published_at: datetime
    record_count: int
    digest: str
    shard_count: int
    set_hash: str
    is_partial: bool
    missing_shards: Sequence[str]


def publication_facts(row: dict[str, Any]) -> PublicationFacts:
    """What `warehouse.read_publication` returns, as far as it is shown."""
    return PublicationFacts(**{one.name: row[one.name] for one in fields(PublicationFacts)})


def collect(settings: Settings) -> Facts:
    """Look at everything once; works at every stage, an `ETL_HOME` that does not exist yet included."""
    found = _shard_set(settings)
    sources = [_source_facts(source, settings) for source in SOURCES]
    shards = _all_shard_facts(settings, found)
    warehouse = _warehouse_facts(settings, found)
    return Facts(
        str(settings.sources),
        str(settings.home.root),
        settings.shard_count,
        sources,
        shards,
        warehouse,
        _next_command(settings, sources, shards, warehouse),
    )


def _source_facts(source: Source, settings: Settings) -> SourceFacts:
    snapshot = staging.current_snapshot(source, settings.home)
    state, reason = _source_state(source, settings, snapshot)
    if snapshot is None:
        return SourceFacts(source.name, state, reason, None, (), None, None, None, {})
    return SourceFacts(
        source.name,
        state,
        reason,
        snapshot.snapshot,
        snapshot.files,
        snapshot.rows_in,
        snapshot.rows_accepted,
        snapshot.rows_quarantined,
        snapshot.reasons,
    )


def _source_state(source: Source, settings: Settings, snapshot: Snapshot | None) -> tuple[SourceState, str | None]:
    try:
        paths = exports.find_files(source, settings.sources)
        if snapshot is None:
            return "not_staged", None
        if snapshot.shard_count != settings.shard_count:
            return "stale", f"staged for {snapshot.shard_count} shards, not {settings.shard_count}"
        if not staging.made_by_this_code(snapshot):
            return "stale", "staged by another version of the code or the contract"
        if staging.is_current(source, settings.staging_request()):
            return "current", None
        # Time stamps alone do not prove a change: a copy of the same bytes is none, and neither is a file so young
        # when it was staged that its stamps prove nothing. Reading is spared where the sizes tell.
        is_same_size = sum(path.stat().st_size for path in paths) == snapshot.size_bytes
        if is_same_size and exports.hash_files(paths) == snapshot.data_hash:
            return "current", None
    except InputError as error:
        return "unavailable", str(error)
    return "stale", "its files have changed since they were staged"


def _shard_set(settings: Settings) -> ShardSet:
    """The shards held against the staged sources; without such sources, none is fit for anything."""
    try:
        return shardset.inspect_shards(settings.home, settings.shard_count)
    except ConfigError:
        states = tuple(shard.read_shards(settings.home, shard_keys(settings.shard_count)))
        reason = f"the sources are not staged for {settings.shard_count} shards"
        return ShardSet({}, states, {state.shard_id: state.problem or reason for state in states})


def _all_shard_facts(settings: Settings, found: ShardSet) -> list[ShardFacts]:
    by_shard: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in attempts.read_attempts(settings.home, shard_keys(settings.shard_count)):
        by_shard[attempt.shard_id].append(attempt)
    return [
        _shard_facts(state, found.problems.get(state.shard_id), by_shard.get(state.shard_id, []))
        for state in found.states
    ]


def _shard_facts(state: shard.ShardState, problem: str | None, history: Sequence[Attempt]) -> ShardFacts:
    last = _attempt_facts(history[-1]) if history else None
    manifest = state.manifest
    return ShardFacts(
        state.shard_id,
        _shard_state(problem, last),
        _shard_reason(problem, last),
        manifest.record_count if manifest else None,
        manifest.elapsed_ms if manifest else None,
        _utc(manifest.ended_at) if manifest else None,
        len(history),
        last,
    )


def _shard_state(problem: str | None, last: AttemptFacts | None) -> ShardState:
    if last and last.status == Status.RUNNING:
        return "running"
    if problem is None:
        return "published"
    if last and last.status in _ENDED_BADLY:
        return "failed"
    if problem == "missing":
        return "missing"
    return "damaged" if problem.startswith("damaged") else "stale"


def _shard_reason(problem: str | None, last: AttemptFacts | None) -> str | None:
    parts = [problem.removeprefix("damaged (").removesuffix(")")] if problem and problem != "missing" else []
    if last and last.status in _ENDED_BADLY:
        parts.append(f"attempt {last.attempt} {last.status}" + (f": {last.error}" if last.error else ""))
    return "; ".join(parts) or None


def _attempt_facts(attempt: Attempt) -> AttemptFacts:
    return AttemptFacts(
        attempt.run_id,
        attempt.attempt,
        str(attempt.status),
        attempt.started_at,
        attempt.ended_at,
        attempt.elapsed_ms,
        attempt.record_count,
        attempt.error.splitlines()[0] if attempt.error else None,
    )


def _warehouse_facts(settings: Settings, found: ShardSet) -> WarehouseFacts:
    path = settings.home.warehouse
    publication = warehouse.read_publication(settings.home)
    if publication is None:
        state: WarehouseState = "damaged" if path.exists() else "missing"
        reason = "it cannot be read" if path.exists() else None
        return WarehouseFacts(str(path), state, reason, None, None, None, None, None, ())
    published = publication_facts(publication)
    reason = _why_outdated(settings, found, published)
    return WarehouseFacts(
        str(path),
        # A partial one says so even when the shards it has are current: customers are missing from it.
        "partial" if published.is_partial else "outdated" if reason else "current",
        f"without {', '.join(published.missing_shards)}" if published.is_partial else reason,
        _utc(published.published_at),
        published.record_count,
        published.digest,
        published.shard_count,
        published.is_partial,
        published.missing_shards,
    )


def _why_outdated(settings: Settings, found: ShardSet, published: PublicationFacts) -> str | None:
    if published.shard_count != settings.shard_count:
        return f"published from {published.shard_count} shards, ETL_NUM_SHARDS is {settings.shard_count}"
    if not found.snapshots:
        return f"the sources are not staged for {settings.shard_count} shards"
    if found.problems:
        return f"{len(found.problems)} of {published.shard_count} shards are not current"
    return None if published.set_hash == found.set_hash else "shards or sources were published since"


def _next_command(
    settings: Settings, sources: Sequence[SourceFacts], shards: Sequence[ShardFacts], warehouse: WarehouseFacts
) -> str | None:
    # Nothing helps while files are missing; the source's own reason says what does.
    if any(source.state == "unavailable" for source in sources) or any(part.state == "running" for part in shards):
        return None
    if warehouse.shard_count not in (None, settings.shard_count):
        return "etl-assets run --force"
    is_settled = all(source.state == "current" for source in sources) and warehouse.state == "current"
    return None if is_settled else "etl-assets run"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
