"""What a lake keeps: the last versions with all that they name, and what is young; everything else is removed.

By reference and by the store's own clock, for no process of another machine can be asked whether it lives. A shard that
is needed again after its file was removed is built again.
"""

import uuid
from collections.abc import Mapping, Set
from dataclasses import dataclass

from etl_assets.engine import faults
from etl_assets.engine.files import folder_entries, sweeping
from etl_assets.engine.lake.probing import FOLDER as PROBES
from etl_assets.engine.lake.store import Stat, Store, at_once
from etl_assets.engine.published import attempts
from etl_assets.engine.published.inspecting import inspect_all
from etl_assets.engine.published.lake_names import (
    ATTEMPTS,
    MANIFESTS,
    PROFILES_FOLDER,
    PUBLICATIONS,
    STAGED,
    attempt_key,
    manifest_key,
    pointer_key,
    profiles_key,
)
from etl_assets.engine.published.lake_shards import read_lake_manifest
from etl_assets.engine.published.lake_versions import lake_table, read_document
from etl_assets.engine.published.mirroring import attempt_names, fetch_sources
from etl_assets.engine.published.shards import shard_input
from etl_assets.engine.published.snapshots import ACCOUNTING_FILE, current_folder
from etl_assets.engine.site import Site

# No run takes so long: what is younger may belong to one that has not published yet.
GRACE_S = 24 * 3600.0
_FOLDERS = (MANIFESTS, PROFILES_FOLDER, PUBLICATIONS, STAGED, PROBES, ATTEMPTS)


@dataclass(frozen=True)
class _Kept:
    """What the kept versions name."""

    files: frozenset[str]
    snapshots: frozenset[str]
    documents: frozenset[str]


def vacuum(site: Site, keep_count: int, *, grace_s: float = GRACE_S) -> list[str]:
    """Remove what neither the last version, nor the `keep_count` before it, nor the current sources name.

    Nothing that is younger than `grace_s` is removed. Returns the keys that were.
    """
    store = site.lake
    assert store is not None, "only for a lake"
    oldest_s = _now_s(store) - grace_s
    before = _state(site)
    kept = _kept(site, store, keep_count)
    listed = dict(zip(_FOLDERS, at_once(store.list, _FOLDERS), strict=True))
    manifests = _old(listed[MANIFESTS], oldest_s)
    wanted, wanted_files = _wanted_manifests(site, store, listed[MANIFESTS], frozenset(manifests), kept)
    removed = [key for key in manifests if key not in wanted]
    removed += [
        key
        for key in _old(listed[PROFILES_FOLDER], oldest_s)
        if "/_delta_log/" not in key and key not in kept.files | wanted_files
    ]
    removed += [key for key in _old(listed[PUBLICATIONS], oldest_s) if key not in kept.documents]
    # A run that was killed while it tried the store has left one.
    removed += _old(listed[PROBES], oldest_s)
    removed += [
        key for key in _surplus_attempts(site, listed[ATTEMPTS]) if listed[ATTEMPTS][key].modified_s <= oldest_s
    ]
    snapshots = _old_snapshots(site, listed[STAGED], oldest_s, kept)
    if _state(site) != before:
        # A run has gone back to older exports, or published, meanwhile: it may name what is to be removed.
        return []
    faults.point("vacuum.chosen")
    # Their markers first: what a killed removal leaves must not look like a whole snapshot.
    store.delete([key for key in snapshots if key.endswith(ACCOUNTING_FILE)])
    faults.point("vacuum.markers")
    store.delete([*removed, *snapshots])
    store.sweep_unfinished(oldest_s)
    faults.point("vacuum.removed")
    _sweep_scratch(site, kept)
    return [*removed, *snapshots]


def _state(site: Site) -> tuple[object, ...]:
    """The pointers and the version that there are."""
    pointers = fetch_sources(site)
    return (*(found and found.content for found in pointers.values()), lake_table(site).current())


def _now_s(store: Store) -> float:
    """The store's time: this machine's clock may be wrong."""
    key = f"{PROBES}/{uuid.uuid4().hex}"
    store.put(key, b"")
    found = store.head(key)
    store.delete([key])
    return found.modified_s if found else 0.0


def _kept(site: Site, store: Store, keep_count: int) -> _Kept:
    table = lake_table(store)
    now = table.current()
    files, snapshots, documents = set[str](), set[str](), set[str]()
    for number in range(max(0, now.number - keep_count), now.number + 1) if now else ():
        name = table.document_of(number)
        if name is None or store.head(name) is None:
            continue
        document = read_document(store, name)
        files |= {profiles_key(one.name) for one in document.table_files}
        snapshots |= {key.rpartition("/")[0] for key in document.quarantine}
        documents.add(name)
    return _Kept(frozenset(files), frozenset(snapshots), frozenset(documents))


def _wanted_manifests(
    site: Site, store: Store, listed: Mapping[str, Stat], old: Set[str], kept: _Kept
) -> tuple[set[str], set[str]]:
    """The old manifests of the current sources and of kept files, and the files of these and of young ones."""
    snapshots = inspect_all(site).snapshots
    names = site.shard_ids if snapshots else ()
    current = {manifest_key(site, shard_input(site, snapshots, name)) for name in names}
    read = {key: read_lake_manifest(one.content) for key, one in store.get_listed(listed).items()}
    files = {key: profiles_key(manifest.file) for key, manifest in read.items() if manifest}
    wanted = {key for key in old if key in current or files.get(key) in kept.files}
    return wanted, {file for key, file in files.items() if key in wanted or key not in old}


def _surplus_attempts(site: Site, listed: Mapping[str, Stat]) -> list[str]:
    """The records of attempts of which no machine keeps as many."""
    by_shard = attempt_names(listed, site.shard_ids)
    return [attempt_key(name, record) for name in by_shard for record in attempts.surplus_names(by_shard[name])]


def _old(listed: dict[str, Stat], oldest_s: float) -> list[str]:
    return sorted(key for key, stat in listed.items() if stat.modified_s <= oldest_s)


def _old_snapshots(site: Site, listed: dict[str, Stat], oldest_s: float, kept: _Kept) -> list[str]:
    """The objects of snapshots of which all are old, and that nothing names."""
    pointers = {pointer_key(name) for name in site.contract.source_names}
    current = {f"{STAGED}/{name}/{current_folder(site.home, name)}" for name in site.contract.source_names}
    newest: dict[str, float] = {}
    for key, stat in listed.items():
        folder = key.rpartition("/")[0]
        newest[folder] = max(newest.get(folder, 0.0), stat.modified_s)
    return sorted(
        key
        for key in listed
        if key not in pointers
        and (folder := key.rpartition("/")[0]) not in current | kept.snapshots
        and newest[folder] <= oldest_s
    )


def _sweep_scratch(site: Site, kept: _Kept) -> None:
    """Remove the copies of files that no kept version has."""
    names = {key.rpartition("/")[2] for key in kept.files}
    for path in folder_entries.list_files(site.home.shards, ".parquet"):
        if path.name not in names:
            sweeping.discard(path)
