"""Shards in a lake: a Parquet file under a name of its own, and a manifest under a name made of what it was made from.

So a late worker cannot overwrite a newer shard, and the same inputs are built once. A manifest whose file is gone is no
reason to reuse anything: the shard is built again and the manifest replaced.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from etl_assets.engine import faults
from etl_assets.engine.files import sweeping
from etl_assets.engine.files.documents import Form, encoded
from etl_assets.engine.hashing import file_hash, stable_hash
from etl_assets.engine.lake.store import Found, Stat, at_once
from etl_assets.engine.published.lake_names import MANIFESTS, PROFILES_FOLDER, STAGED, manifest_key, profiles_key
from etl_assets.engine.published.shard_figures import ShardFigures
from etl_assets.engine.published.shards import (
    Manifest,
    Obstacle,
    ShardInput,
    ShardSet,
    ShardState,
    Unfit,
    shard_input,
    why_unfit,
)
from etl_assets.engine.published.snapshots import Snapshot, current_snapshots
from etl_assets.engine.site import Site
from etl_assets.errors import StoreError

# Another attempt may create the manifest, or repair it, between a look and a put.
_TRIES = 5


@dataclass(frozen=True)
class LakeManifest(Manifest):
    """A shard's manifest with its file, the types of its columns and its figures; `size_bytes` is the file's."""

    # A name in the table's folder and in the scratch: no path.
    file: Annotated[str, Field(pattern=r"^shard_[0-9]+-[0-9a-f]{32}\.parquet$")]
    e_tag: str | None
    columns: dict[str, str]
    figures: ShardFigures

    def to_json(self) -> dict[str, Any]:
        """The manifest's object."""
        return {**super().to_json(), "figures": asdict(self.figures)}


_MANIFEST = Form(LakeManifest)


def read_lake_manifest(content: bytes | str) -> LakeManifest | None:
    """The manifest in an object; None when it holds anything else."""
    manifest = _MANIFEST.parse(content)
    return manifest if manifest and manifest.content_hash.startswith(f"{manifest.record_count}-") else None


def known_manifest(site: Site, given: ShardInput) -> Found | None:
    """The object of the manifest for these inputs."""
    assert site.lake is not None, "only for a lake"
    return site.lake.get(manifest_key(site, given))


def reusable_in_lake(site: Site, given: ShardInput, found: Found | None) -> LakeManifest | None:
    """The manifest if its file is there as it was put."""
    assert site.lake is not None, "only for a lake"
    manifest = read_lake_manifest(found.content) if found else None
    if manifest is None or why_unfit(site, ShardState(given.shard_id, manifest, None), given):
        return None
    return None if _why_bad(manifest, site.lake.head(profiles_key(manifest.file))) else manifest


def publish_in_lake(
    site: Site, given: ShardInput, path: Path, made: LakeManifest, known: Found | None, written: str
) -> LakeManifest:
    """Put the file, then its manifest in the place of `known`; returns the manifest that is published.

    That is another attempt's, where one of the same inputs came first and its file is sound. `written` is the hash of
    the bytes that were proved; StoreError when the file has others now, which may be those that were put.
    """
    store = site.lake
    assert store is not None, "only for a lake"
    faults.point("shard.before_swap", path)
    stat = store.put(profiles_key(made.file), path)
    faults.point("shard.after_swap", path)
    if file_hash(path) != written:
        store.delete([profiles_key(made.file)])
        sweeping.discard(path)
        raise StoreError(
            f"{path}: the file has changed since it was proved. It is not published.", subject=given.shard_id
        )
    made = replace(made, e_tag=stat.e_tag, size_bytes=stat.size_bytes)
    key = manifest_key(site, given)
    content = encoded(Path(key), made.to_json())
    faults.point("manifest.before_swap")
    for _ in range(_TRIES):
        there = store.create(key, content) if known is None else store.replace(key, content, known.stat)
        if there is not None and there.content == content:
            faults.point("manifest.after_swap")
            return made
        theirs = reusable_in_lake(site, given, there)
        if theirs is not None:
            # No manifest names the file of this attempt.
            store.delete([profiles_key(made.file)])
            return theirs
        known = there
    raise StoreError(f"{store.url}/{key}: other attempts replace it again and again.", subject=given.shard_id)


