"""Publish, list, read, remove and sweep: the only code that touches files under `ETL_HOME`.

A published file or folder is complete or not there. It is built under a temporary name in the same folder (so the swap
is one rename on one file system), synced and renamed; then the folder is synced. A temporary name carries host and
process, so that a leftover of a killed process can be distinguished from a file that is being written now.
"""

import contextlib
import json
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from etl_assets.engine import faults
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.processes import process_is_alive, this_process
from etl_assets.engine.files.wal import WAL_SUFFIX, swap
from etl_assets.errors import Action, Advice, ConfigError

TEMPORARY_PREFIX = ".tmp-"
# The stamp of a file that does not exist.
MISSING = "-"
# Below a path that is a file nothing exists, either.
_ABSENT = (FileNotFoundError, NotADirectoryError)
# A process of another host cannot be probed by pid; no build of this pipeline takes a day.
FOREIGN_LEFTOVER_S = 24 * 3600.0


def ensure_directory(path: Path) -> Path:
    """Make the folder and its parents, durably; OSError names the path that cannot be made."""
    if path.is_dir():
        return path
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    # A power cut that loses the folder's name would lose everything in it.
    for folder in made:
        sync(folder.parent)
    return path


def require_writable(home: Home) -> None:
    """Make sure that files can be created in `home`, creating it if needed; ConfigError says why not."""
    try:
        ensure_directory(home.root)
        with tempfile.TemporaryFile(dir=home.root):
            pass
    except OSError as error:
        raise ConfigError(
            f"ETL_HOME {home.root} cannot be written to ({error.strerror or error}). Expected a folder that this user "
            "may write in.",
            Advice(Action.SET, "ETL_HOME", "data"),
            subject=str(home.root),
        ) from error


@contextlib.contextmanager
def publish_file(
    target: Path, *, what: str | None, check: Callable[[], None] | None = None, is_durable: bool = True
) -> Iterator[Path]:
    """Yield a temporary path beside `target`; when the block succeeds, sync it and swap it in, else remove it.

    `what` names the fault points of this publication; None for one that has none. `check` raises if the file may not be
    published any more. It is called last, because syncing a large file takes seconds. Without `is_durable` nothing is
    synced, so a power cut may undo the publication. Readers that hold the old file keep reading the old data; every
    later open sees the new file.
    """
    ensure_directory(target.parent)
    temporary = temporary_path(target)
    try:
        _point(what, "begin")
        yield temporary
        _point(what, "before_sync", temporary)
        if is_durable:
            sync(temporary)
        _point(what, "before_swap", temporary)
        if check is not None:
            check()
        swap(temporary, target)
        _point(what, "after_swap", target)
        if is_durable:
            sync(target.parent)
        _point(what, "end", target)
    finally:
        remove(temporary)
        remove(temporary.with_name(temporary.name + WAL_SUFFIX))


@contextlib.contextmanager
def publish_directory(target: Path, *, what: str) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; when the block succeeds, sync and rename it.

    For immutable folders: if the name is published already, the published copy stays.
    """
    ensure_directory(target.parent)
    temporary = temporary_path(target)
    temporary.mkdir()
    try:
        _point(what, "begin")
        yield temporary
        some_file = next(iter(sorted(temporary.glob("*.parquet"))), None)
        _point(what, "before_sync", some_file)
        for path in sorted(temporary.rglob("*"), reverse=True):
            sync(path)
        sync(temporary)
        _point(what, "before_swap", some_file)
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():
                raise
        _point(what, "after_swap")
        sync(target.parent)
        _point(what, "end")
    finally:
        remove(temporary)


@contextlib.contextmanager
def scratch_directory(home: Home) -> Iterator[Path]:
    """A private folder for spilling and intermediate files, removed afterwards; those of killed processes are swept."""
    ensure_directory(home.scratch)
    path = temporary_path(home.scratch / "work")
    path.mkdir()
    try:
        yield path
    finally:
        remove(path)


def subfolder(scratch: Path, name: str) -> Path:
    """Make a folder in a scratch folder, with which it is removed."""
    path = scratch / name
    path.mkdir()
    return path


def publish_json(target: Path, value: Any, *, what: str | None = None, is_durable: bool = True) -> None:
    """Publish a small JSON document."""
    with publish_file(target, what=what, is_durable=is_durable) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any | None:
    """The document; None if the file does not exist or is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (*_ABSENT, ValueError):
        return None


