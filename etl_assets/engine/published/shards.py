"""Published shards at rest: manifests, why a shard may not be merged or reused, and the set that a merge takes.

A shard is a DuckDB file with the table `profiles` and, beside it and published after it, a manifest that says what it
was made from and what it holds. Same shard, same source_data_hash, same code version: same records. So status, sensors
and the merge read small JSON files; a shard is opened only for its rows. Making one is `steps.build`.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.documents import Count, Form, Moment, SmallCount
from etl_assets.engine.files.layout import Home
from etl_assets.engine.hashing import SetHash, set_hash_sql, stable_hash
from etl_assets.engine.published.snapshots import Snapshot, current_snapshots
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import pattern_list
from etl_assets.errors import Action, Advice, ShardSetError
from etl_assets.project.contract import SHARD_COLUMN

PROFILES = "profiles"
# Files that one statement opens: far below any limit on open files.
FILES_A_STATEMENT = 64
# How DuckDB names the process that has a file open for writing.
_LOCK_HOLDER = re.compile(r"Could not set lock .*Conflicting lock .*PID (\d+)")
# Shards in the way of a merge that an error lists.
_SHARDS_LISTED = 10


@dataclass(frozen=True)
class ShardInput:
    """The inputs of a shard, fixed once at its start, so that it never mixes two snapshots."""

    shard_id: str
    shard_count: int
    snapshots: Mapping[str, Snapshot]
    source_data_hash: str

    @property
    def slice_counts(self) -> dict[str, int]:
        """Rows of each source."""
        return {name: snapshot.slice_of(self.shard_id).record_count for name, snapshot in self.snapshots.items()}


@dataclass(frozen=True)
class Manifest:
    """The contents and the inputs of a shard's file."""

    shard_id: str
    shard_count: SmallCount
    source_snapshots: dict[str, str]
    source_data_hash: str
    code_version: str
    record_count: Count
    content_hash: str
    run_id: str
    attempt: SmallCount
    started_at: Moment
    ended_at: Moment
    elapsed_ms: Count
    open_ms: Count
    build_ms: Count
    size_bytes: Count

    @property
    def source_snapshots_json(self) -> str:
        """The snapshots as the text that the published table holds."""
        return json.dumps(self.source_snapshots)

    def to_json(self) -> dict[str, Any]:
        """The manifest's file."""
        return asdict(self) | {"started_at": self.started_at.isoformat(), "ended_at": self.ended_at.isoformat()}


_MANIFEST = Form(Manifest)


class Unfit(StrEnum):
    """Why a shard may not be merged or reused."""

    MISSING = "missing"
    DAMAGED = "damaged"
    HELD = "held"
    OTHER_SHARD = "other_shard"
    OTHER_SHARD_COUNT = "other_shard_count"
    OTHER_VERSION = "other_version"
    OTHER_DATA = "other_data"
    OVERTAKEN = "overtaken"


@dataclass(frozen=True)
class Obstacle:
    """Why one shard may not be merged, with a detail where that helps."""

    kind: Unfit
    detail: str = ""

    @property
    def status(self) -> Status:
        """The shard's status because of it."""
        unreadable = {Unfit.MISSING: Status.MISSING, Unfit.DAMAGED: Status.DAMAGED, Unfit.HELD: Status.DAMAGED}
        return unreadable.get(self.kind, Status.STALE)

    def __str__(self) -> str:
        """The finding in a few words."""
        if self.kind is Unfit.HELD:
            return f"held open for writing by process {self.detail}"
        words = {
            Unfit.MISSING: "missing",
            Unfit.DAMAGED: "damaged",
            Unfit.OTHER_SHARD: "holds another shard",
            Unfit.OTHER_SHARD_COUNT: "built for another number of shards",
            Unfit.OTHER_VERSION: "built by another version of the project or the engine",
            Unfit.OTHER_DATA: "built from other source data",
            Unfit.OVERTAKEN: "published again during the merge",
        }[self.kind]
        return f"{words} ({self.detail})" if self.detail else words


_OTHER_CONTENT = Obstacle(Unfit.DAMAGED, "its content is not what its manifest says")


@dataclass(frozen=True)
class ShardState:
    """A shard on disk: its manifest, if it can be read, and what is wrong with it."""

    shard_id: str
    manifest: Manifest | None
    obstacle: Obstacle | None


