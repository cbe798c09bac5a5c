"""Locks on published folders: a folder that someone reads is not swept.

The lock is on the folder itself. It leaves nothing behind, ends with its process, and stays with the folder when that
is renamed. Where the file system has no locks, none is taken, and a folder is kept for an hour after it was replaced.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# No shard is built from slices for so long.
GRACE_S = 3600.0
# Removing a folder of a few files takes less. A lock that stays is a stranger's, and is not waited for.
_REMOVAL_S, _POLL_S = 5.0, 0.01


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[None]:
    """Keep a folder from being removed; FileNotFoundError or NotADirectoryError when it is gone already.

    It may wait for a removal that has begun, and for nothing else.
    """
    descriptor = os.open(folder, _OPEN)
    try:
        _share(descriptor)
        if not _is_still_there(folder, descriptor):
            raise FileNotFoundError(f"{folder} was removed")
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(folder: Path, replaced_by: Path) -> Iterator[bool]:
    """Whether the folder has no readers; then it gets none during the block. Never waits.

    `replaced_by` is the file or folder whose modification time says when readers were last sent elsewhere.
    """
    try:
        descriptor = os.open(folder, _OPEN)
    except OSError:
        # Removed by another run, or no folder.
        yield False
        return
    try:
        yield _is_locked(descriptor, replaced_by) and _is_still_there(folder, descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let no other process of this machine into such a block for the same folder; waits for those that are in one.

    Where the file system has no locks, none is taken.
    """
    # Not `_OPEN`: a folder that a person names may be a link.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _share(descriptor: int) -> None:
    deadline_s = time.monotonic() + _REMOVAL_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline_s:
                time.sleep(_POLL_S)
                continue
        except OSError:
            # A file system without locks.
            pass
        return


def _is_locked(descriptor: int, replaced_by: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        # A file system without locks.
        return time.time() - _replaced_s(descriptor, replaced_by) > GRACE_S
    return True


def _replaced_s(descriptor: int, replaced_by: Path) -> float:
    """When the folder was replaced: not before it was made, which counts for one that was never current."""
    times_s = [os.fstat(descriptor).st_mtime]
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        times_s.append(replaced_by.lstat().st_mtime)
    return max(times_s)


def _is_still_there(folder: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), folder.lstat())
    except (FileNotFoundError, NotADirectoryError):
        return False
