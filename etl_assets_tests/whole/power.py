"""A power cut: what a process has made sure of, and what the disk may hold when the power comes back.

`record` notes in a journal what the process syncs and renames. `cut` then takes away from an ETL_HOME all that was not
synced, as a disk may. It goes by what Python does: what DuckDB syncs on its own is not counted, so more is lost than
would be.
"""

import contextlib
import itertools
import json
import os
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any


class Loss(StrEnum):
    """What a file system may do with what was not synced."""

    CONTENT = "content"  # names are as the process left them, contents are empty
    NAMES = "names"  # names are as they were last synced, contents are zeros


@dataclass(frozen=True)
class Rename:
    """A rename under ETL_HOME: what lacked a sync before it, and what the folder's sync after it would find."""

    source: Path
    target: Path
    unsynced: tuple[Path, ...]
    is_folder_synced: bool


@dataclass
class Disk:
    """What is certain to be on it: contents by (inode, time, size), and the names in each folder by its inode."""

    contents: set[tuple[int, int, int]] = field(default_factory=set)
    names: dict[int, dict[str, int]] = field(default_factory=dict)


def record(folder: Path) -> None:
    """Note from now on, in `folder`, what this process syncs and renames; files that it replaces are kept there."""
    folder.mkdir(exist_ok=True)
    journal = os.open(folder / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    numbers, one_at_a_time = itertools.count(), threading.Lock()
    fsync, replace, rename = os.fsync, os.replace, os.rename

    def note(**facts: Any) -> None:
        os.write(journal, (json.dumps(facts) + "\n").encode())

    def noted_fsync(descriptor: int) -> None:
        # One after the other: of two threads that sync a folder, the later note must not hold the earlier names.
        with one_at_a_time:
            found = os.fstat(descriptor)
            names = _names(descriptor) if stat.S_ISDIR(found.st_mode) else None
            fsync(descriptor)
            note(did="sync", inode=found.st_ino, time=found.st_mtime_ns, size=found.st_size, names=names)

    def noted(swap: Callable[..., None]) -> Callable[..., None]:
        def noted_swap(source: Any, target: Any) -> None:
            target = Path(target)
            if target.is_file():
                # The old content lives on under its number, so that a lost rename can be undone.
                kept = folder / f"{target.stat().st_ino}-{os.getpid()}-{next(numbers)}"
                os.link(target, kept)
            swap(source, target)
            contents = [(str(path), *_content(path)) for path in _files(target)]
            note(did="rename", source=str(source), target=str(target), folder=_inode(target.parent), contents=contents)

        return noted_swap

    # Only ever called with descriptors here.
    os.fsync = noted_fsync  # type: ignore[assignment]
    os.replace, os.rename = noted(replace), noted(rename)


def survey(home: Path) -> Disk:
    """The disk when everything under `home` has been there for long."""
    disk = Disk({_content(path) for path in _files(home)})
    for path in [home, *(path for path in home.rglob("*") if path.is_dir())]:
        disk.names[_inode(path)] = _names(path)
    return disk


def renames(folder: Path) -> list[Rename]:
    """The renames of a journal, except those inside of what was not published yet."""
    entries = list(_entries(folder))
    synced: set[tuple[int, int, int]] = set()
    found = []
    for number, entry in enumerate(entries):
        if entry["did"] == "sync":
            synced.add((entry["inode"], entry["time"], entry["size"]))
            continue
        target = Path(entry["target"])
        if target.name.startswith(".") or target.parent.name.startswith("."):
            continue
        unsynced = tuple(Path(path) for path, *content in entry["contents"] if tuple(content) not in synced)
        later = [other["inode"] for other in entries[number:] if other["did"] == "sync"]
        found.append(Rename(Path(entry["source"]), target, unsynced, entry["folder"] in later))
    return found


def cut(home: Path, folder: Path, loss: Loss, before: Disk) -> None:
    """Take from `home` what the recorded processes did not make sure of since `before`."""
    disk = Disk(set(before.contents), dict(before.names))
    for entry in _entries(folder):
        if entry["did"] == "sync":
            disk.contents.add((entry["inode"], entry["time"], entry["size"]))
            if entry["names"] is not None:
                disk.names[entry["inode"]] = entry["names"]
    if loss is Loss.NAMES:
        _forget_names(home, folder, disk)
    for path in _files(home):
        if _content(path) not in disk.contents:
            size = path.stat().st_size if loss is Loss.NAMES else 0
            path.write_bytes(bytes(size))


def _forget_names(home: Path, folder: Path, disk: Disk) -> None:
    """Give every folder the names that it had when it was last synced."""
    if disk.names.get(_inode(home.parent), {}).get(home.name) != _inode(home):
        shutil.rmtree(home)
        return
    kept = {int(path.name.partition("-")[0]): path for path in folder.glob("*-*")}
    folders = [home]
    while folders:
        place = folders.pop()
        certain = disk.names.get(_inode(place), {})
        for path in list(place.iterdir()):
            inode = path.lstat().st_ino
            if certain.get(path.name) == inode:
                folders += [path] if path.is_dir() else []
                continue
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, inode in certain.items():
            if inode in kept and not (place / name).exists():
                os.link(kept[inode], place / name)


def _entries(folder: Path) -> Iterator[dict[str, Any]]:
    with contextlib.suppress(FileNotFoundError):
        yield from (json.loads(line) for line in (folder / "journal").read_text(encoding="utf-8").splitlines())


def _files(path: Path) -> list[Path]:
    """The file itself, or every file in a folder."""
    return [path] if path.is_file() else sorted(found for found in path.rglob("*") if found.is_file())


def _names(path: Path | int) -> dict[str, int]:
    with os.scandir(path) as found:
        return {entry.name: entry.inode() for entry in found}


def _content(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _inode(path: Path) -> int:
    return path.stat().st_ino
