"""Work on several threads: news in order, errors not swallowed, and a stop that really stops."""

import threading
from collections.abc import Callable

import duckdb
import pytest

from etl_assets.engine import duck, workers
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.publishing import scratch_directory
from etl_assets.engine.stopping import Stop
from etl_assets.errors import AttemptTimeoutError, InputError, StoppedError

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range % 7 = b.range % 11"


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


def query(home: Home, stop: Stop, statement: str, on_open: Callable[[duckdb.DuckDBPyConnection], object]) -> None:
    """Run a statement on a workbench, after `on_open` was given the connection."""
    limits = duck.Limits(memory_mb=256, stop=stop)
    with scratch_directory(home) as scratch, duck.workbench(limits, scratch) as connection:
        on_open(connection)
        connection.execute(statement).fetchall()


def run_endless(home: Home, stop: Stop) -> None:
    query(home, stop, ENDLESS, lambda _: None)


def test_a_stop_interrupts_a_query_under_way(home: Home) -> None:
    """Fails: Ctrl-C waits for the query, however long it takes."""
    stop = Stop()
    threading.Timer(0.2, stop.request).start()
    with pytest.raises(StoppedError):
        run_endless(home, stop)


def test_a_time_limit_interrupts_only_its_own_part_of_the_work(home: Home) -> None:
    whole = Stop()
    error = AttemptTimeoutError("shard_03 took too long")
    with pytest.raises(AttemptTimeoutError, match="shard_03"), whole.within(0.2, error) as part:
        run_endless(home, part)
    assert not whole.requested


def test_stopping_the_whole_stops_its_parts_also_those_made_later() -> None:
    whole = Stop()
    early = whole.child()
    whole.request()
    for part in (early, whole.child()):
        with pytest.raises(StoppedError):
            part.check()


def test_what_was_stopped_is_not_published(home: Home) -> None:
    """Fails: a cancelled run, or an attempt that was given up, still replaces the shard."""
    stop = Stop()
    with pytest.raises(StoppedError):
        query(home, stop, "SELECT 1", lambda _: stop.request())


def test_a_stop_between_two_statements_interrupts_the_next_one(home: Home) -> None:
    """DuckDB forgets an interrupt that finds no query: Ctrl-C at that moment would wait for all that follows."""
    stop, backstops = Stop(), []
    too_late = threading.Event()

    def stop_now(connection: duckdb.DuckDBPyConnection) -> None:
        stop.request()
        # Ends the query when the stop does not, so that this test fails instead of hanging.
        backstops.append(threading.Timer(30, end, [connection]))
        backstops[0].start()

    def end(connection: duckdb.DuckDBPyConnection) -> None:
        too_late.set()
        connection.interrupt()

    with pytest.raises(StoppedError):
        query(home, stop, ENDLESS, stop_now)
    backstops[0].cancel()
    assert not too_late.is_set()


def test_whatever_an_interrupted_query_was_taken_for_the_stop_is_what_is_told(home: Home) -> None:
    """A run that somebody cancelled says that an export is damaged."""
    stop = Stop()

    def mistake(_: object) -> None:
        stop.request()
        raise InputError("crm.parquet is damaged")

    with pytest.raises(StoppedError):
        query(home, stop, "SELECT 1", mistake)


def test_an_error_without_a_stop_is_told_as_it_is(home: Home) -> None:
    with pytest.raises(duckdb.BinderException, match="no_such_column"):
        query(home, Stop(), "SELECT no_such_column", lambda _: None)


def test_no_more_items_than_workers_are_under_way_and_as_many_as_that_are() -> None:
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


def test_news_are_heard_while_the_work_goes_on_and_in_the_callers_thread() -> None:
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


def _timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_limit_that_was_kept_leaves_no_timer_behind() -> None:
    """An hour later the timer would stop work that has long been done."""
    stop = Stop()
    with stop.within(3600, AttemptTimeoutError("late")) as part:
        (timer,) = _timers()
    timer.join(30)
    assert not timer.is_alive()
    assert not part.requested


def test_no_limit_means_no_timer() -> None:
    with Stop().within(0, AttemptTimeoutError("late")):
        assert _timers() == []


def test_an_interrupt_from_elsewhere_stays_what_it_is(home: Home) -> None:
    def interrupt_later(connection: duckdb.DuckDBPyConnection) -> None:
        threading.Timer(0.2, connection.interrupt).start()

    with pytest.raises(duckdb.InterruptException):
        query(home, Stop(), ENDLESS, interrupt_later)
