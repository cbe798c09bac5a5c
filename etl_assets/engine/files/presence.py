"""Whether any process works in an ETL_HOME: what tells leftovers of a host that is gone from files that it writes.

A process of another host cannot be asked by its pid. A container that is started again has another name as a rule, and
its last process is such a stranger. So every process that writes in an ETL_HOME holds a shared lock on that folder
while it lives. The lock ends with its process and leaves nothing behind. Who finds no other lock is alone there.

Where the file system has no locks, nothing is known, and leftovers of other hosts stay for a day.
"""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Where one process at a time looks: while it does, it may be without its own lock for a moment.
_LOOKING = "scratch"
_WAIT_S, _POLL_S = 5.0, 0.01
# The folders in which this process works, by its pid: a forked child is another process. None without locks.
_held: dict[tuple[int, Path], int | None] = {}


def hold(root: Path) -> None:
    """Say that this process works in this ETL_HOME, for as long as it lives."""
    key = (os.getpid(), root)
    if key in _held:
        return
    try:
        descriptor = os.open(root, _OPEN)
    except OSError:
        return
    if _is_shared(descriptor):
        _held[key] = descriptor
    else:
        os.close(descriptor)
        _held[key] = None


def is_deserted(path: Path) -> bool:
    """Whether no other process works in the ETL_HOME at or above `path`; False when that cannot be known."""
    known = [root for pid, root in _held if pid == os.getpid() and path.is_relative_to(root)]
    root = max(known, key=lambda one: len(one.parts), default=path)
    own = _held.get((os.getpid(), root))
    try:
        with _looking_alone(root) as is_alone:
            if not is_alone:
                return False
            if own is not None:
                return _is_only(own)
            descriptor = os.open(root, _OPEN)
            try:
                return _is_only(descriptor, keep=False)
            finally:
                os.close(descriptor)
    except OSError:
        return False


@contextlib.contextmanager
def _looking_alone(root: Path) -> Iterator[bool]:
    descriptor = os.open(root / _LOOKING, _OPEN)
    try:
        yield _is_locked(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _is_only(descriptor: int, *, keep: bool = True) -> bool:
    """Whether no one else has a lock on the folder; afterwards this process has its shared one again."""
    try:
        return _is_locked(descriptor, fcntl.LOCK_EX)
    finally:
        if keep:
            # A lock that cannot be made exclusive is lost.
            _is_shared(descriptor)


def _is_shared(descriptor: int) -> bool:
    """Take the shared lock; it may wait for one who looks."""
    deadline_s = time.monotonic() + _WAIT_S
    while not _is_locked(descriptor, fcntl.LOCK_SH):
        if time.monotonic() > deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def _is_locked(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