def shard_input(site: Site, snapshots: Mapping[str, Snapshot], shard_id: str) -> ShardInput:
    """The inputs of a shard, given the sources' snapshots."""
    slices = {name: snapshot.slice_of(shard_id) for name, snapshot in snapshots.items()}
    # By the slices' content, not the snapshot: a change elsewhere in the files leaves this shard as it is.
    content = [f"{name}={part.version}" for name, part in slices.items()]
    versions = [site.staging_version(source) for source in site.contract.sources]
    return ShardInput(shard_id, site.shard_count, snapshots, stable_hash(";".join([*versions, *content])))


def read_manifest(path: Path) -> Manifest | None:
    """The manifest in a file; None when it holds anything else."""
    manifest = _MANIFEST.read(path)
    # The hash begins with the number of rows.
    return manifest if manifest and manifest.content_hash.startswith(f"{manifest.record_count}-") else None


def read_shard(home: Home, shard_id: str) -> ShardState:
    """Read a published shard's manifest; what is wrong with it is reported, not raised."""
    path, beside = home.shard_file(shard_id), home.manifest(shard_id)
    size_bytes, manifest = publishing.size_bytes(path), read_manifest(beside)
    if size_bytes is None or (manifest is None and publishing.size_bytes(beside) is None):
        return ShardState(shard_id, None, Obstacle(Unfit.MISSING))
    if manifest is None:
        return ShardState(shard_id, None, Obstacle(Unfit.DAMAGED, "its manifest cannot be read"))
    if not publishing.is_regular(path):  # a link may lead to someone else's file
        return ShardState(shard_id, manifest, Obstacle(Unfit.DAMAGED, "its file is a link, a folder or a pipe"))
    if manifest.size_bytes != size_bytes:  # truncated, or its build was killed before the manifest
        found = f"its file has {size_bytes} bytes, its manifest says {manifest.size_bytes}"
        return ShardState(shard_id, manifest, Obstacle(Unfit.DAMAGED, found))
    return ShardState(shard_id, manifest, None)


def read_shards(home: Home, shard_ids: Iterable[str]) -> list[ShardState]:
    """Read the manifests of many shards."""
    return [read_shard(home, shard_id) for shard_id in shard_ids]


def why_unfit(site: Site, state: ShardState, given: ShardInput) -> Obstacle | None:
    """Why this shard may not be merged or reused for these sources; None when it may."""
    if state.obstacle is not None or state.manifest is None:
        return state.obstacle
    manifest = state.manifest
    if manifest.shard_count != given.shard_count:
        return Obstacle(Unfit.OTHER_SHARD_COUNT, f"{manifest.shard_count}, not {given.shard_count}")
    if manifest.shard_id != given.shard_id:
        return Obstacle(Unfit.OTHER_SHARD, manifest.shard_id)
    if manifest.code_version != site.profile_version:
        return Obstacle(Unfit.OTHER_VERSION)
    if manifest.source_data_hash != given.source_data_hash:
        return Obstacle(Unfit.OTHER_DATA)
    return None


def reusable(site: Site, given: ShardInput, connection: duckdb.DuckDBPyConnection) -> Manifest | None:
    """The manifest of the published shard if building it now would give the same and its file is undamaged."""
    state = read_shard(site.home, given.shard_id)
    if state.manifest is None or why_unfit(site, state, given):
        return None
    return None if verify_shard(site.home, state.manifest, connection) else state.manifest


def verify_shard(home: Home, manifest: Manifest, connection: duckdb.DuckDBPyConnection) -> Obstacle | None:
    """Read the whole file over this connection and compare it with its manifest; returns what is wrong, or None."""
    try:
        with duck.attached(connection, home.shard_file(manifest.shard_id), PROFILES):
            table = f"opened.{PROFILES}"
            sums = set_hash_sql(hashed_columns(connection, table))
            row = connection.execute(
                f"SELECT count(*) FILTER ({SHARD_COLUMN} IS DISTINCT FROM ?), {sums} FROM {table}",
                [manifest.shard_id],
            ).fetchone()
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, OSError) as error:
        return _why_unreadable(error)
    assert row is not None, "an aggregate always returns a row"
    return _OTHER_CONTENT if row[0] or str(SetHash.of_row(row[1:])) != manifest.content_hash else None


def verify_shards(home: Home, manifests: Sequence[Manifest]) -> dict[str, Obstacle]:
    """The obstacles of these shards' files, by shard; reads all of them.

    In one statement, which takes a fourth of the time of attaching each; where that fails or finds anything, each is
    read on its own, to find out which and why.
    """
    if not manifests:
        return {}
    with duck.reader(home.shards) as connection:
        if _are_as_promised(connection, home, manifests):
            return {}
        found = {manifest.shard_id: verify_shard(home, manifest, connection) for manifest in manifests}
    return {shard_id: obstacle for shard_id, obstacle in found.items() if obstacle}


