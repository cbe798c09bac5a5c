"""Export files by their stats: taken once, and compared with every file that is opened afterwards.

Others may write to the folder of the exports. They may put another file, a link or a pipe under a name between two
openings of it, and put the first one back. So what is opened is compared, not what the name leads to.
"""

import contextlib
import os
import resource
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

import xxhash

from etl_assets.engine.files.access import explained_to_users
from etl_assets.engine.files.regular import LeadsOutError, NotRegularError, descriptor_path, open_regular
from etl_assets.engine.stopping import Stop
from etl_assets.errors import InputError, SourceChangedError, shown

_HASHED_BYTES = 1 << 20

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A file system, or a damaged document, may say anything.
_FIRST_SECOND = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_LAST_SECOND = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


@dataclass(frozen=True)
class FileStat:
    """The stats of a file; while none of them changes, the bytes count as the same. `name` is relative to the root.

    A user cannot set the change time, so a restored modification time does not hide a change. Deliberately without the
    device, which has another number after a remount: no two files have the same inode and the same change time.
    """

    name: str
    size_bytes: int
    modified_ns: int
    changed_ns: int
    inode: int

    @property
    def modified_at(self) -> str:
        """When its contents were last changed (ISO 8601, UTC), to the second; the years are 1 to 9999."""
        seconds = min(max(self.modified_ns // 1_000_000_000, _FIRST_SECOND), _LAST_SECOND)
        return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def stat_files(paths: Sequence[Path], root: Path) -> list[FileStat]:
    """The stats of a source's files, in order."""
    return [_file_stat(path.relative_to(root).as_posix(), os.stat(path)) for path in paths]


def _file_stat(name: str, found: os.stat_result) -> FileStat:
    return FileStat(name, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def open_verified(root: Path, expected: FileStat) -> BinaryIO:
    """Open the file with these stats, for reading.

    InputError for what is no regular file and what lies outside of `root`; SourceChangedError for another file.
    """
    path = root / expected.name
    try:
        with explained_to_users(path, expected.name):
            stream = open_regular(path, root)
    except NotRegularError as error:
        raise not_a_file(path, root, error.kind) from error
    except LeadsOutError as error:
        raise InputError(
            f"{shown(expected.name)} is a link that leads out of {root}. Copy the file instead.", subject=expected.name
        ) from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _changed(expected) from error
    if _file_stat(expected.name, os.fstat(stream.fileno())) != expected:
        stream.close()
        raise _changed(expected)
    return stream


def not_a_file(path: Path, root: Path, kind: str) -> InputError:
    """The error for something that has the name of an export and is no file."""
    name = path.relative_to(root).as_posix()
    return InputError(f"{shown(name)} is {kind}, not a file. Remove it from {root}, or rename it.", subject=name)


def _changed(expected: FileStat) -> SourceChangedError:
    return SourceChangedError(f"{shown(expected.name)} changed while it was read.", subject=expected.name)


@contextlib.contextmanager
def held(root: Path, expected: FileStat) -> Iterator[Path]:
    """A path for DuckDB, which opens files itself: within the block it leads to the file with these stats.

    On Linux it is the path of a descriptor, to which no other file can be moved. Elsewhere, and when descriptors run
    short, it is the file's own; then SourceChangedError at the end of the block, if anything on the way to the file was
    touched meanwhile.
    """
    with open_verified(root, expected) as stream:
        path = descriptor_path(stream) if stream.fileno() < _most_descriptors() else None
        if path is not None:
            yield path
            return
    before = _way(root, expected)
    try:
        yield root / expected.name
    except Exception as error:
        if _way(root, expected) != before:
            raise _changed(expected) from error
        raise
    open_verified(root, expected).close()
    if _way(root, expected) != before:
        raise _changed(expected)


def _most_descriptors() -> int:
    """Half of what this process may have open: DuckDB opens each file as well."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return sys.maxsize if limit == resource.RLIM_INFINITY else limit // 2


def _way(root: Path, expected: FileStat) -> dict[Path, tuple[int, int, int] | None]:
    """What lies on the way to a file below the root, links as such; renaming one changes its change time."""
    path = root / expected.name
    ends = ((path, root), (path.resolve(), root.resolve()))
    places = [place for end, top in ends for place in (end, *end.parents) if place.is_relative_to(top) and place != top]
    return {place: _identity(place) for place in places}


def _identity(place: Path) -> tuple[int, int, int] | None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = place.lstat()
        return found.st_dev, found.st_ino, found.st_ctime_ns
    return None


def hash_files(root: Path, stats: Sequence[FileStat], stop: Stop | None = None) -> str:
    """xxh3_128 over the files' hashes in order, 32 hex digits: the data version of a source."""
    total = xxhash.xxh3_128()
    for expected in stats:
        digest = xxhash.xxh3_128()
        with open_verified(root, expected) as stream:
            while chunk := stream.read(_HASHED_BYTES):
                digest.update(chunk)
                if stop is not None:
                    stop.check()
        total.update(digest.digest())
    return total.hexdigest()