def inspect_lake(site: Site) -> ShardSet:
    """Compare every shard's manifest with the sources that were fetched last; ConfigError when one is not staged."""
    snapshots = current_snapshots(site)
    return _inspect(site, {name: shard_input(site, snapshots, name) for name in site.shard_ids}, snapshots)


def inspect_unstaged(site: Site) -> ShardSet:
    """The shards' latest manifests, when there is nothing to compare them with."""
    return _inspect(site, {}, {})


def _inspect(site: Site, inputs: Mapping[str, ShardInput], snapshots: Mapping[str, Snapshot]) -> ShardSet:
    store = site.lake
    assert store is not None, "only for a lake"
    listed, files = at_once(store.list, [MANIFESTS, PROFILES_FOLDER])
    latest = _latest(listed)
    keys = {name: manifest_key(site, given) for name, given in inputs.items()}
    wanted = {name: keys[name] if keys.get(name) in listed else latest.get(name, "") for name in site.shard_ids}
    found = store.get_listed({key: listed[key] for key in wanted.values() if key})
    states, obstacles = [], {}
    for name in site.shard_ids:
        state = _state(name, found.get(wanted[name]), files)
        obstacle = why_unfit(site, state, inputs[name]) if name in inputs else state.obstacle
        states.append(state)
        if obstacle:
            obstacles[name] = obstacle
    return ShardSet(snapshots, tuple(states), obstacles)


def _latest(listed: Mapping[str, Stat]) -> dict[str, str]:
    """The key of each shard's newest manifest, of whatever inputs."""
    by_age = sorted(listed, key=lambda key: (listed[key].modified_s, key))
    return {key.split("/")[1]: key for key in by_age}


def _state(shard_id: str, found: Found | None, files: Mapping[str, Stat]) -> ShardState:
    if found is None:
        return ShardState(shard_id, None, Obstacle(Unfit.MISSING))
    manifest = read_lake_manifest(found.content)
    if manifest is None:
        return ShardState(shard_id, None, Obstacle(Unfit.DAMAGED, "its manifest cannot be read"))
    why = _why_bad(manifest, files.get(profiles_key(manifest.file)))
    return ShardState(shard_id, manifest, Obstacle(Unfit.DAMAGED, why) if why else None)


def _why_bad(manifest: LakeManifest, stat: Stat | None) -> str | None:
    """Why the file is not the one that was put; None when it is, by size and tag."""
    if stat is None:
        return "its file is gone from the lake"
    if stat.size_bytes != manifest.size_bytes:
        return f"its file has {stat.size_bytes} bytes, its manifest says {manifest.size_bytes}"
    if None not in (stat.e_tag, manifest.e_tag) and stat.e_tag != manifest.e_tag:
        return "its file was replaced"
    return None


def lake_stamp(site: Site, version: int | None) -> str:
    """Changes whenever a shard, a source's snapshot or a version of the table is published."""
    store = site.lake
    assert store is not None, "only for a lake"
    listed = at_once(store.list, [MANIFESTS, STAGED])
    pointers = {key: stat for key, stat in listed[1].items() if key.count("/") == 2}
    facts = [f"{key} {stat.e_tag} {stat.size_bytes}" for key, stat in sorted({**listed[0], **pointers}.items())]
    return stable_hash("\n".join([*facts, str(version)]))


def lake_manifests(manifests: Iterable[Manifest]) -> list[LakeManifest]:
    """The manifests, which are those of a lake."""
    return [manifest for manifest in manifests if isinstance(manifest, LakeManifest)]
