"""Temporary names: `.tmp-<name>-<host>-<pid>-<start>-<8 hex digits>`, which say what is written, and by which process.

A leftover of a killed process can so be distinguished from a file that is being written now, and from files that are
none of this pipeline's.
"""

import os
import re
import socket
import time
import uuid
from functools import lru_cache
from pathlib import Path

from etl_assets.engine.files.presence import is_deserted
from etl_assets.engine.files.processes import process_is_alive, this_process
from etl_assets.engine.files.wal import WAL_SUFFIX

TEMPORARY_PREFIX = ".tmp-"
# A process of another host cannot be probed by pid, but by its lock; no build of this pipeline takes a day.
FOREIGN_LEFTOVER_S = 24 * 3600.0
# The host name may hold hyphens, the target's name may too.
_NAME = re.compile(
    rf"{re.escape(TEMPORARY_PREFIX)}(?P<name_and_host>.+-.+)-(?P<pid>[0-9]{{1,9}})-(?P<start>[0-9]+(\.[0-9]+)?|ended)"
    rf"-[0-9a-f]{{8}}({re.escape(WAL_SUFFIX)})?"
)


def temporary_path(target: Path) -> Path:
    """A name beside `target` that no other attempt uses and that says which process is writing."""
    return target.with_name(f"{TEMPORARY_PREFIX}{target.name}-{_owner(os.getpid())}-{uuid.uuid4().hex[:8]}")


@lru_cache(maxsize=1)
def _owner(_pid: int) -> str:
    # Cached by pid, because a forked child is another process.
    return "-".join(str(part) for part in this_process())


def is_leftover(path: Path) -> bool:
    """Whether this is a temporary name whose writer is gone; any other form of name is none of this pipeline's."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return False
    host = socket.gethostname()
    alive = process_is_alive(
        # The host is what follows the target's last hyphen.
        host if match["name_and_host"].endswith("-" + host) else "",
        int(match["pid"]),
        match["start"],
    )
    if alive is not None:
        return not alive
    if is_deserted(path.parent):
        return True
    try:
        return time.time() - path.lstat().st_mtime >= FOREIGN_LEFTOVER_S
    except FileNotFoundError:
        return False
