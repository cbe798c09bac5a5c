"""Several pieces of engine work at once, on threads of this process, and a way to stop them all.

DuckDB and hashing release Python's lock, so threads use the cores without a second start-up and a second copy of
memory. News from the threads reaches the caller in its own thread: Dagster is only ever spoken to from there, because
two of its runs in one process deadlock in its log handlers.
"""

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

import duckdb

from etl_assets.engine.errors import StoppedError

T = TypeVar("T")
N = TypeVar("N")


class Stop:
    """Requested once, it interrupts every query under way and lets nothing that uses it be published any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connections: set[duckdb.DuckDBPyConnection] = set()
        self._requested = False

    @property
    def requested(self) -> bool:
        """Whether somebody asked for the stop."""
        return self._requested

    def request(self) -> None:
        """Ask for it, from any thread."""
        with self._lock:
            self._requested = True
            for connection in self._connections:
                connection.interrupt()

    def check(self) -> None:
        """Raise StoppedError when it was requested."""
        if self._requested:
            raise StoppedError("Stopped on request; nothing was published.")

    @contextlib.contextmanager
    def watching(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Interrupt this connection's queries too, and end in StoppedError if that, or the request alone, happened."""
        with self._lock:
            self._connections.add(connection)
        try:
            self.check()
            yield
            self.check()
        except duckdb.InterruptException:
            self.check()
            raise
        finally:
            with self._lock:
                self._connections.discard(connection)


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None


def run(
    work: Callable[[T, Callable[[N], None]], None], items: Sequence[T], worker_count: int, stop: Stop
) -> Generator[N, None, None]:
    """Do `work(item, tell)` for every item, `worker_count` at a time; yield what they `tell` as they tell it.

    An error that leaves `work`, and the caller's leaving the loop, stop the rest; what had begun is waited for.
    """
    news: SimpleQueue[N | _Ended] = SimpleQueue()

    def one(item: T) -> None:
        try:
            stop.check()
            work(item, news.put)
        except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
            news.put(_Ended(error))
        else:
            news.put(_Ended(None))

    with ThreadPoolExecutor(max_workers=worker_count) as pool:
        try:
            for item in items:
                pool.submit(one, item)
            under_way = len(items)
            while under_way:
                entry = news.get()
                if not isinstance(entry, _Ended):
                    yield entry
                    continue
                under_way -= 1
                if entry.error is not None:
                    raise entry.error
        except BaseException:
            stop.request()
            raise
