"""SIGTERM and SIGHUP end a query in an ordinary way, whatever it is doing."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets.cli.terminations import Terminated, collected, ordinary_end
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.whole.sandbox import wait_for

# Sorts more than its memory holds, so it spills.
_SPILLING = (
    "SELECT hash(range) AS h, repeat(range::VARCHAR, 60) AS t FROM range(100_000_000) ORDER BY h OFFSET 90_000_000"
)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_query_that_is_told_to_end_leaves_nothing_behind(
    published: Mapping[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    """Fails: after `timeout` or a service's stop, rows of customers stay in the temporary folder for ever."""
    env = environment(**published, TMPDIR=str(tmp_path), ETL_MEMORY_LIMIT="64MB", ETL_WORKERS="1")
    with subprocess.Popen(
        command("query", _SPILLING), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as query:
        try:
            wait_for(lambda: _size_bytes(tmp_path) > 1_000_000, "the query to spill")
            query.send_signal(number)
            out, err = query.communicate(timeout=60)
        finally:
            query.kill()
    assert (query.returncode, out, err) == (128 + number, b"", b"")
    assert list(tmp_path.iterdir()) == []


def _size_bytes(folder: Path) -> int:
    found = 0
    for path in folder.rglob("*"):
        try:
            found += path.stat().st_size
        except FileNotFoundError:
            continue
    return found


def test_a_signal_ends_the_block_once() -> None:
    """Fails: a second signal ends the cleaning up after the first."""
    cleaned_up: list[bool] = []
    with pytest.raises(Terminated) as caught:
        _be_told_thrice(cleaned_up)
    assert cleaned_up == [True]
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def _be_told_thrice(cleaned_up: list[bool]) -> None:
    with ordinary_end():
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            cleaned_up.append(True)


def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """Fails: `nohup etl-assets query` ends with the terminal after all."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ordinary_end(), collected() as arrived:
            signal.raise_signal(signal.SIGHUP)
        assert arrived == []
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_collected_signal_raises_nothing_at_any_line() -> None:
    with ordinary_end():
        with collected() as arrived:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
    assert arrived == [signal.SIGTERM, signal.SIGHUP]