def stamp(path: Path) -> str:
    """Changes when the file is published again; MISSING when it does not exist."""
    try:
        stat = path.stat()
    except _ABSENT:
        return MISSING
    return f"{stat.st_ino} {stat.st_mtime_ns} {stat.st_size}"


def stamps(paths: Iterable[Path]) -> dict[Path, str]:
    """The stamp of each of these files."""
    return {path: stamp(path) for path in paths}


def size_bytes(path: Path) -> int | None:
    """The size of a published file; None when it does not exist."""
    try:
        return path.stat().st_size
    except _ABSENT:
        return None


def list_files(folder: Path, suffix: str) -> list[Path]:
    """The published files of a folder with this ending, in name order; none when there is no folder."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(suffix))
    except _ABSENT:
        return []
    return [folder / name for name in names if not name.startswith(".")]


def list_folders(folder: Path) -> dict[Path, float]:
    """The published folders in a folder, and when each changed last (Unix time)."""
    found: dict[Path, float] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            # Another run may sweep the same folder.
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    found[folder / entry.name] = entry.stat(follow_symlinks=False).st_mtime
    return found


def rename(path: Path, target: Path) -> None:
    """Give an unpublished file another name in the same unpublished folder."""
    os.replace(path, target)


def copy_published(path: Path, target: Path) -> None:
    """Copy a published file to a temporary one."""
    shutil.copyfile(path, target)


def temporary_path(target: Path) -> Path:
    """A name beside `target` that no other attempt uses and that says which process is writing."""
    return target.with_name(f"{TEMPORARY_PREFIX}{target.name}-{_owner(os.getpid())}-{uuid.uuid4().hex[:8]}")


@lru_cache(maxsize=1)
def _owner(_pid: int) -> str:
    # Cached by pid, because a forked child is another process.
    return "-".join(str(part) for part in this_process())


def sweep_home(home: Home) -> None:
    """Sweep every folder of `home`: writers sweep their own folder, and a run that reuses everything writes nothing."""
    for folder in (home.root, home.scratch, home.shards, *home.staged.glob("*/"), *home.attempts.glob("*/")):
        sweep(folder)


def sweep(folder: Path) -> list[Path]:
    """Remove the leftovers of killed processes in `folder` and return them; files that a living process writes stay."""
    faults.point("sweep")
    swept = []
    try:
        with os.scandir(folder) as entries:
            left = sorted(entry.name for entry in entries if entry.name.startswith(TEMPORARY_PREFIX))
    except _ABSENT:
        return []
    for name in left:
        path = folder / name
        if not _writer_is_alive(path):
            remove(path)
            swept.append(path)
    return swept


def remove(path: Path) -> None:
    """Remove a file or a folder, whichever it is, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def remove_empty(folder: Path) -> None:
    """Remove an unpublished folder that holds nothing any more."""
    folder.rmdir()


def leftovers(home: Home) -> list[str]:
    """Temporary files and folders anywhere under `home`, relative to it, in name order; those being written too."""
    found = sorted(home.root.rglob(f"{TEMPORARY_PREFIX}*"))
    return [path.relative_to(home.root).as_posix() for path in found]


def sync(path: Path) -> None:
    """Flush a file's or a folder's data to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _point(what: str | None, moment: str, path: Path | None = None) -> None:
    if what is not None:
        faults.point(f"{what}.{moment}", path)


def _writer_is_alive(path: Path) -> bool:
    host, pid, start = _writer(path)
    alive = process_is_alive(host, pid, start)
    if alive is not None:
        return alive
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime < FOREIGN_LEFTOVER_S
    return False


def _writer(path: Path) -> tuple[str, int, str]:
    """Host, pid and process start out of a temporary name; an unreadable name has no writer here."""
    parts = path.name.removesuffix(WAL_SUFFIX).rsplit("-", 4)
    try:
        # The host name may hold hyphens, the target's name may too; the host is what follows the target's last one.
        return _host_in(parts[0] + "-" + parts[1]), int(parts[2]), parts[3]
    except (IndexError, ValueError):
        return "", 0, ""


def _host_in(name: str) -> str:
    host = socket.gethostname()
    return host if name.endswith("-" + host) else ""
