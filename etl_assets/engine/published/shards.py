"""The published shards, held against the current sources: which may be merged, and what is wrong with the others."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from etl_assets.engine import keys
from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.publishing import Home
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps.stage import Snapshot, current_snapshots
from etl_assets.errors import ShardSetError
from etl_assets.project.contract import SOURCES

# Of the shards that are in the way of a merge.
_SHARDS_NAMED = 10


@dataclass(frozen=True)
class ShardSet:
    """The published shards held against the current sources: what may be merged, and what stands in the way."""

    snapshots: dict[str, Snapshot]
    states: tuple[shard.ShardState, ...]
    problems: dict[str, str]
    # Of every file, taken before any was read; empty where nobody will ask whether they are still the same.
    stamps: Mapping[Path, str] = field(default_factory=dict)

    @property
    def manifests(self) -> list[shard.Manifest]:
        """The manifests of the shards that may be merged, in shard order."""
        good = [state.manifest for state in self.states if state.shard_id not in self.problems]
        return [manifest for manifest in good if manifest is not None]

    @property
    def set_hash(self) -> str:
        """Identity of this set: changes when any shard is published anew or a source's accounting changes."""
        shards = [
            f"{m.shard_id} {m.source_data_hash} {m.code_version} {m.content_hash} {m.run_id} {m.attempt}"
            for m in self.manifests
        ]
        return keys.stable_hash("\n".join(shards + [snapshot.snapshot for snapshot in self.snapshots.values()]))


def inspect_shards(home: Home, shard_count: int) -> ShardSet:
    """Hold every shard's manifest against the current sources; ConfigError when a source is not staged."""
    stamps = file_stamps(home, shard_count)
    snapshots = current_snapshots(home, shard_count)
    states = tuple(shard.read_shards(home, shard_keys(shard_count)))
    problems = {}
    for state in states:
        problem = shard.why_stale(state, shard.input_from(snapshots, state.shard_id, shard_count))
        if problem:
            problems[state.shard_id] = problem
    return ShardSet(snapshots, states, problems, stamps)


def file_stamps(home: Home, shard_count: int) -> dict[Path, str]:
    """A stamp of every shard's and source's file, which changes whenever it is published; costs a stat a file."""
    paths = [home.shard_file(shard_id) for shard_id in shard_keys(shard_count)]
    paths += [home.source_pointer(source.name) for source in SOURCES]
    return {path: storage.stamp(path) for path in paths}


def refusal(problems: dict[str, str]) -> ShardSetError:
    """The error that names the shards in the way, not more than a person reads, and the command that repairs them."""
    named = list(problems.items())[:_SHARDS_NAMED]
    listed = "; ".join(f"{shard_id}: {problem}" for shard_id, problem in named)
    more = len(problems) - len(named)
    # `etl-assets run` by itself builds every one that is not fit.
    which = f" --shards {','.join(problems)}" if not more else ""
    return ShardSetError(
        f"{len(problems)} shard{'s are' if len(problems) > 1 else ' is'} not fit to merge ({listed}"
        f"{f'; and {more} more: etl-assets status' if more else ''}). The last published warehouse stays as it is. "
        f"Repair: etl-assets run{which}, or materialize these partitions of shard_profiles in the UI and then "
        "merged_profiles."
    )
