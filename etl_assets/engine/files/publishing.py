"""Publish and read: complete files and folders under `ETL_HOME`, or none.

A published file or folder is complete or not there. It is built under a temporary name in the same folder (so the swap
is one rename on one file system), synced and renamed; then the folder is synced. A temporary name carries host and
process, so that a leftover of a killed process can be distinguished from a file that is being written now.
"""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from etl_assets.engine import faults
from etl_assets.engine.files import locks, presence
from etl_assets.engine.files.documents import encoded
from etl_assets.engine.files.folder_entries import ABSENT
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.sweeping import discard
from etl_assets.engine.files.temporary import temporary_path
from etl_assets.engine.files.wal import WAL_SUFFIX, swap
from etl_assets.errors import Action, Advice, ConfigError

# The stamp of a file that does not exist.
MISSING = "-"
_COPIED_BYTES = 4 << 20


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


def ensure_home(home: Home) -> Path:
    """Make `home` if it is not there, for its owner alone: it will hold personal data.

    A folder that is there keeps its mode, and parents that are made on the way get the usual one.
    """
    if not home.root.is_dir():
        ensure_directory(home.root.parent)
        with contextlib.suppress(FileExistsError):
            home.root.mkdir(mode=0o700)
        sync(home.root.parent)
    return home.root


def require_writable(home: Home) -> None:
    """Make sure that files can be created in `home`, creating it if needed; ConfigError says why not."""
    try:
        ensure_home(home)
        with tempfile.TemporaryFile(dir=home.root):
            pass
        presence.hold(home.root)
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
    _require_replaceable(target)
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
        if is_regular(target):
            _take_over_access(target, temporary)
        else:
            # Deliberately not opened: a link may lead to another user's file, and opening a pipe would block.
            target.unlink(missing_ok=True)
        swap(temporary, target)
        _point(what, "after_swap", target)
        if is_durable:
            sync(target.parent)
        _point(what, "end", target)
    finally:
        discard(temporary)
        discard(temporary.with_name(temporary.name + WAL_SUFFIX))


@contextlib.contextmanager
def publish_directory(target: Path, *, what: str | None, holder: contextlib.ExitStack | None = None) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; when the block succeeds, sync and rename it.

    For immutable folders: if the name is published already, the published copy stays. `holder` keeps the new folder's
    lock, so that no other run sweeps it before anything names it.
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
        if holder is not None:
            holder.enter_context(locks.shared(temporary))
        try:
            os.rename(temporary, target)
        except OSError:
            if not target.is_dir():
                raise
            if holder is not None:
                # Another run published this name first: hold its folder instead.
                holder.enter_context(locks.shared(target))
        _point(what, "after_swap")
        sync(target.parent)
        _point(what, "end")
    finally:
        discard(temporary)


@contextlib.contextmanager
def scratch_directory(home: Home) -> Iterator[Path]:
    """A private folder for spilling and intermediate files, removed afterwards; those of killed processes are swept."""
    ensure_home(home)
    presence.hold(home.root)
    ensure_directory(home.scratch)
    path = temporary_path(home.scratch / "work")
    path.mkdir()
    try:
        yield path
    finally:
        discard(path)


def subfolder(scratch: Path, name: str) -> Path:
    """Make a folder in a scratch folder, with which it is removed."""
    path = scratch / name
    path.mkdir()
    return path


def publish_json(target: Path, value: Any, *, what: str | None = None, is_durable: bool = True) -> None:
    """Publish a small JSON document; ConfigError when it is larger than any that is read."""
    content = encoded(target, value)
    with publish_file(target, what=what, is_durable=is_durable) as temporary:
        temporary.write_bytes(content)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file in an unpublished folder."""
    path.write_bytes(content)


def stamp(path: Path) -> str:
    """Changes when the file is published again; MISSING when it does not exist."""
    try:
        found = path.lstat()
    except ABSENT:
        return MISSING
    return f"{found.st_ino} {found.st_mtime_ns} {found.st_size}"


def stamps(paths: Iterable[Path]) -> dict[Path, str]:
    """The stamp of each of these files."""
    return {path: stamp(path) for path in paths}


def size_bytes(path: Path) -> int | None:
    """The size of a published file; None when it does not exist."""
    try:
        return path.lstat().st_size
    except ABSENT:
        return None


def size_and_time(path: Path) -> tuple[int, int] | None:
    """The size of a file of its own and when it was changed, in whole seconds; None when it does not exist."""
    try:
        found = path.lstat()
    except ABSENT:
        return None
    return (found.st_size, int(found.st_mtime)) if stat.S_ISREG(found.st_mode) else None


def set_time(path: Path, modified_s: float) -> None:
    """Say when an unpublished file was changed."""
    os.utime(path, (modified_s, modified_s))


def is_regular(path: Path) -> bool:
    """Whether this is a file of its own: no link, which may lead to someone else's file, no folder and no pipe."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except ABSENT:
        return False


def rename(path: Path, target: Path) -> None:
    """Give an unpublished file another name in the same unpublished folder."""
    os.replace(path, target)


def link_published(path: Path, target: Path) -> None:
    """Give a published file a second name, so that it stays when another one takes the first; OSError as `os.link`."""
    os.link(path, target, follow_symlinks=False)


def is_same_file(path: Path, other: Path) -> bool:
    """Whether both are names of one file."""
    try:
        return os.path.samestat(path.lstat(), other.lstat())
    except ABSENT:
        return False


def copy_published(path: Path, target: Path) -> None:
    """Copy a published file to a temporary one; OSError for a link, which may lead to someone else's file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as source, target.open("wb", buffering=0) as copy:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        shutil.copyfileobj(source, copy, _COPIED_BYTES)


def sync(path: Path) -> None:
    """Flush a file's or a folder's data to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_over_access(target: Path, temporary: Path) -> None:
    """Give a file the mode and the group of the one that it replaces: a user may have opened that to others.

    Where this user may not give it the group, the group's rights go: they were another group's.
    """
    old, new = target.lstat(), temporary.lstat()
    mode = old.st_mode & 0o777
    if old.st_gid != new.st_gid:
        try:
            os.chown(temporary, -1, old.st_gid)
        except OSError:
            mode &= ~0o070
    if mode != new.st_mode & 0o7777:
        temporary.chmod(mode)


def _require_replaceable(target: Path) -> None:
    """ConfigError for a folder under the name of a file: it is not this pipeline's, so it is not removed."""
    if target.is_dir() and not target.is_symlink():
        raise ConfigError(
            f"{target} is a folder. Expected a file that this pipeline publishes, or nothing. Move the folder away.",
            Advice(Action.RUN),
            subject=str(target),
        )


def _point(what: str | None, moment: str, path: Path | None = None) -> None:
    if what is not None:
        faults.point(f"{what}.{moment}", path)
