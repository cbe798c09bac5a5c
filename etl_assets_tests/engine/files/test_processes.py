"""Whether a process still runs: killed ones, zombies, later ones with the same pid, and clocks that are set."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from etl_assets.engine.files import processes

_only_linux = pytest.mark.skipif(not psutil.LINUX, reason="reads /proc")


@contextlib.contextmanager
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that does nothing until it is ended."""
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_this_process_is_alive() -> None:
    assert processes.process_is_alive(*processes.this_process()) is True


def test_a_process_of_another_host_cannot_be_asked() -> None:
    _, pid, start = processes.this_process()
    assert processes.process_is_alive("another-host", pid, start) is None


def test_a_killed_process_is_dead_also_before_its_parent_waits_for_it() -> None:
    """Fails: in a container whose first process reaps nothing, a killed attempt runs for ever."""
    host = processes.this_process()[0]
    with sleeper() as process:
        start = processes.process_start(process.pid)
        assert processes.process_is_alive(host, process.pid, start) is True
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.kill(process.pid, 0)  # its pid still answers
        assert processes.process_is_alive(host, process.pid, start) is False
        assert not processes.process_was_there(process.pid, time.time())
        process.wait()
        assert processes.process_is_alive(host, process.pid, start) is False
        assert not processes.process_was_there(process.pid, time.time())


def test_a_later_process_of_the_same_pid_is_another_one() -> None:
    """Fails: after a restart of the machine, a dead run counts as in progress while its pid is in use."""
    host, pid, start = processes.this_process()
    assert processes.process_is_alive(host, pid, f"1{start}") is False
    assert processes.process_was_there(pid, time.time())
    assert not processes.process_was_there(pid, psutil.Process().create_time() - 60)


def test_two_processes_do_not_share_an_identity() -> None:
    with sleeper() as one:
        time_of_one = processes.process_start(one.pid)
        assert time_of_one == processes.process_start(one.pid)
        assert time_of_one != processes.process_start(os.getpid())


@_only_linux
@pytest.mark.parametrize("moved_s", [-86_400, -1, 1, 3600, 400 * 86_400])
def test_the_identity_of_a_process_survives_a_clock_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved_s: int
) -> None:
    """Fails: when NTP sets the clock of a machine, running attempts are reported as killed and their files swept."""
    pid = os.getpid()
    before = processes.process_start(pid)
    # What the kernel shows after the clock was set: it began at another time of day, the process as long after it.
    (tmp_path / str(pid)).mkdir()
    for name in ("stat", "status"):
        (tmp_path / str(pid) / name).write_bytes((Path("/proc") / str(pid) / name).read_bytes())
    lines = Path("/proc/stat").read_text().splitlines()
    moved = [f"btime {int(line.split()[1]) + moved_s}" if line.startswith("btime") else line for line in lines]
    assert moved != lines
    (tmp_path / "stat").write_text("\n".join(moved))
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    # psutil took it in: the time of day at which the process began is another one now.
    assert psutil.Process(pid).create_time() == pytest.approx(
        float(before) + int(next(line for line in moved if line.startswith("btime")).split()[1]), abs=0.01
    )
    assert processes.process_start(pid) == before


def test_a_process_that_cannot_be_seen_has_no_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a container that hides processes ends the pipeline with a traceback."""

    def refuse(pid: int) -> None:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", refuse)
    assert processes.process_start(os.getpid()) == "0"
    assert processes.process_was_there(os.getpid(), time.time())
