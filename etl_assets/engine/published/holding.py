"""How long snapshots stay: a replaced one goes with the next run, unless someone is reading it at that moment.

Readers hold a snapshot's folder by a lock (`files.locks`), and the sweep takes only what no one holds. Rows that were
deleted from the exports are so gone from `staged/` when the run that took the new exports is over. No reader waits for
another, and the sweep waits for none, so nothing can block.
"""

import contextlib
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from etl_assets.engine.files import locks, publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.shards import ShardSet, inspect_shards
from etl_assets.engine.published.snapshots import (
    ACCOUNTING_FILE,
    FOLDER_NAME,
    QUARANTINE_FILE,
    Snapshot,
    current_folder,
    current_snapshots,
)
from etl_assets.engine.site import Site
from etl_assets.errors import SourceChangedError

# How often snapshots are looked up again that were swept between the look and the lock: each time, another run has
# staged the source once more.
_LOOKS = 5


@contextlib.contextmanager
def held(home: Home, snapshots: Iterable[Snapshot]) -> Iterator[None]:
    """Keep these snapshots from being swept during the block; SourceChangedError when one is gone already."""
    with contextlib.ExitStack() as holder:
        for snapshot in snapshots:
            hold(home, snapshot.source, snapshot.folder, holder)
        yield


def hold(home: Home, source: str, folder: str, holder: contextlib.ExitStack) -> None:
    """Keep this snapshot until `holder` is closed; SourceChangedError when it is gone already."""
    try:
        holder.enter_context(locks.shared(home.snapshot(source, folder)))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise SourceChangedError(
            f"Source '{source}' was staged again meanwhile. The next attempt reads the new snapshot.", subject=source
        ) from error


@contextlib.contextmanager
def current_held(site: Site) -> Iterator[dict[str, Snapshot]]:
    """The current snapshots of all sources, kept during the block; ConfigError when one is not staged."""
    with contextlib.ExitStack() as holder:
        for look in range(1, _LOOKS + 1):
            snapshots = current_snapshots(site)
            try:
                holder.enter_context(held(site.home, snapshots.values()))
            except SourceChangedError:
                if look == _LOOKS:
                    raise
                continue
            break
        yield snapshots


@contextlib.contextmanager
def inspected_held(site: Site) -> Iterator[ShardSet]:
    """The shards compared with the current sources, whose snapshots are kept during the block."""
    with contextlib.ExitStack() as holder:
        for look in range(1, _LOOKS + 1):
            found = inspect_shards(site)
            try:
                holder.enter_context(held(site.home, found.snapshots.values()))
            except SourceChangedError:
                if look == _LOOKS:
                    raise
                continue
            break
        yield found


def sweep_sources(site: Site) -> None:
    """Sweep the replaced snapshots of every source of the project."""
    for name in site.contract.source_names:
        sweep_replaced(site.home, name)


def sweep_replaced(home: Home, source: str, *, keep: Container[str] = ()) -> None:
    """Remove the snapshots of a source that are neither current nor to `keep`, once no one is reading them.

    Only folders that have the name and a file of a snapshot, because `staged/<source>` may be a link to a folder that
    others use, too. Such a link is swept like any folder: it holds the same records, and what is deleted is to be
    gone from there as well.
    """
    folder = home.staged / source
    publishing.sweep(folder)
    for path in publishing.list_folders(folder):
        if path.name in keep or not _is_snapshot(path):
            continue
        with locks.alone(path) as is_unused:
            # Asked with the lock in hand: a run that makes it current holds it until it is.
            if is_unused and current_folder(home, source) != path.name:
                publishing.remove(path)


def _is_snapshot(path: Path) -> bool:
    if FOLDER_NAME.fullmatch(path.name) is None:
        return False
    own = (path / ACCOUNTING_FILE, path / QUARANTINE_FILE)
    return any(map(publishing.is_regular, own)) or bool(publishing.list_files(path, ".parquet"))
