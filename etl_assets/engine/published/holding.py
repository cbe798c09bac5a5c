"""How long staged rows and shards stay: what is replaced goes with the next run, unless someone is reading it then.

Readers hold a snapshot's folder by a lock (`files.locks`), and the sweep takes only what no one holds. Rows that were
deleted from the exports are so gone from `staged/` when the run that took the new exports is over. No reader waits for
another, and the sweep waits for none, so nothing can block.
"""

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from etl_assets.engine.files import folder_entries, locks, publishing, sweeping
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.wal import WAL_SUFFIX
from etl_assets.engine.published.inspecting import inspect
from etl_assets.engine.published.shards import ShardSet
from etl_assets.engine.published.snapshots import (
    ACCOUNTING_FILE,
    FOLDER_NAME,
    QUARANTINE_FILE,
    REJECTED_KEYS_FILE,
    Snapshot,
    current_folder,
    current_snapshot,
    current_snapshots,
    read_pointer,
    refused_folder,
)
from etl_assets.engine.routing import SHARD_NAME
from etl_assets.engine.site import Site
from etl_assets.errors import SourceChangedError

# How often snapshots are looked up again that were swept between the look and the lock: each time, another run has
# staged the source once more.
_LOOKS = 5
_SLICE = re.compile(rf"{SHARD_NAME.pattern}\.parquet")
_SHARD_FILE = re.compile(rf"({SHARD_NAME.pattern})\.(?:json|duckdb(?:{re.escape(WAL_SUFFIX)})?)")

_Found = TypeVar("_Found")


@contextlib.contextmanager
def held(home: Home, snapshots: Iterable[Snapshot]) -> Iterator[None]:
    """Keep these snapshots from being swept during the block; SourceChangedError when one is gone already."""
    with contextlib.ExitStack() as holder:
        for snapshot in snapshots:
            hold(home, snapshot.source, snapshot.folder, holder)
        yield


def hold(home: Home, source: str, folder: str, holder: contextlib.ExitStack) -> None:
    """Keep this snapshot until `holder` is closed; SourceChangedError when it is gone already.

    A snapshot without its accounting counts as gone: its removal has begun, and may have been killed.
    """
    path = home.snapshot(source, folder)
    try:
        holder.enter_context(locks.shared(path))
        if not publishing.is_regular(path / ACCOUNTING_FILE):
            raise FileNotFoundError(f"{path} has no {ACCOUNTING_FILE}")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceChangedError(
            f"Source '{source}' was staged again meanwhile. The next attempt reads the new snapshot.", subject=source
        ) from error


def current_held(site: Site) -> contextlib.AbstractContextManager[dict[str, Snapshot]]:
    """The current snapshots of all sources, kept during the block; ConfigError when one is not staged."""
    return _held_as_found(site.home, lambda: current_snapshots(site), lambda found: found.values())


def inspected_held(site: Site) -> contextlib.AbstractContextManager[ShardSet]:
    """The shards compared with the current sources, whose snapshots are kept during the block."""
    return _held_as_found(site.home, lambda: inspect(site), lambda found: found.snapshots.values())


def staged_held(home: Home, sources: Iterable[str]) -> contextlib.AbstractContextManager[dict[str, Snapshot]]:
    """The current snapshots of those of the sources that have one, kept during the block."""
    names = list(sources)

    def look() -> dict[str, Snapshot]:
        found = {name: current_snapshot(home, name) for name in names}
        return {name: snapshot for name, snapshot in found.items() if snapshot is not None}

    return _held_as_found(home, look, lambda found: found.values())


@contextlib.contextmanager
def _held_as_found(
    home: Home, look: Callable[[], _Found], snapshots_of: Callable[[_Found], Iterable[Snapshot]]
) -> Iterator[_Found]:
    """Look snapshots up and keep them during the block; SourceChangedError when they are gone at every look."""
    with contextlib.ExitStack() as holder:
        for number in range(1, _LOOKS + 1):
            found = look()
            try:
                holder.enter_context(held(home, snapshots_of(found)))
            except SourceChangedError:
                if number == _LOOKS:
                    raise
                continue
            break
        yield found


def sweep_unused(site: Site) -> None:
    """Sweep what no shard is built from or merged from any more.

    That is the replaced snapshots of the project's sources, all snapshots of other sources, and the shards beyond the
    number of shards: all of them hold personal data.
    """
    declared = [site.home.staged / name for name in site.contract.source_names]
    for name in site.contract.source_names:
        sweep_replaced(site.home, name)
    for folder in folder_entries.list_own_folders(site.home.staged):
        # Compared as folders: a renamed source's old name may be a link to the folder of the new one.
        if not any(other.is_dir() and folder.samefile(other) for other in declared):
            with sweeping.warns_of(folder):
                _sweep_undeclared(site.home, folder.name)
    for path in folder_entries.list_files(site.home.shards, ""):
        match = _SHARD_FILE.fullmatch(path.name)
        if match is not None and match[1] not in site.shard_ids and publishing.is_regular(path):
            sweeping.discard(path)


def sweep_accepted(home: Home, source: str) -> None:
    """Sweep the snapshots of a source whose exports were accepted: what was refused before goes, too."""
    sweeping.discard(home.refused_pointer(source))
    sweep_replaced(home, source)


def sweep_replaced(home: Home, source: str, coming: str | None = None) -> None:
    """Remove the snapshots of a source that are neither current nor the last refused one, once they have no readers.

    `coming` is the folder that will be current next; it stays, too.

    Only folders that have the name and a file of a snapshot, because `staged/<source>` may be a link to a folder that
    others use, too. Such a link is swept like any folder: it holds the same records, and what is deleted is to be
    gone from there as well.
    """
    folder = home.staged / source
    sweeping.sweep(folder)
    pointer = home.source_pointer(source)
    # Without a pointer, the folder was changed when that was removed.
    replaced_by = pointer if publishing.is_regular(pointer) else folder
    for path in folder_entries.list_folders(folder):
        if not _is_snapshot(path):
            continue
        with locks.alone(path, replaced_by) as is_unused:
            # Asked with the lock in hand: a run that makes it current, or refuses it, holds it until it is.
            if is_unused and path.name not in (coming, current_folder(home, source), refused_folder(home, source)):
                _remove(path)


def _remove(path: Path) -> None:
    """Remove a snapshot, its accounting first: what a killed removal leaves must not look like a whole snapshot."""
    if sweeping.discard(path / ACCOUNTING_FILE):
        sweeping.discard(path)


def _sweep_undeclared(home: Home, source: str) -> None:
    """Remove all snapshots of a source that the project does not have, once they have no readers."""
    if read_pointer(home, source) is not None:
        sweeping.discard(home.source_pointer(source))
    if refused_folder(home, source) is not None:
        sweeping.discard(home.refused_pointer(source))
    sweep_replaced(home, source)


def _is_snapshot(path: Path) -> bool:
    if FOLDER_NAME.fullmatch(path.name) is None:
        return False
    own = [path / name for name in (ACCOUNTING_FILE, QUARANTINE_FILE, REJECTED_KEYS_FILE)]
    own += [slice_ for slice_ in folder_entries.list_files(path, ".parquet") if _SLICE.fullmatch(slice_.name)]
    return any(map(publishing.is_regular, own))
