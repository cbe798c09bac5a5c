"""Work on several threads: news in order, errors not swallowed, no more at once than is allowed."""

import threading
from collections.abc import Callable

import pytest

from etl_assets.engine import workers
from etl_assets.engine.stopping import Stop
from etl_assets.errors import StoppedError


def test_all_news_of_all_items_arrive() -> None:
    def work(item: int, report: Callable[[str], None]) -> None:
        report(f"{item} begun")
        report(f"{item} done")

    news = list(workers.run(work, range(20), 3, Stop()))
    assert sorted(news) == sorted(f"{item} {what}" for item in range(20) for what in ("begun", "done"))
    for item in range(20):
        assert news.index(f"{item} begun") < news.index(f"{item} done")


def test_an_error_in_a_thread_is_the_callers_and_stops_the_rest() -> None:
    """Fails: a defect in a worker is lost, and the run succeeds without its work."""
    done = []

    def work(item: int, report: Callable[[int], None]) -> None:
        if item == 0:
            raise ValueError("broken")
        done.append(item)
        report(item)

    stop = Stop()
    with pytest.raises(ValueError, match="broken"):
        list(workers.run(work, range(1000), 1, stop))
    assert stop.requested
    assert len(done) < 999


def test_leaving_the_loop_stops_the_rest() -> None:
    stop, begun = Stop(), threading.Event()

    def work(item: int, report: Callable[[int], None]) -> None:
        report(item)
        begun.wait(10)
        stop.check()
        pytest.fail("the work went on")

    news = workers.run(work, range(3), 1, stop)
    assert next(news) == 0
    threading.Timer(0.1, begun.set).start()
    news.close()
    assert stop.requested


def test_as_many_items_as_workers_are_under_way_and_no_more() -> None:
    """Each has its share of the memory: one more than planned, and the machine swaps."""
    together, lock, most, now = threading.Barrier(3), threading.Lock(), [0], [0]

    def work(_: int, report: Callable[[int], None]) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        together.wait(timeout=30)
        with lock:
            now[0] -= 1

    assert list(workers.run(work, range(9), 3, Stop())) == []
    assert most == [3]


def test_news_arrive_while_the_work_goes_on_and_in_the_callers_thread() -> None:
    """Dagster may be spoken to from one thread only, and a board that fills at the end shows nothing."""
    go_on = threading.Event()

    def work(_: int, report: Callable[[int], None]) -> None:
        report(threading.get_ident())
        assert go_on.wait(30)

    news = workers.run(work, [1], 1, Stop())
    assert next(news) != threading.get_ident()
    go_on.set()
    assert list(news) == []


def test_nothing_begins_after_the_stop() -> None:
    stop, begun = Stop(), []

    def work(item: int, report: Callable[[int], None]) -> None:
        begun.append(item)

    stop.request()
    with pytest.raises(StoppedError):
        list(workers.run(work, range(3), 2, stop))
    assert begun == []
