"""The measuring sees every descendant of a command: figures that miss a worker would flatter a way with workers."""

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.measure import Cost, Samples, descendants, measure
from etl_assets_tests.bench.linux import needs_proc

pytestmark = needs_proc

MB = 1_000_000
CostOf = Callable[..., Cost]


@pytest.fixture
def cost_of(tmp_path: Path) -> CostOf:
    """Measure a Python program, passed as text."""

    def run(program: str, *, timeout_s: float = 60) -> Cost:
        return measure(
            [sys.executable, "-c", textwrap.dedent(program)],
            environment=dict(os.environ),
            folder=tmp_path,
            log=tmp_path / "log",
            timeout_s=timeout_s,
        )

    return run


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for another process, whose work shows only in its result."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline, "not within 30 s"
        time.sleep(0.01)


def in_child(program: str) -> str:
    """The program that runs this one in a child process and waits for it."""
    return f"import subprocess, sys; subprocess.run([sys.executable, '-c', {textwrap.dedent(program)!r}], check=True)"


def test_memory_of_a_grandchild_is_seen(cost_of: CostOf) -> None:
    held = "kept = bytearray(b'x') * 200_000_000"
    assert cost_of(in_child(in_child(held))).peak_bytes > 200 * MB
    assert cost_of(in_child(in_child("pass"))).peak_bytes < 150 * MB


def test_memory_of_two_workers_at_a_time_is_added_up(cost_of: CostOf) -> None:
    worker = "import sys; kept = bytearray(b'x') * 100_000_000; print('held', flush=True); sys.stdin.read()"
    cost = cost_of(f"""
        import subprocess, sys, time
        workers = [
            subprocess.Popen([sys.executable, '-c', {worker!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for _ in range(2)
        ]
        for worker in workers:
            worker.stdout.readline()
        # Both hold it now; several samples are taken meanwhile.
        time.sleep(0.3)
        for worker in workers:
            worker.stdin.close()
            worker.wait()
    """)
    assert 200 * MB < cost.peak_bytes < 300 * MB
    assert cost.process_count == 3


def test_a_peak_between_two_samples_is_seen() -> None:
    """A short-lived buffer is what kills a process on a small machine."""
    program = "kept = bytearray(b'x') * 300_000_000; del kept; print('freed', flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        samples = Samples()
        samples.sample(os.getpid())
        child.communicate(b"\n")
    assert samples.peak_bytes > 300 * MB


def test_a_measurement_that_is_ended_ends_the_command(tmp_path: Path) -> None:
    """Ctrl-C on the benchmark must not leave a peer running on all cores."""
    program = f"""
        import os, time
        open({str(tmp_path / "pid")!r}, 'w').write(str(os.getpid()) + '.')
        time.sleep(600)
    """
    document = {
        "command": [sys.executable, "-c", textwrap.dedent(program)],
        "environment": dict(os.environ),
        "folder": str(tmp_path),
        "log": str(tmp_path / "log"),
    }
    command = [sys.executable, "-m", "bench.measure", "--timeout", "60"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as measuring:
        assert measuring.stdin is not None
        measuring.stdin.write(json.dumps(document))
        measuring.stdin.close()
        pid_file = tmp_path / "pid"
        wait_until(lambda: pid_file.exists() and pid_file.read_text().endswith("."))
        measuring.terminate()
    assert measuring.returncode == 130
    process_id = int(pid_file.read_text().removesuffix("."))
    wait_until(lambda: not Path(f"/proc/{process_id}").exists())


def test_cpu_of_children_is_counted_once(cost_of: CostOf) -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    cost = cost_of(in_child(burn))
    assert 0.5 <= cost.cpu_s < 0.9
    assert cost.wall_s >= 0.5


def test_bytes_that_a_child_writes_are_counted_once(cost_of: CostOf, tmp_path: Path) -> None:
    target = tmp_path / "written"
    cost = cost_of(in_child(f"open({str(target)!r}, 'wb').write(bytes(30_000_000))"))
    assert 30 * MB <= cost.wchar_bytes < 31 * MB
    # A file system in memory writes nothing to disk.
    assert cost.written_bytes == 0 or 30 * MB <= cost.written_bytes < 33 * MB


def test_an_orphan_is_waited_for_and_counted(cost_of: CostOf) -> None:
    """A worker that outlives its parent still used the machine."""
    burn = "import time\nwhile time.process_time() < 0.5: pass"
    cost = cost_of(f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {burn!r}])")
    assert cost.exit_code == 0
    assert cost.cpu_s >= 0.5
    assert cost.left_over == 0


def test_a_command_that_takes_too_long_is_ended_with_its_children(cost_of: CostOf, tmp_path: Path) -> None:
    """A peer that hangs must not stop the benchmark, nor go on beside the next one."""
    program = f"""
        import os, subprocess, sys
        child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])
        open({str(tmp_path / "pid")!r}, 'w').write(str(child.pid))
        child.wait()
    """
    cost = cost_of(program, timeout_s=2)
    assert cost.exit_code is None
    assert cost.left_over == 0
    process_id = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


@pytest.mark.parametrize(("program", "code"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9)])
def test_the_exit_code_of_a_command_is_reported(cost_of: CostOf, program: str, code: int) -> None:
    assert cost_of(program).exit_code == code


def test_output_goes_to_the_log(cost_of: CostOf, tmp_path: Path) -> None:
    cost_of("import sys; print('out'); print('err', file=sys.stderr)")
    assert (tmp_path / "log").read_text() in ("out\nerr\n", "err\nout\n")


def test_nothing_is_below_a_process_that_has_ended() -> None:
    assert list(descendants(2**22)) == []
