"""Stopping: queries under way are interrupted, and what was stopped is not published."""

import threading
from collections.abc import Callable

import duckdb
import pytest

from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.publishing import scratch_directory
from etl_assets.engine.stopping import Stop
from etl_assets.errors import AttemptTimeoutError, InputError, StoppedError

ENDLESS = "SELECT count(*) FROM range(1000000000) a, range(1000) b WHERE a.range % 7 = b.range % 11"


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


def test_stopping_the_whole_stops_its_parts_and_later_ones_too() -> None:
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


def test_after_a_stop_every_error_of_the_work_is_the_stop(home: Home) -> None:
    """Fails: a cancelled run says that an export is damaged."""
    stop = Stop()

    def mistake(_: object) -> None:
        stop.request()
        raise InputError("crm.parquet is damaged")

    with pytest.raises(StoppedError):
        query(home, stop, "SELECT 1", mistake)


def test_an_error_without_a_stop_stays_as_it_is(home: Home) -> None:
    with pytest.raises(duckdb.BinderException, match="no_such_column"):
        query(home, Stop(), "SELECT no_such_column", lambda _: None)


def _timers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


def test_a_limit_that_was_kept_leaves_no_timer_behind() -> None:
    """Fails: an hour later the timer stops other work on the same connection."""
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


def test_a_part_that_has_ended_is_not_stopped_with_the_whole() -> None:
    """Fails: a run of a thousand shards keeps all of their stops, and cancels shards that are published."""
    whole = Stop()
    with whole.within(0, AttemptTimeoutError("late")) as part:
        pass
    whole.request()
    assert not part.requested
