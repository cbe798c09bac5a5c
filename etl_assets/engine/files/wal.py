"""DuckDB's write-ahead log of a file that is being replaced.

DuckDB would replay a log that lies beside a file, and every later open would fail if the log belongs to another file. A
log may be there already. And a process that has the old file open for writing makes one at its next commit, even
minutes after the swap, under the name that it opened.
"""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import BinaryIO

from etl_assets.engine.files.regular import open_regular

WAL_SUFFIX = ".wal"
# Where a blocked name leads: a folder that is never made, so that nothing can be made in it.
_NOWHERE = ".replaced-while-open-for-writing/wal"


def swap(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`, and make sure that no log of the old file is ever found beside the new one."""
    log = target.with_name(target.name + WAL_SUFFIX)
    with contextlib.ExitStack() as stack:
        replaced = None
        with contextlib.suppress(OSError):
            replaced = stack.enter_context(open_regular(target))
        _settle(log, replaced)
        os.replace(temporary, target)
        # Again, because a process may have opened it in between.
        _settle(log, replaced)


def _settle(log: Path, replaced: BinaryIO | None) -> None:
    """Remove the log; block its name if a process may still make one, at every swap while that process lives."""
    if replaced is not None and _is_open_for_writing(replaced.fileno()):
        _block(log)
    elif not _is_blocked(log):
        log.unlink(missing_ok=True)


def _is_blocked(log: Path) -> bool:
    """Whether the log's name is blocked. Any other link is removed: it would show readers another file as the log."""
    return log.is_symlink() and log.readlink() == Path(_NOWHERE)


def _is_open_for_writing(descriptor: int) -> bool:
    """Whether another process has the file open for writing, as DuckDB does it: under a lock."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        # A file system without locks; then DuckDB has none either.
        return False
    fcntl.lockf(descriptor, fcntl.LOCK_UN)
    return False


def _block(log: Path) -> None:
    """Block the log's name with a dangling symlink, which cannot be written to and which readers see as no file.

    A process that still writes to the replaced file then fails at its next commit, instead of leaving a log that breaks
    every later open. Deliberately not a folder of that name: DuckDB takes it for a log and fails. Nor a mode: it does
    not stop root, which containers run as.
    """
    while not _is_blocked(log):
        log.unlink(missing_ok=True)
        try:
            log.symlink_to(_NOWHERE)
        except FileExistsError:
            continue
        except OSError:
            # A file system without links; the next publication removes the log.
            return
