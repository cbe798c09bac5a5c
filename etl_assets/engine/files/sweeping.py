"""Remove what is not needed any more, and the leftovers of killed processes."""

import contextlib
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from etl_assets.engine import faults
from etl_assets.engine.files.folder_entries import ABSENT, entries_below, list_own_folders
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.temporary import TEMPORARY_PREFIX, is_leftover
from etl_assets.errors import shown

# Without a handler, Python writes warnings to stderr.
_LOG = logging.getLogger(__name__)
_NOT_REMOVED = "warning: %s cannot be removed (%s). It may hold personal data: make it removable, and run again."


def sweep_home(home: Home) -> None:
    """Sweep every folder of `home`: writers sweep their own folder, and a run that reuses everything writes nothing."""
    own = [*list_own_folders(home.staged), *list_own_folders(home.attempts)]
    for folder in (home.root, home.scratch, home.shards, *own):
        with warns_of(folder):
            sweep(folder)


def sweep(folder: Path) -> list[Path]:
    """Remove the leftovers of killed processes in `folder` and return them; files that a living process writes stay.

    Only names of the exact form that `temporary_path` gives. So a folder may be a link to another disk: nothing there
    is taken for this pipeline's that it did not write.
    """
    faults.point("sweep")
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.startswith(TEMPORARY_PREFIX))
    except ABSENT:
        return []
    return [path for path in (folder / name for name in names) if is_leftover(path) and discard(path)]


def discard(path: Path) -> bool:
    """Remove what is not needed any more, as `remove` does; if that fails, warn and return False.

    For sweeps and the ends of finished work, which is not to fail for it. The next sweep tries again.
    """
    try:
        remove(path)
    except OSError as error:
        _warn(path, error)
        return False
    return True


@contextlib.contextmanager
def warns_of(path: Path) -> Iterator[None]:
    """Warn when something there cannot be removed, and go on: a sweep is not to fail for it."""
    try:
        yield
    except OSError as error:
        _warn(path, error)


def remove(path: Path) -> None:
    """Remove a file or a folder, whichever it is, if it exists; of a link, the link. OSError when any of it stays.

    `rmtree` follows no link that is swapped in meanwhile, on systems that this pipeline runs on.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    failures: list[BaseException] = []
    # Notes each and goes on: one file that stays is no reason to keep the others.
    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=lambda _call, _path, error: failures.append(error))
    else:
        shutil.rmtree(path, onerror=lambda _call, _path, raised: failures.append(raised[1]))
    for failure in failures:
        # Another run has removed it first.
        if not isinstance(failure, FileNotFoundError):
            raise failure


def remove_old(folder: Path, pattern: re.Pattern[str], oldest_s: float) -> None:
    """Remove the files anywhere below a folder whose names hold the pattern, if they were last changed before then."""
    files, _ = entries_below(folder)
    for path in files:
        with contextlib.suppress(*ABSENT):
            if pattern.search(path.name) and path.lstat().st_mtime <= oldest_s:
                discard(path)


def remove_empty(folder: Path) -> None:
    """Remove an unpublished folder that holds nothing any more."""
    folder.rmdir()


def leftovers(home: Home) -> list[str]:
    """Temporary files and folders anywhere under `home`, relative to it, in name order; those being written too."""
    found = sorted(home.root.rglob(f"{TEMPORARY_PREFIX}*"))
    return [path.relative_to(home.root).as_posix() for path in found]


def _warn(path: Path, error: OSError) -> None:
    _LOG.warning(_NOT_REMOVED, shown(str(path)), error.strerror or error)
