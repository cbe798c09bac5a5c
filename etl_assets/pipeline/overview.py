"""The report of `etl-assets status`: sources, shards and warehouse compared with each other. Reads, never writes.

The dataclasses are the structure of `status --json`, field by field; fields may be added, none is renamed or removed.
Times are ISO 8601 in UTC, durations milliseconds, what is not known is null.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from etl_assets.engine.files import publishing
from etl_assets.engine.files.access import unreadable
from etl_assets.engine.published.attempts import Attempt, read_attempts
from etl_assets.engine.published.inspecting import fetch_state, inspect_all
from etl_assets.engine.published.notices import Notice, read_notices
from etl_assets.engine.published.overlap import SourceOverlap, read_overlap
from etl_assets.engine.published.refused_merge import read_refused_merge
from etl_assets.engine.published.restored import held_text, read_mark
from etl_assets.engine.published.shards import Obstacle, ShardSet, ShardState
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import Publication, read_publication
from etl_assets.engine.reading.strays import unread_names
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, ShrunkError
from etl_assets.pipeline.configuration import exports_of
from etl_assets.pipeline.fetching import fetch_exports
from etl_assets.pipeline.source_states import SourceFacts, source_facts
from etl_assets.project.settings import Settings

WarehouseState = Literal["current", "outdated", "partial", "restored", "damaged", "unreadable", "missing"]
NextStep = Literal["run", "run --force"]


@dataclass(frozen=True)
class AttemptFacts:
    """The latest attempt at a shard; `error` is the first line of it."""

    run_id: str
    attempt: int
    status: Status
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
    state: Status
    reason: str | None
    record_count: int | None
    elapsed_ms: int | None
    published_at: str | None
    attempt_count: int
    last_attempt: AttemptFacts | None


@dataclass(frozen=True)
class MergeRefusalFacts:
    """Why the shards that are there now were not published: `kind` is the class of the error."""

    refused_at: str
    kind: str
    finding: str
    advice: Sequence[Advice]


@dataclass(frozen=True)
class WarehouseFacts:
    """The warehouse: `outdated` means that merging the shards now would publish something else.

    `restored` means that it was brought back, at `restored_at`, and that nothing is merged over it, `unreadable` that
    this user may not read it. `refusal` says why the last merge of these shards was refused, if it was.
    """

    path: str
    state: WarehouseState
    reason: str | None
    published_at: str | None
    record_count: int | None
    digest: str | None
    shard_count: int | None
    is_partial: bool | None
    missing_shards: Sequence[str]
    restored_at: str | None = None
    refusal: MergeRefusalFacts | None = None


@dataclass(frozen=True)
class Facts:
    """Everything; `next_step` is the command that would bring it up to date, null when none would."""

    sources_folder: str
    home: str
    shard_count: int
    sources: Sequence[SourceFacts]
    shards: Sequence[ShardFacts]
    warehouse: WarehouseFacts
    next_step: NextStep | None
    # Of the published warehouse.
    overlap: Sequence[SourceOverlap] = ()
    notices: Sequence[Notice] = ()
    # Files among the exports that no source reads.
    unread_files: Sequence[str] = ()


def collect(site: Site, settings: Settings) -> Facts:
    """Collect everything once; works at every stage, also when `ETL_HOME` does not exist yet."""
    fetch_state(site)
    fetch_exports(settings)
    folder = exports_of(settings)
    found = inspect_all(site)
    sources = [source_facts(site, settings, source) for source in site.contract.sources]
    shards = _all_shard_facts(site, found)
    warehouse = _warehouse_facts(site, found, sources)
    return Facts(
        str(settings.sources),
        str(site.home.root),
        site.shard_count,
        sources,
        shards,
        warehouse,
        _next_step(site, sources, shards, warehouse),
        read_overlap(site.home, site.contract.source_names),
        read_notices(site.home),
        unread_names(site.contract, folder) if folder.is_dir() else (),
    )


def _all_shard_facts(site: Site, found: ShardSet) -> list[ShardFacts]:
    by_shard: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in read_attempts(site.home, site.shard_ids):
        by_shard[attempt.shard_id].append(attempt)
    unstaged = None if found.snapshots else f"the sources are not staged for {site.shard_count} shards"
    return [
        _shard_facts(state, found.obstacles.get(state.shard_id), by_shard.get(state.shard_id, []), unstaged)
        for state in found.states
    ]


def _shard_facts(
    state: ShardState, obstacle: Obstacle | None, history: Sequence[Attempt], unstaged: str | None
) -> ShardFacts:
    last = _attempt_facts(history[-1]) if history else None
    manifest = state.manifest
    return ShardFacts(
        state.shard_id,
        _shard_status(obstacle, last, is_comparable=unstaged is None),
        _shard_reason(obstacle, last, unstaged),
        manifest.record_count if manifest else None,
        manifest.elapsed_ms if manifest else None,
        _utc(manifest.ended_at) if manifest else None,
        len(history),
        last,
    )


def _shard_status(obstacle: Obstacle | None, last: AttemptFacts | None, *, is_comparable: bool) -> Status:
    if last and last.status is Status.RUNNING:
        return Status.RUNNING
    if obstacle is None:
        return Status.PUBLISHED if is_comparable else Status.STALE
    if last and last.status.is_bad_end:
        return Status.FAILED
    return obstacle.status


def _shard_reason(obstacle: Obstacle | None, last: AttemptFacts | None, unstaged: str | None) -> str | None:
    parts = []
    if obstacle is not None and obstacle.status is not Status.MISSING:
        parts.append(str(obstacle))
    elif obstacle is None and unstaged:
        parts.append(unstaged)
    if last and last.status.is_bad_end:
        parts.append(f"attempt {last.attempt} {last.status}" + (f": {last.error}" if last.error else ""))
    return "; ".join(parts) or None


def _attempt_facts(attempt: Attempt) -> AttemptFacts:
    return AttemptFacts(
        attempt.run_id,
        attempt.number,
        attempt.status,
        attempt.started_at,
        attempt.ended_at,
        attempt.elapsed_ms,
        attempt.record_count,
        attempt.error.splitlines()[0] if attempt.error else None,
    )


def _warehouse_facts(site: Site, found: ShardSet, sources: Sequence[SourceFacts]) -> WarehouseFacts:
    path = site.lake_url or str(site.home.warehouse)
    published = read_publication(site.home)
    refusal = _merge_refusal(site, found, published)
    if published is None:
        is_there = publishing.size_bytes(site.home.warehouse) is not None
        reason = unreadable(site.home.warehouse) if is_there else None
        state: WarehouseState = "unreadable" if reason else "damaged" if is_there else "missing"
        reason = "it cannot be read" if state == "damaged" else reason
        return WarehouseFacts(path, state, reason, None, None, None, None, None, (), refusal=refusal)
    reason = _why_outdated(site, found, published) or _newer_exports(sources)
    state = "outdated" if reason else "current"
    if published.is_partial:
        # It says so even when the shards it has are current: customers are missing from it.
        state, reason = "partial", f"without {', '.join(published.missing_shards)}"
    mark = read_mark(site.home, published)
    if mark is not None:
        more = f" {reason[0].upper()}{reason[1:].removesuffix('.')}." if reason else ""
        state, reason = "restored", f"{held_text(mark)}{more}"
    return WarehouseFacts(
        path,
        state,
        reason,
        _utc(published.published_at),
        published.record_count,
        published.digest,
        published.shard_count,
        published.is_partial,
        published.missing_shards,
        _utc(mark.restored_at) if mark else None,
        refusal,
    )


def _merge_refusal(site: Site, found: ShardSet, published: Publication | None) -> MergeRefusalFacts | None:
    """Why the shards that are there now were refused; what was refused of other shards says nothing about these."""
    refused = read_refused_merge(site.home)
    if refused is None or not found.snapshots or refused.set_hash != found.set_hash:
        return None
    if published is not None and published.published_at >= refused.refused_at:
        # A merge that was killed after its publication leaves the note of an earlier one.
        return None
    has_shrunk = refused.kind == ShrunkError("").kind
    advice = (Advice(Action.EXPORT_AGAIN), Advice(Action.ACCEPT_SHRUNK)) if has_shrunk else ()
    return MergeRefusalFacts(_utc(refused.refused_at), refused.kind, refused.finding, advice)


def _why_outdated(site: Site, found: ShardSet, published: Publication) -> str | None:
    if published.shard_count != site.shard_count:
        return f"published from {published.shard_count} shards, ETL_NUM_SHARDS is {site.shard_count}"
    if not found.snapshots:
        return f"the sources are not staged for {site.shard_count} shards"
    if found.obstacles:
        return f"{len(found.obstacles)} of {published.shard_count} shards are not current"
    return None if published.set_hash == found.set_hash else "shards or sources were published since"


def _newer_exports(sources: Sequence[SourceFacts]) -> str | None:
    newer = [source.source for source in sources if source.state == "stale" or source.refusal is not None]
    return f"the exports of {', '.join(newer)} are newer" if newer else None


def _next_step(
    site: Site, sources: Sequence[SourceFacts], shards: Sequence[ShardFacts], warehouse: WarehouseFacts
) -> NextStep | None:
    # Nothing helps while files are missing; the source's own reason says what does.
    if any(source.state == "unavailable" for source in sources) or any(s.state is Status.RUNNING for s in shards):
        return None
    if warehouse.shard_count not in (None, site.shard_count):
        return "run --force"
    if warehouse.state in ("restored", "unreadable"):
        return None
    is_settled = all(source.state == "current" for source in sources) and warehouse.state == "current"
    is_settled = is_settled and warehouse.refusal is None
    return None if is_settled else "run"


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
