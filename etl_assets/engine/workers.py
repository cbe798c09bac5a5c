"""Several pieces of engine work at once, on threads of this process.

DuckDB and hashing release Python's lock, so threads use the cores without a second start-up and a second copy of
memory. Their reports reach the caller in its own thread, the only one that calls Dagster: two Dagster runs in one
process deadlock in its log handlers.
"""

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeVar

from etl_assets.engine.stopping import Stop

T = TypeVar("T")
N = TypeVar("N")


@dataclass(frozen=True)
class _Ended:
    error: BaseException | None


def run(
    work: Callable[[T, Callable[[N], None]], None], items: Sequence[T], worker_count: int, stop: Stop
) -> Generator[N, None, None]:
    """Call `work(item, report)` for every item, `worker_count` at a time; yield what the calls report, as it comes.

    If `work` raises, or the caller leaves the loop, the rest is stopped, and the running calls are awaited.
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
