"""Staged rows and attempts, between a lake and the scratch of it under ETL_HOME, which has the layout of `files`.

So the engine works on files, as it does without a lake. A snapshot's name is a hash of what it was made from, so two
senders agree. Its `snapshot.json` is sent after its slices, and the pointer of the source after that.
A pointer is replaced only by a run that has read the one that is there.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from etl_assets.engine import faults
from etl_assets.engine.files import folder_entries, publishing, sweeping
from etl_assets.engine.files.documents import Form, encoded
from etl_assets.engine.lake.store import Found, Store, at_once
from etl_assets.engine.published import attempts
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.lake_names import ATTEMPTS, attempt_key, pointer_key, snapshot_key
from etl_assets.engine.published.snapshots import (
    ACCOUNTING_FILE,
    QUARANTINE_FILE,
    REJECTED_KEYS_FILE,
    Pointer,
    Snapshot,
    current_folder,
    current_snapshot,
    load_snapshot,
)
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, EtlError, GoneError, SourceChangedError, escaped

_POINTER, _ATTEMPT = Form(Pointer), Form(Attempt)
_LOG = logging.getLogger(__name__)


def fetch_sources(site: Site) -> dict[str, Found | None]:
    """Make the lake's current snapshots this scratch's, without their rows; returns the pointers as they were read."""
    names = site.contract.source_names
    return dict(zip(names, at_once(lambda name: fetch_source(site, name), names), strict=True))


def fetch_source(site: Site, source: str) -> Found | None:
    """As `fetch_sources`, for one source."""
    assert site.lake is not None, "only for a lake"
    found = site.lake.get(pointer_key(source))
    _adopt(site, site.lake, source, found)
    return found


def _adopt(site: Site, store: Store, source: str, found: Found | None) -> None:
    home = site.home
    pointer = _POINTER.parse(found.content) if found else None
    if pointer is None:
        # Its snapshots stay in the scratch: staging the same bytes again sends them.
        sweeping.discard(home.source_pointer(source))
        return
    if load_snapshot(home, source, pointer.folder) is None:
        accounting = store.get(snapshot_key(source, pointer.folder, ACCOUNTING_FILE))
        if accounting is None:
            sweeping.discard(home.source_pointer(source))
            return
        target = home.snapshot(source, pointer.folder)
        with publishing.publish_directory(target, what=None) as folder:
            publishing.write_bytes(folder / ACCOUNTING_FILE, accounting.content)
        if load_snapshot(home, source, pointer.folder) is None and not target.is_symlink():
            # The folder was there already: a snapshot that was withdrawn here, and sent again by another machine.
            with publishing.publish_file(target / ACCOUNTING_FILE, what=None, is_durable=False) as temporary:
                publishing.write_bytes(temporary, accounting.content)
    if current_folder(home, source) != pointer.folder:
        publishing.publish_json(home.source_pointer(source), asdict(pointer), is_durable=False)


def fetch_rows(site: Site, snapshots: Mapping[str, Snapshot], shard_ids: Iterable[str]) -> None:
    """Fetch what these shards are built from, where it is not here yet; GoneError when it is gone from the lake."""
    wanted = [(snapshot, f"{shard_id}.parquet") for snapshot in snapshots.values() for shard_id in shard_ids]
    wanted += [(s, REJECTED_KEYS_FILE) for s in snapshots.values() if any(part.rejected_count for part in s.slices)]
    fetch_files(site, wanted)


def fetch_whole(site: Site, snapshots: Iterable[Snapshot]) -> None:
    """Fetch every file of these snapshots that is not here yet."""
    shard_files = [f"{shard_id}.parquet" for shard_id in site.shard_ids]
    wanted = [(snapshot, name) for snapshot in snapshots for name in [*shard_files, QUARANTINE_FILE]]
    wanted += [
        (snapshot, REJECTED_KEYS_FILE)
        for snapshot, name in wanted
        if name == QUARANTINE_FILE and any(part.rejected_count for part in snapshot.slices)
    ]
    fetch_files(site, wanted)


def fetch_files(site: Site, wanted: Iterable[tuple[Snapshot, str]]) -> None:
    """Fetch these files of snapshots where they are not here yet.

    A snapshot of which one is gone from the lake is withdrawn there, and GoneError is raised: the machine that has all
    of it sends it again when it stages, and others read the exports again.
    """
    store = site.lake
    assert store is not None, "only for a lake"

    def fetch(one: tuple[Snapshot, str]) -> None:
        snapshot, name = one
        path = site.home.snapshot(snapshot.source, snapshot.folder) / name
        if publishing.is_regular(path):
            return
        try:
            download(store, snapshot_key(snapshot.source, snapshot.folder, name), path)
        except GoneError:
            withdraw_from_lake(site, snapshot)
            sweeping.discard(path.with_name(ACCOUNTING_FILE))
            raise

    at_once(fetch, wanted)


def withdraw_from_lake(site: Site, snapshot: Snapshot) -> None:
    """Make a folder of the lake one that no machine takes for a snapshot; nothing without a lake."""
    if site.lake is not None:
        site.lake.delete([snapshot_key(snapshot.source, snapshot.folder, ACCOUNTING_FILE)])


def download(store: Store, key: str, path: Path) -> None:
    """Fetch an object into the scratch, whole or not at all; GoneError when it is gone."""
    with publishing.publish_file(path, what=None, is_durable=False) as temporary:
        if not store.download(key, temporary):
            raise GoneError(
                f"{escaped(f'{store.url}/{key}')} is gone from the store.", Advice(Action.RUN), subject=store.url
            )


def send_source(site: Site, source: str, before: Found | None) -> None:
    """Send the current snapshot of a source and then its pointer, unless the lake has them.

    `before` is the pointer that the lake had when staging began. SourceChangedError when it has another one now.
    """
    store, snapshot = site.lake, current_snapshot(site.home, source)
    assert store is not None, "only for a lake"
    assert snapshot is not None, "it was staged"
    marker = snapshot_key(source, snapshot.folder, ACCOUNTING_FILE)
    if store.head(marker) is None:
        folder = site.home.snapshot(source, snapshot.folder)
        # The marker last: a folder without it is not taken for a snapshot.
        files = [path for path in folder_entries.list_files(folder, ".parquet") if publishing.is_regular(path)]
        faults.point("sending.begin")
        at_once(lambda path: _send_file(store, snapshot_key(source, snapshot.folder, path.name), path), files)
        faults.point("sending.slices")
        store.put(marker, folder / ACCOUNTING_FILE)
        faults.point("sending.marker")
    path = site.home.source_pointer(source)
    pointer = _POINTER.read(path)
    assert pointer is not None, "it was staged"
    content = encoded(path, asdict(pointer))
    if before is not None and before.content == content:
        return
    key = pointer_key(source)
    now = store.create(key, content) if before is None else store.replace(key, content, before.stat)
    if now is None or now.content != content:
        raise SourceChangedError(
            f"Source '{source}' was staged by another run meanwhile. The next attempt compares with its snapshot.",
            subject=source,
        )
    faults.point("sending.pointer")


def _send_file(store: Store, key: str, path: Path) -> None:
    faults.point("sending.slice", path)
    store.put(key, path)


def send_attempt(site: Site, attempt: Attempt) -> None:
    """Send the record of an attempt that has ended; a warning when that fails, for the shard is not to fail for it."""
    if site.lake is None:
        return
    path = attempts.path_of(site.home, attempt)
    try:
        faults.point("sending.attempt")
        site.lake.put(attempt_key(attempt.shard_id, path.name), encoded(path, asdict(attempt)))
    except (EtlError, OSError) as error:
        _LOG.warning("warning: the attempt at %s is not noted in the lake (%s).", attempt.shard_id, error)


def fetch_attempts(site: Site) -> None:
    """Fetch the newest records of attempts of other machines."""
    store = site.lake
    assert store is not None, "only for a lake"
    listed = attempt_names(store.list(ATTEMPTS), site.shard_ids)
    newest = [(shard_id, name) for shard_id, names in listed.items() for name in attempts.kept_names(names)]

    def fetch(one: tuple[str, str]) -> None:
        shard_id, name = one
        path = site.home.attempts_at(shard_id) / name
        if publishing.is_regular(path):
            return
        found = store.get(attempt_key(shard_id, name))
        attempt = _ATTEMPT.parse(found.content) if found else None
        if (
            attempt is not None
            and attempt.status is not Status.RUNNING
            and attempts.path_of(site.home, attempt) == path
        ):
            publishing.publish_json(path, asdict(attempt), is_durable=False)

    at_once(fetch, newest)


def attempt_names(keys: Iterable[str], shard_ids: Iterable[str]) -> dict[str, list[str]]:
    """The names of the objects that lie where records of attempts do, by shard."""
    names: dict[str, list[str]] = {shard_id: [] for shard_id in shard_ids}
    for key in keys:
        shard_id, _, name = key.removeprefix(f"{ATTEMPTS}/").partition("/")
        if shard_id in names:
            names[shard_id].append(name)
    return names
