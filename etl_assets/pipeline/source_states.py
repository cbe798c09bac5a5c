"""A source in `etl-assets status`: whether its files are those of its snapshot, and why they are not. Reads only."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from etl_assets.engine.published.read_files import IgnoredColumn, ReadFile, ignored_columns, read_files
from etl_assets.engine.published.snapshots import Refused, Snapshot, current_snapshot, is_of_site, read_refused
from etl_assets.engine.published.unmatched import KeyMapFacts, key_map_facts
from etl_assets.engine.reading.mapping import find_inputs
from etl_assets.engine.reading.strays import refuse_strays
from etl_assets.engine.reading.verified import hash_files
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import is_current, is_key_map_changed
from etl_assets.errors import Action, Advice, InputError, ShrunkError, SourceChangedError
from etl_assets.pipeline.configuration import exports_of, staging_request
from etl_assets.project.contract import Source
from etl_assets.project.settings import Settings

SourceState = Literal["current", "stale", "not_staged", "refused", "unavailable"]


@dataclass(frozen=True)
class RefusalFacts:
    """Why a source's exports were not taken: `kind` is the class of the error, `share` that of the broken rows.

    `is_changed` says that the files have changed since.
    """

    refused_at: str | None
    kind: str
    finding: str
    share: float | None
    is_changed: bool


@dataclass(frozen=True)
class SourceFacts:
    """A source: `stale` means that its files are not those of the snapshot, `unavailable` that they cannot be used.

    `refused` means that the files are not those of the snapshot because a run has refused them; `refusal` says why.
    """

    source: str
    state: SourceState
    reason: str | None
    snapshot: str | None
    files: Sequence[str]
    rows_in: int | None
    rows_accepted: int | None
    rows_quarantined: int | None
    quarantine_reasons: dict[str, int]
    cell_reasons: dict[str, int]
    # What its key map did, if it has one.
    key_map: KeyMapFacts | None = None
    # Advice for an unavailable or refused source.
    advice: Sequence[Advice] = ()
    refusal: RefusalFacts | None = None
    # Rows and dates of `files`, and the columns in them that the contract does not name.
    read_files: Sequence[ReadFile] = ()
    ignored_columns: Sequence[IgnoredColumn] = ()


def source_facts(site: Site, settings: Settings, source: Source) -> SourceFacts:
    """Compare the files of a source with its snapshot, and tell why they were refused if they were."""
    snapshot = current_snapshot(site.home, source.name)
    state: SourceState
    advice: Sequence[Advice] = ()
    refusal = None
    try:
        state, reason = _source_state(site, settings, source, snapshot)
    except InputError as error:
        state, reason, advice = "unavailable", error.finding, error.advice
    if state != "unavailable":
        refused = read_refused(site.home, source.name)
        is_of_current = refused is not None and snapshot is not None and refused.folder == snapshot.folder
        # One that is current was refused by a lower limit, or is there again.
        if refused is not None and (state != "current" or is_of_current):
            refusal = _refusal_facts(settings, source, refused)
            state, reason = "refused", _refusal_reason(refusal)
            advice = _refusal_advice(source, refused)
    facts = SourceFacts(source.name, state, reason, None, (), None, None, None, {}, {}, advice=advice, refusal=refusal)
    if snapshot is None:
        return facts
    return replace(
        facts,
        snapshot=snapshot.id,
        files=snapshot.files,
        rows_in=snapshot.rows_in,
        rows_accepted=snapshot.rows_accepted,
        rows_quarantined=snapshot.rows_quarantined,
        quarantine_reasons=snapshot.reasons,
        cell_reasons=snapshot.cell_reasons,
        key_map=key_map_facts(source, snapshot),
        read_files=read_files(site.home, snapshot),
        ignored_columns=ignored_columns(source, snapshot),
    )


def _refusal_advice(source: Source, refused: Refused) -> Sequence[Advice]:
    if refused.kind == ShrunkError("").kind:
        return Advice(Action.EXPORT_AGAIN), Advice(Action.ACCEPT_SHRUNK)
    return (Advice(Action.REJECTS, value=source.name),) if refused.folder else ()


def _refusal_facts(settings: Settings, source: Source, refused: Refused) -> RefusalFacts:
    at_ns = refused.refused_at.timestamp() * 1e9 if refused.refused_at else 0
    inputs = find_inputs(source, exports_of(settings))
    return RefusalFacts(
        refused.refused_at.isoformat() if refused.refused_at else None,
        refused.kind,
        refused.finding,
        refused.share,
        bool(at_ns) and any(max(stat.changed_ns, stat.modified_ns) > at_ns for stat in inputs.all),
    )


def _refusal_reason(refusal: RefusalFacts) -> str:
    since = "; its files have changed since" if refusal.is_changed else ""
    when = f" at {refusal.refused_at[:19].replace('T', ' ')} UTC" if refusal.refused_at else ""
    finding = f": {refusal.finding}" if refusal.finding else ""
    return f"its exports were refused{when}{since}{finding}"


def _source_state(
    site: Site, settings: Settings, source: Source, snapshot: Snapshot | None
) -> tuple[SourceState, str | None]:
    """Compare the files with the snapshot; InputError when they are not there."""
    refuse_strays(site.contract, source, exports_of(settings))
    inputs = find_inputs(source, exports_of(settings))
    if snapshot is None:
        return "not_staged", None
    if snapshot.shard_count != site.shard_count:
        return "stale", f"staged for {snapshot.shard_count} shards, not {site.shard_count}"
    if not is_of_site(site, snapshot):
        return "stale", "staged by another version of the contract or the engine"
    request = staging_request(site, settings)
    if is_current(source, request):
        return "current", None
    # Time stamps alone do not prove a change: the file may be a copy of the same bytes, or it was so young when it was
    # staged that its stamps prove nothing. Files of another size need not be read.
    is_same_size = sum(stat.size_bytes for stat in inputs.all) == snapshot.size_bytes
    with contextlib.suppress(SourceChangedError):
        if is_same_size and hash_files(exports_of(settings), inputs.all) == snapshot.data_hash:
            return "current", None
    changed = "the files of its key_map" if is_key_map_changed(source, request) else "its files"
    return "stale", f"{changed} have changed since they were staged"
