"""Open files that others can write to: only regular files, and only those that are where they were said to be.

A name is no promise. Between a check of a path and its opening, another process can put a pipe there, on which an open
waits for ever, or a link to a file that only this process may read. So everything is asked of the open descriptor.
"""

import contextlib
import errno
import fcntl
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_DESCRIPTORS = Path("/proc/self/fd")
_MAX_PATH_BYTES = 1024


class NotRegularError(OSError):
    """There is something, and it is not a file that holds data. `kind` is what it is: a folder, a pipe, a device."""

    def __init__(self, path: Path, kind: str) -> None:
        super().__init__(errno.EINVAL, f"Not a regular file, but {kind}", str(path))
        self.kind = kind


class LeadsOutError(OSError):
    """The file lies outside of the folder in which it was looked for: a link leads there."""

    def __init__(self, path: Path, root: Path) -> None:
        super().__init__(errno.EXDEV, f"Not in {root}, but behind a link", str(path))


def open_regular(path: Path, root: Path | None = None) -> BinaryIO:
    """Open a regular file for reading; links are followed, with `root` only as long as they stay in that folder.

    Raises NotRegularError for pipes, devices, sockets and folders, at once; LeadsOutError for a file outside of `root`;
    OSError as `open` does.
    """
    try:
        # Without O_NONBLOCK, opening a pipe waits until another process writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise NotRegularError(path, "a socket or a device") from error
        raise
    try:
        require_regular(path, os.fstat(descriptor))
        if root is not None and not _lies_in(descriptor, path, root):
            raise LeadsOutError(path, root)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def require_regular(path: Path, found: os.stat_result) -> None:
    """Raise NotRegularError unless this is the stat of a regular file."""
    if not stat.S_ISREG(found.st_mode):
        raise NotRegularError(path, _KINDS.get(stat.S_IFMT(found.st_mode), "something else"))


def descriptor_path(stream: BinaryIO) -> Path | None:
    """A path at which this very file can be opened again, whatever its name leads to by now; None without /proc.

    Deliberately not /dev/fd: outside of Linux, what is opened there shares its position with the descriptor.
    """
    path = _DESCRIPTORS / str(stream.fileno())
    return path if sys.platform == "linux" and path.exists() else None


def _lies_in(descriptor: int, path: Path, root: Path) -> bool:
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # The system spells both, so that neither links nor, on macOS, another case make them differ.
        place, inside = _place(descriptor), _place(folder)
    finally:
        os.close(folder)
    if place is None or inside is None:
        place, inside = path.resolve(), root.resolve()
        if not os.path.samestat(os.stat(place), os.fstat(descriptor)):
            return False
    return place.is_relative_to(inside)


def _place(descriptor: int) -> Path | None:
    """Where the open file lies, by the system's own words; None where it does not say."""
    with contextlib.suppress(OSError):
        if sys.platform == "darwin":
            found = fcntl.fcntl(descriptor, fcntl.F_GETPATH, bytes(_MAX_PATH_BYTES))
            return Path(os.fsdecode(found.rstrip(b"\0")))
        return (_DESCRIPTORS / str(descriptor)).readlink()
    return None