def _are_as_promised(connection: duckdb.DuckDBPyConnection, home: Home, manifests: Sequence[Manifest]) -> bool:
    paths = [home.shard_file(manifest.shard_id) for manifest in manifests]
    rows = f"read_duckdb({pattern_list(paths)}, table_name = '{PROFILES}')"
    try:
        columns = [name for name in hashed_columns(connection, f"(SELECT * FROM {rows})") if name != "filename"]
        sums = connection.execute(
            f"SELECT filename, min({SHARD_COLUMN}), max({SHARD_COLUMN}), {set_hash_sql(columns)} "
            f"FROM {rows} GROUP BY ALL"
        ).fetchall()
    except duckdb.InterruptException:
        raise
    except (duckdb.Error, OSError):
        return False
    found = {(path, first, last, str(SetHash.of_row(values))) for path, first, last, *values in sums}
    # A shard without rows has no group.
    promised = [m for m in manifests if m.record_count]
    return found == {(str(home.shard_file(m.shard_id)), m.shard_id, m.shard_id, m.content_hash) for m in promised}


def hashed_columns(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """The columns over which a table of profiles is hashed: all but the shard."""
    cursor = connection.execute(f"SELECT * FROM {table} LIMIT 0")
    columns = [str(column[0]) for column in cursor.description or []]
    return [column for column in columns if column != SHARD_COLUMN]


@dataclass(frozen=True)
class ShardSet:
    """The published shards compared with the current sources: which may be merged, and what is in the way."""

    snapshots: Mapping[str, Snapshot]
    states: tuple[ShardState, ...]
    obstacles: Mapping[str, Obstacle]
    # Stamps of every file, taken before any was read; empty where later changes do not matter.
    stamps: Mapping[Path, str] = field(default_factory=dict)

    @cached_property
    def manifests(self) -> list[Manifest]:
        """The manifests of the shards that may be merged, in shard order."""
        good = [state.manifest for state in self.states if state.shard_id not in self.obstacles]
        return [manifest for manifest in good if manifest is not None]

    @cached_property
    def set_hash(self) -> str:
        """Identity of this set: changes when any shard is published again or a source's accounting changes."""
        shards = [
            f"{m.shard_id} {m.source_data_hash} {m.code_version} {m.content_hash} {m.run_id} {m.attempt}"
            for m in self.manifests
        ]
        return stable_hash("\n".join(shards + [snapshot.id for snapshot in self.snapshots.values()]))


def inspect_shards(site: Site) -> ShardSet:
    """Compare every shard's manifest with the current sources; ConfigError when a source is not staged."""
    stamps = file_stamps(site)
    snapshots = current_snapshots(site)
    states = tuple(read_shards(site.home, site.shard_ids))
    obstacles = {}
    for state in states:
        obstacle = why_unfit(site, state, shard_input(site, snapshots, state.shard_id))
        if obstacle:
            obstacles[state.shard_id] = obstacle
    return ShardSet(snapshots, states, obstacles, stamps)


def file_stamps(site: Site) -> dict[Path, str]:
    """A stamp of every shard's file and manifest and every source's pointer: they change with each publication."""
    shards = [path for name in site.shard_ids for path in (site.home.shard_file(name), site.home.manifest(name))]
    return publishing.stamps([*shards, *(site.home.source_pointer(name) for name in site.contract.source_names)])


def published_stamp(site: Site) -> str:
    """Changes whenever a shard, a source's snapshot or the warehouse is published."""
    return stable_hash("\n".join([*file_stamps(site).values(), publishing.stamp(site.home.warehouse)]))


def refusal(obstacles: Mapping[str, Obstacle]) -> ShardSetError:
    """The error that lists the shards in the way, as many as a person reads."""
    listed = [f"{shard_id}: {obstacle}" for shard_id, obstacle in list(obstacles.items())[:_SHARDS_LISTED]]
    more = len(obstacles) - len(listed)
    # Beyond the list, building all unfit shards is simpler than naming each.
    shards = () if more else tuple(obstacles)
    return ShardSetError(
        f"{len(obstacles)} shard{'s are' if len(obstacles) > 1 else ' is'} not fit to merge ({'; '.join(listed)}"
        f"{f'; and {more} more' if more else ''}). The last published warehouse stays as it is.",
        Advice(Action.RUN, shards=shards),
        subject=next(iter(obstacles)),
    )


def _why_unreadable(error: Exception) -> Obstacle:
    holder = _LOCK_HOLDER.search(str(error))
    if holder:
        return Obstacle(Unfit.HELD, holder[1])
    return Obstacle(Unfit.DAMAGED, str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__)
