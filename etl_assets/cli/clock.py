"""A statement's bounds while it runs: time, space on disk, and the signals that end it."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import duckdb

from etl_assets.cli import terminations

# How often the bounds are checked; the end of a call is seen at once.
_POLL_S = 0.1
# How long a statement may take to react to its interrupt: DuckDB checks between steps, and one step can take minutes.
_GRACE_S = 5.0
# Beyond this many times its space, a statement gets no grace.
_FAR_BEYOND = 1.25
# Space that a file takes beside its bytes: a million empty ones fill a disk, too.
_ENTRY_BYTES = 4_096

_T = TypeVar("_T")


class DiskFullError(Exception):
    """The statement took all the space on disk that it may take."""


@dataclass(frozen=True)
class Bounds:
    """Seconds inside DuckDB, and bytes in the folder `scratch`, the only one to which a statement can write.

    DuckDB's own limit counts what it spills there, not what a COPY writes. It cannot be told to spill without letting
    COPY write, too: both pass the same check of the path.
    """

    limit_s: float
    scratch: Path | None = None
    scratch_bytes: int = 0


@dataclass
class Clock:
    """Runs calls into DuckDB; interrupts them on a signal and when their time or their space is used up.

    Only time inside DuckDB counts: a pager that waits for its reader must not end the query. The calls run on another
    thread, because Python handles signals on the main thread, and only outside of C code.

    `abandon` is called with the reason when a statement ignores its interrupt; it may end the process.
    """

    connection: duckdb.DuckDBPyConnection
    bounds: Bounds
    abandon: Callable[[BaseException], None] = lambda _: None
    used_s: float = field(default=0.0, init=False)
    _worker: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(max_workers=1), init=False)

    def run(self, call: Callable[[], _T]) -> _T:
        """The result of `call`; TimeoutError, DiskFullError or what a signal raises. For the main thread."""
        started = time.perf_counter()
        reason, interrupted_s = None, 0.0
        with terminations.collected() as signals:
            future = self._worker.submit(call)
            while not future.done():
                wait([future], timeout=_POLL_S)
                now_s = time.perf_counter()
                if reason is None:
                    reason, interrupted_s = self._reason(signals, now_s - started), now_s
                if reason is not None and not future.done():
                    # Repeated, because DuckDB ignores an interrupt that arrives before the statement starts.
                    self.connection.interrupt()
                    if now_s - interrupted_s > _GRACE_S or self._taken_bytes() > _FAR_BEYOND * self._space_bytes:
                        self.abandon(reason)
        self.used_s += time.perf_counter() - started
        if signals:
            raise terminations.ending(signals[0])
        if isinstance(reason, DiskFullError) or (reason is not None and future.exception()):
            raise reason
        return future.result()

    def _reason(self, signals: list[int], running_s: float) -> BaseException | None:
        if signals:
            return terminations.ending(signals[0])
        if self.used_s + running_s > self.bounds.limit_s:
            return TimeoutError()
        return DiskFullError() if self._taken_bytes() > self._space_bytes else None

    @property
    def _space_bytes(self) -> float:
        return self.bounds.scratch_bytes if self.bounds.scratch else float("inf")

    def _taken_bytes(self) -> int:
        """The size of the scratch folder; no more of it is read than is needed to see that it is too large."""
        taken = 0
        for size_bytes in _sizes(self.bounds.scratch) if self.bounds.scratch else ():
            taken += size_bytes + _ENTRY_BYTES
            if taken > _FAR_BEYOND * self._space_bytes:
                break
        return taken


def _sizes(folder: Path) -> Iterator[int]:
    """The size of every file and folder in `folder` and below; files come and go meanwhile."""
    folders = [os.fspath(folder)]
    while folders:
        with contextlib.suppress(FileNotFoundError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    yield entry.stat(follow_symlinks=False).st_size
