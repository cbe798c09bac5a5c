"""The bounds of a statement: what ends it while DuckDB is at work."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import pytest

from etl_assets.cli import clock as module
from etl_assets.cli.clock import Bounds, Clock, DiskFullError
from etl_assets.cli.terminations import Terminated, ordinary_end

_ENDLESS = "SELECT count(*) FROM range(1000000000000)"


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect()) as opened:
        yield opened


@contextlib.contextmanager
def _signalled(connection: duckdb.DuckDBPyConnection, number: int) -> Iterator[Callable[[], object]]:
    """An endless call into DuckDB; a signal arrives after it has begun."""
    begun, main = threading.Event(), threading.get_ident()

    def count() -> object:
        begun.set()
        return connection.execute(_ENDLESS).fetchall()

    def send() -> None:
        begun.wait()
        signal.pthread_kill(main, number)

    sender = threading.Thread(target=send)
    sender.start()
    yield count
    sender.join()


def test_ctrl_c_stops_a_running_statement(connection: duckdb.DuckDBPyConnection) -> None:
    """DuckDB does not look at signals while it works; a query could only be killed."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        clock = Clock(connection, Bounds(30))
        with _signalled(connection, signal.SIGINT) as count, pytest.raises(KeyboardInterrupt):
            clock.run(count)
        # Not by its time limit.
        assert clock.used_s < 20
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_end_stops_a_running_statement(connection: duckdb.DuckDBPyConnection, number: int) -> None:
    clock = Clock(connection, Bounds(30))
    with ordinary_end(), _signalled(connection, number) as count, pytest.raises(Terminated) as caught:
        clock.run(count)
    assert caught.value.code == 128 + number
    assert clock.used_s < 20


def test_a_statement_that_does_not_heed_its_interrupt_is_given_up(
    connection: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB looks at an interrupt between steps, and one step can take minutes."""
    let_go, reasons = threading.Event(), []

    def give_up(reason: BaseException) -> None:
        reasons.append(reason)
        let_go.set()
        raise SystemExit(1)

    monkeypatch.setattr(module, "_GRACE_S", 0.1)
    with pytest.raises(SystemExit):
        Clock(connection, Bounds(0.1), give_up).run(lambda: let_go.wait(20))
    assert [type(reason) for reason in reasons] == [TimeoutError]


@pytest.mark.parametrize("layout", ["one_file", "below", "many_empty"])
def test_a_statement_that_fills_its_folder_is_stopped(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, layout: str
) -> None:
    """Fails: a COPY that no check has seen writes at 400 MB/s until its time is up."""
    (tmp_path / "deep" / "er").mkdir(parents=True)

    def fill() -> object:
        if layout == "many_empty":
            for number in range(300):
                (tmp_path / str(number)).touch()
        else:
            os.truncate(_made(tmp_path / ("file" if layout == "one_file" else "deep/er/file")), 1_100_000)
        return connection.execute(_ENDLESS).fetchall()

    clock = Clock(connection, Bounds(30, tmp_path, 1_000_000))
    with pytest.raises(DiskFullError):
        clock.run(fill)
    assert clock.used_s < 20


def _made(path: Path) -> Path:
    path.touch()
    return path


def test_a_statement_far_beyond_its_space_is_given_up_without_grace(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    let_go, reasons = threading.Event(), []

    def give_up(reason: BaseException) -> None:
        reasons.append(reason)
        let_go.set()

    def fill() -> None:
        os.truncate(_made(tmp_path / "file"), 2_000_000)
        let_go.wait(20)

    clock = Clock(connection, Bounds(30, tmp_path, 1_000_000), give_up)
    with pytest.raises(DiskFullError):
        clock.run(fill)
    assert isinstance(reasons[0], DiskFullError)
    assert clock.used_s < module._GRACE_S


def test_what_stays_within_its_bounds_is_not_disturbed(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(900_000))
    clock = Clock(connection, Bounds(30, tmp_path, 1_000_000))
    assert clock.run(lambda: threading.Event().wait(0.3)) is False
