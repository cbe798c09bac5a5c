"""A server of the benchmark leaves no process behind: it would slow down everything that is measured after it."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from bench import server
from bench.server import Server, ServerError, free_port, serve
from etl_assets_tests.bench.linux import needs_proc
from etl_assets_tests.bench.test_measure import wait_until

pytestmark = needs_proc

# A server with an orphaned worker in a session of its own, which no process group shows.
PROGRAM = """
import pathlib, subprocess, sys, tempfile, time
pathlib.Path("kept").write_text(tempfile.mkdtemp())
start = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], "
start += "stdout=subprocess.DEVNULL, start_new_session=True).pid, end='.')"
pathlib.Path("pid").write_bytes(subprocess.check_output([sys.executable, "-c", start]))
time.sleep(600)
"""


def serving(folder: Path, program: str = PROGRAM) -> contextlib.AbstractContextManager[Server]:
    """A server in this folder."""
    command = [sys.executable, "-c", program]
    return serve(command, environment=os.environ, folder=folder, log=folder / "log", port=free_port())


def pid_of_worker(folder: Path) -> int:
    pid_file = folder / "pid"
    wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("."))
    return int(pid_file.read_text().removesuffix("."))


def fail_while_serving(folder: Path, error: type[BaseException]) -> None:
    with serving(folder):
        pid_of_worker(folder)
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_ends_the_server_and_its_worker_and_removes_its_temporary_files(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        fail_while_serving(tmp_path, error)
    assert not Path(f"/proc/{pid_of_worker(tmp_path)}").exists()
    assert not Path((tmp_path / "kept").read_text()).exists()


def test_a_server_ends_with_the_benchmark_that_is_killed(tmp_path: Path) -> None:
    program = f"""
        import pathlib, sys
        from etl_assets_tests.bench.test_server import serving
        with serving(pathlib.Path({str(tmp_path)!r})):
            sys.stdin.read()
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdin=subprocess.PIPE) as benchmark:
        process_id = pid_of_worker(tmp_path)
        benchmark.send_signal(signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{process_id}").exists())


def test_a_server_that_ended_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_POLL_EVERY_S", 0.01)
    with serving(tmp_path, "raise SystemExit(3)") as served, pytest.raises(ServerError, match="ended with exit code 3"):
        served.wait(lambda: served.ask("{ version }"), time.monotonic() + 30, "nothing")


def test_waiting_has_an_end(tmp_path: Path) -> None:
    with serving(tmp_path) as served, pytest.raises(ServerError, match="took too long: waiting for Godot"):
        served.wait(lambda: None, time.monotonic() - 1, "Godot")
