"""What `etl-assets check` finds: every mistake in a project and its exports, and what a run would do. Writes nothing.

The dataclasses are the structure of `check --json`; fields may be added, none is renamed or removed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etl_assets.engine.published.inspecting import fetch_state, read_states
from etl_assets.engine.published.shards import ShardState, Unfit, shard_input, why_unfit
from etl_assets.engine.published.snapshots import Snapshot, current_snapshot, is_of_site
from etl_assets.engine.published.unmatched import KeyMapFacts, key_map_facts
from etl_assets.engine.reading.header_checks import Looked, look_at, shared_files, unread_files, worded
from etl_assets.engine.site import Site
from etl_assets.engine.steps.binding import refusals
from etl_assets.engine.steps.stage import is_current, is_key_map_changed
from etl_assets.errors import Action, Advice, InputError
from etl_assets.pipeline.configuration import exports_of, staging_request
from etl_assets.pipeline.fetching import fetch_exports
from etl_assets.project.loading import CONTRACT_FILE, source_lines
from etl_assets.project.settings import Settings


@dataclass(frozen=True)
class Mistake:
    """Something to change: in a file of the project, at a line where it is known, or in the exports."""

    place: str
    line: int | None
    text: str
    advice: Sequence[Advice] = ()


@dataclass(frozen=True)
class SourcePlan:
    """The files that a run would read for a source, and why it would; `reason` is null where it would read none.

    `map_files` are those of its key map, `key_map` what that did, if the source is staged as it is declared now.
    """

    source: str
    files: Sequence[str]
    reason: str | None
    extra_columns: Sequence[str]
    absent_columns: Sequence[str] = ()
    map_files: Sequence[str] = ()
    key_map: KeyMapFacts | None = None


@dataclass(frozen=True)
class ShardPlan:
    """Shards that a run would do the same with: build them for a reason, or reuse them when it is null."""

    shard_count: int
    reason: str | None


@dataclass(frozen=True)
class Inspection:
    """Everything; a run is possible when there is no mistake."""

    mistakes: Sequence[Mistake]
    sources: Sequence[SourcePlan]
    shards: Sequence[ShardPlan]
    unread_files: Sequence[str]


def inspect(site: Site, settings: Settings) -> Inspection:
    """Look at everything once: SQL, files, headers, and what is staged and published."""
    fetch_state(site)
    fetch_exports(settings)
    root = exports_of(settings)
    mistakes = [Mistake(one.file, one.line, one.text) for one in refusals(site)]
    if not root.is_dir():
        advice = [Advice(Action.SET, "ETL_SOURCES"), Advice(Action.GENERATE, value=str(root))]
        mistakes.append(Mistake(str(root), None, "the folder of the exports does not exist", advice))
        return Inspection(mistakes, [], _shard_plans(site, {}, ["the exports are missing"]), [])
    looked = {source.name: look_at(source, root, site.contract) for source in site.contract.sources}
    lines = source_lines(site.project.folder) if site.project.folder else {}
    for name, found in looked.items():
        mistakes += [Mistake(CONTRACT_FILE, lines.get(name), error.finding, error.advice) for error in found.errors]
    shared = shared_files({name: found.files for name, found in looked.items()})
    mistakes += [
        Mistake(CONTRACT_FILE, lines.get(names[-1]), worded(path, names, root)) for path, names in shared.items()
    ]
    plans, snapshots = _source_plans(site, settings, looked)
    again = [f"{plan.source} is read again: {plan.reason}" for plan in plans if plan.reason]
    return Inspection(mistakes, plans, _shard_plans(site, snapshots, again), unread_files(looked.values(), root))


def _source_plans(
    site: Site, settings: Settings, looked: Mapping[str, Looked]
) -> tuple[list[SourcePlan], dict[str, Snapshot]]:
    """The plan of each source, and the snapshots that a run would take as they are."""
    plans, kept = [], {}
    for source in site.contract.sources:
        snapshot = current_snapshot(site.home, source.name)
        found = looked[source.name]
        reason = "it has mistakes" if found.errors else _why_read(site, settings, source.name, snapshot)
        if snapshot is not None and reason is None:
            kept[source.name] = snapshot
        files, map_files = (_names(paths, exports_of(settings)) for paths in (found.files, found.map_files))
        facts = key_map_facts(source, snapshot) if snapshot is not None and is_of_site(site, snapshot) else None
        plans.append(
            SourcePlan(source.name, files, reason, found.extra_columns, found.absent_columns, map_files, facts)
        )
    return plans, kept


def _names(paths: Sequence[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def _why_read(site: Site, settings: Settings, name: str, snapshot: Snapshot | None) -> str | None:
    if snapshot is None:
        return "it was never read"
    if snapshot.shard_count != site.shard_count:
        return f"it was read for {snapshot.shard_count} shards, not {site.shard_count}"
    if not is_of_site(site, snapshot):
        return "its declaration or the engine has changed"
    source, request = site.contract.source(name), staging_request(site, settings)
    try:
        if is_current(source, request):
            return None
        changed = "the files of its key_map" if is_key_map_changed(source, request) else "its files"
    except InputError as error:
        return error.finding
    return f"{changed} have changed, or are too young to tell"


def _shard_plans(site: Site, snapshots: Mapping[str, Snapshot], again: Sequence[str]) -> list[ShardPlan]:
    """How many shards would be built and why, the most first."""
    reasons: Counter[str | None] = Counter()
    for state in read_states(site, site.shard_ids):
        reasons[_why_built(site, state, snapshots, again)] += 1
    return [ShardPlan(count, reason) for reason, count in reasons.most_common()]


def _why_built(site: Site, state: ShardState, snapshots: Mapping[str, Snapshot], again: Sequence[str]) -> str | None:
    if state.obstacle is not None and state.obstacle.kind is Unfit.MISSING:
        return "never built"
    if state.obstacle is not None or state.manifest is None:
        return str(state.obstacle)
    if state.manifest.shard_count != site.shard_count:
        return f"built for {state.manifest.shard_count} shards, not {site.shard_count}"
    if state.manifest.code_version != site.profile_version:
        return "the project's contract or SQL has changed, or the engine has"
    if again:
        return f"only if its rows change: {'; '.join(again)}"
    obstacle = why_unfit(site, state, shard_input(site, snapshots, state.shard_id))
    return str(obstacle) if obstacle else None
