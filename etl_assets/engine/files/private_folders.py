"""A folder outside of ETL_HOME for what readers spill: they may have no right to write in ETL_HOME."""

import atexit
import os
import tempfile
from functools import lru_cache
from pathlib import Path

from etl_assets.engine.files.publishing import discard


def private_folder() -> Path:
    """A folder of this process, for its user alone, which is removed when the process ends."""
    folder = _made_by(os.getpid())
    if not folder.is_dir():
        # Systems remove what was not touched for days from their temporary folder.
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
    if os.getpid() == pid:
        discard(folder)
