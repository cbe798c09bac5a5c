"""A folder outside of ETL_HOME for what readers spill: they may have no right to write in ETL_HOME."""

import atexit
import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path

from etl_assets.engine.files.sweeping import discard


def private_folder() -> Path:
    """A folder of this process, for its user alone, which is removed when the process ends."""
    folder = _made_by(os.getpid())
    if not _is_private(folder):
        # Systems remove what was not touched for days from their temporary folder, and then anyone may take the name.
        _made_by.cache_clear()
        folder = _made_by(os.getpid())
    return folder


@lru_cache(maxsize=1)
def _made_by(pid: int) -> Path:
    # By pid, because a forked child is another process, and ends at another time.
    folder = Path(tempfile.mkdtemp(prefix="etl-assets-"))
    atexit.register(_remove, folder, pid)
    return folder


def _remove(folder: Path, pid: int) -> None:
    if os.getpid() == pid and _is_private(folder):
        discard(folder)


def _is_private(folder: Path) -> bool:
    """Whether this is a folder of this user that no one else may look into."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
