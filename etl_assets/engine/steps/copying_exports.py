"""Exports that lie in object stores, copied to a folder: only what has changed since the last copy is fetched.

Everything below the URLs is copied, so that what is read, and what looks like data and is not read, is decided as it is
for a folder. A file's time is that of its object. What was copied is noted beside the folder, after the last file.
The copies of other URLs are removed a day after they were last in use: they hold personal data.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from etl_assets.engine.files import folder_entries, locks, publishing, sweeping
from etl_assets.engine.files.documents import Form
from etl_assets.engine.files.temporary import TEMPORARY_PREFIX
from etl_assets.engine.hashing import stable_hash
from etl_assets.engine.lake.store import Stat, Store, at_once
from etl_assets.errors import Action, Advice, InputError, SourceChangedError, escaped, shown

SETTING = "ETL_SOURCES"
# Another run may still read another copy; none takes so long.
_UNUSED_S = 24 * 3600.0


@dataclass(frozen=True)
class _Copied:
    """The objects as they were when they were copied, by key."""

    objects: Mapping[str, Stat] = field(default_factory=dict)


_COPIED = Form(_Copied)


def copy_exports(urls: Sequence[str], folder: Path) -> None:
    """Make the folder a copy of what lies below the URLs, each of which may be that of a folder on this machine.

    InputError when nothing lies below one, or what cannot be files of one folder; ConfigError and StoreError as
    `Store`; SourceChangedError when an object is removed meanwhile.
    """
    placed = _placed(urls)
    found = {key: stat for key, (_, stat) in placed.items()}
    _refuse_unplaceable(placed)
    publishing.ensure_directory(folder)
    note = _note_of(folder)
    with locks.exclusive(folder):
        copied = (_COPIED.read(note) or _Copied()).objects
        _note(note, copied)
        _remove_others(folder, found)
        stale = [key for key, stat in found.items() if copied.get(key) != stat or not _is_there(folder / key, stat)]
        at_once(lambda key: _fetch(*placed[key], key, folder / key), stale)
        _note(note, found)
    _remove_other_copies(folder)


def look_at_exports(urls: Sequence[str], folder: Path) -> tuple[str, bool]:
    """A stamp of what lies below the URLs now, and whether the folder was made a copy of it; fetches nothing.

    InputError, ConfigError and StoreError as `copy_exports`.
    """
    found = {key: stat for key, (_, stat) in _placed(urls).items()}
    copied = (_COPIED.read(_note_of(folder)) or _Copied()).objects
    return stable_hash(repr(sorted(found.items()))), copied == found


def _placed(urls: Sequence[str]) -> dict[str, tuple[Store, Stat]]:
    """The objects below all URLs by their keys; InputError where one has none, or two have the same."""
    placed: dict[str, tuple[Store, Stat]] = {}
    for url in urls:
        store = Store(url, SETTING, is_read_only=True)
        is_missing = store.folder is not None and not folder_entries.is_folder(store.folder)
        found = {} if is_missing else _without_markers(store.list(""))
        if not found:
            raise InputError(
                f"Nothing lies below {escaped(url)}: expected exports.", Advice(Action.SET, SETTING), subject=url
            )
        for key in sorted(found.keys() & placed.keys()):
            raise InputError(
                f"{shown(key)} lies below {escaped(placed[key][0].url)} and below {escaped(url)}: expected each file "
                "in one place. Remove one of them, or take one place out.",
                Advice(Action.SET, SETTING),
                subject=key,
            )
        placed.update({key: (store, stat) for key, stat in found.items()})
    return placed


def _note_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


def _note(path: Path, objects: Mapping[str, Stat]) -> None:
    """Say what was copied, and by the time of the note when the copy was last in use."""
    publishing.publish_json(path, {"objects": {key: vars(stat) for key, stat in objects.items()}}, is_durable=False)


def _without_markers(objects: Mapping[str, Stat]) -> dict[str, Stat]:
    """Without the empty objects that consoles of stores make for folders."""
    folders = {parent for key in objects for parent in _folders_of(key)}
    return {key: stat for key, stat in objects.items() if stat.size_bytes or key not in folders}


def _folders_of(key: str) -> list[str]:
    return [parent.as_posix() for parent in PurePosixPath(key).parents]


def _refuse_unplaceable(placed: Mapping[str, tuple[Store, Stat]]) -> None:
    """InputError for keys that no folder can have as names of files."""
    known = set(placed)
    for key, (store, _) in placed.items():
        steps, is_both = key.split("/"), bool(known.intersection(_folders_of(key)))
        if {"", ".", ".."} & {*steps} or "\0" in key or steps[-1].startswith(TEMPORARY_PREFIX) or is_both:
            raise InputError(
                f"{escaped(f'{store.url}/{key}')} cannot be copied to a folder: {shown(key)} is no name of a file "
                "there, or both a file and a folder. Rename the object.",
                subject=key,
            )


def _is_there(path: Path, stat: Stat) -> bool:
    """Whether the copy is this object's; file systems keep whole seconds at least."""
    found = publishing.size_and_time(path)
    return found is not None and found == (stat.size_bytes, int(stat.modified_s))


def _fetch(store: Store, stat: Stat, key: str, path: Path) -> None:
    with publishing.publish_file(path, what=None, is_durable=False) as temporary:
        if not store.download(key, temporary):
            raise SourceChangedError(f"{escaped(f'{store.url}/{key}')} was removed while it was read.", subject=key)
        publishing.set_time(temporary, stat.modified_s)


def _remove_other_copies(folder: Path) -> None:
    """Remove the copies of other URLs that are not in use any more."""
    sweeping.sweep(folder.parent)
    oldest_s = time.time() - _UNUSED_S
    for copy in folder_entries.list_folders(folder.parent):
        note = _note_of(copy)
        used = publishing.size_and_time(note)
        if copy != folder and used is not None and used[1] <= oldest_s:
            sweeping.discard(copy)
            sweeping.discard(note)


def _remove_others(folder: Path, keys: Iterable[str]) -> None:
    """Remove the copies of objects that are gone, and what a killed process has left."""
    known = {folder / key for key in keys}
    files, folders = folder_entries.entries_below(folder)
    for path in files:
        if path not in known and not path.name.startswith(TEMPORARY_PREFIX):
            sweeping.remove(path)
    for one in folders:
        sweeping.sweep(one)
        if not folder_entries.has_entries(one):
            sweeping.remove_empty(one)
    sweeping.sweep(folder)
