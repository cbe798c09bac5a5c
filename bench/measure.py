"""What one command costs: wall time, CPU, peak memory and bytes written, of the command and all its descendants.

The measuring runs in a small process of its own (`python -m bench.measure`). It becomes the reaper of orphans, so that
every process that the command starts is counted. Linux only: it reads /proc.

- Wall time is from the start of the command's process to its end, imports included.
- CPU and bytes are the kernel's own sums, read when every process has ended; they are not sampled.
- Memory is sampled every `SAMPLE_MS`. Private memory is added up over all processes. Mapped files (libraries, above
  all) count once, with the process that maps most. Deliberately not the sum of resident sets, which counts the same
  libraries in each of ten workers, nor of proportional sets, which cost the measured processes a lock and a core. The
  high-water mark shows a peak of one process between two samples; a peak of the sum between two samples is missed.

Deliberately not psutil: it lists descendants by reading every process of the machine (0.9 ms of CPU with 84 processes,
0.06 ms here, a hundred times a second), and it has neither the high-water mark nor the sums of ended children.
"""

import argparse
import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SAMPLE_MS = 10
# How long orphans may outlive the command: helper processes that end on their own need a moment.
_ORPHANS_MAY_TAKE_S = 10.0
# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Cost:
    """The cost of a command. `exit_code` is negative for a signal and None when the command was killed at its timeout.

    `written_bytes` went to a file system on disk; `wchar_bytes` were passed to write calls, including those to pipes
    and to file systems in memory. `left_over` is the number of processes that had to be killed: do not trust figures
    where it is not 0.
    """

    exit_code: int | None
    wall_s: float
    cpu_s: float
    peak_bytes: int
    written_bytes: int
    wchar_bytes: int
    process_count: int
    left_over: int


def measure(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, timeout_s: float
) -> Cost:
    """Run the command in `folder`, with its output in `log`; returns its cost.

    Raises RuntimeError when the measuring itself fails.
    """
    document = {"command": list(command), "environment": dict(environment), "folder": str(folder), "log": str(log)}
    with subprocess.Popen(
        [sys.executable, "-m", "bench.measure", "--timeout", str(timeout_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        cwd=Path(__file__).resolve().parent.parent,
    ) as process:
        try:
            output, errors = process.communicate(json.dumps(document))
        except BaseException:
            # On SIGTERM it ends the command and then itself; SIGKILL would leave the command running.
            process.terminate()
            raise
    if process.returncode != 0:
        raise RuntimeError(f"the measuring failed, not the command: {errors.strip()}")
    return Cost(**json.loads(output))


@dataclass
class Samples:
    """What the samples of memory have shown so far."""

    peak_bytes: int = 0
    process_ids: frozenset[int] = frozenset()

    def sample(self, root: int) -> None:
        """Take a sample of the memory of all processes below `root`."""
        own_total, mapped_most = 0, 0
        for process_id in descendants(root):
            self.process_ids |= {process_id}
            own, mapped, high_water = _memory(process_id)
            own_total, mapped_most = own_total + own, max(mapped_most, mapped)
            self.peak_bytes = max(self.peak_bytes, high_water)
        self.peak_bytes = max(self.peak_bytes, own_total + mapped_most)


@dataclass
class _Used:
    """What the ended processes used.

    The kernel adds the use of a child to the parent that waits for it, so each process is counted once: in its parent
    or, as an orphan, here.
    """

    cpu_s: float = 0.0
    written_bytes: int = 0
    wchar_bytes: int = 0

    def reap(self) -> dict[int, int]:
        """Wait for every child that has ended; returns exit codes by process id."""
        codes = {}
        while (child := _ended()) is not None:
            written, wchar = _written(child)
            _, status, usage = os.wait4(child, 0)
            self.written_bytes += written
            self.wchar_bytes += wchar
            self.cpu_s += usage.ru_utime + usage.ru_stime
            codes[child] = os.waitstatus_to_exitcode(status)
        return codes


def descendants(process_id: int) -> Iterator[int]:
    """The ids of all processes below this one; a process that ends during the call may be missing."""
    try:
        threads = os.listdir(f"/proc/{process_id}/task")  # noqa: PTH208, a hundred times a second
    except OSError:
        return
    for thread in threads:
        for child in map(int, _read(f"/proc/{process_id}/task/{thread}/children").split()):
            yield child
            yield from descendants(child)


def _memory(process_id: int) -> tuple[int, int, int]:
    """Private bytes, bytes of mapped files and shared memory, and the most it ever held; zeros when it has ended."""
    fields = dict.fromkeys(("RssAnon", "RssFile", "RssShmem", "VmHWM"), 0)
    for line in _read(f"/proc/{process_id}/status").splitlines():
        name, _, value = line.partition(":")
        if name in fields:
            fields[name] = int(value.split()[0]) << 10
    return fields["RssAnon"], fields["RssFile"] + fields["RssShmem"], fields["VmHWM"]


def _written(process_id: int) -> tuple[int, int]:
    """Bytes to disk and bytes passed to write calls, by the process and every child that it has waited for."""
    fields = dict(line.split(": ") for line in _read(f"/proc/{process_id}/io").splitlines())
    return int(fields.get("write_bytes", 0)), int(fields.get("wchar", 0))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123, a thousand times a second
            return file.read()
    except OSError:
        return ""


def _ended() -> int | None:
    """The id of a child that has ended and was not waited for yet; None when there is none."""
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return info.si_pid if info else None


def become_reaper() -> None:
    """Inherit every orphan below this process, and get SIGTERM when this process's parent ends.

    Raises OSError when the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_CHILD_SUBREAPER, 1), (_PR_SET_PDEATHSIG, signal.SIGTERM)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot become the reaper of orphans")


def _run(command: Sequence[str], environment: Mapping[str, str], folder: str, log: str, timeout_s: float) -> Cost:
    me, samples, used = os.getpid(), Samples(), _Used()
    with open(log, "ab") as output:  # noqa: PTH123
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    # Wakes this process when the command ends, not only at the next sample.
    end = select.poll()
    end.register(os.pidfd_open(process.pid), select.POLLIN)
    while process.returncode is None:
        samples.sample(me)
        end.poll(SAMPLE_MS)
        wall_s = time.perf_counter() - started
        # With a return code set, Popen does not wait for the process again.
        process.returncode = used.reap().get(process.pid)
        if process.returncode is None and wall_s > timeout_s:
            _kill(set(descendants(me)))
    left_over = _outlive(me, samples, used)
    exit_code = None if wall_s > timeout_s else process.returncode
    return Cost(
        exit_code,
        wall_s,
        used.cpu_s,
        samples.peak_bytes,
        used.written_bytes,
        used.wchar_bytes,
        len(samples.process_ids),
        left_over,
    )


def _outlive(me: int, samples: Samples, used: _Used) -> int:
    """Wait for the processes that outlive the command and kill them at the deadline; returns how many were killed."""
    deadline, killed = time.monotonic() + _ORPHANS_MAY_TAKE_S, set[int]()
    while living := set(descendants(me)):
        samples.sample(me)
        if time.monotonic() > deadline:
            _kill(living)
            killed |= living
        time.sleep(SAMPLE_MS / 1000)
        used.reap()
    return len(killed)


def end_all() -> None:
    """Kill every process below this one, including those started during the call; only for a reaper of orphans."""
    while living := set(descendants(os.getpid())):
        _kill(living)
        while (child := _ended()) is not None:
            os.waitpid(child, 0)
        time.sleep(SAMPLE_MS / 1000)


def _kill(process_ids: set[int]) -> None:
    for process_id in process_ids:
        try:
            os.kill(process_id, signal.SIGKILL)
        except ProcessLookupError:
            continue


def main() -> int:
    """Measure the command that the JSON document on stdin describes, and print its cost as JSON."""
    parser = argparse.ArgumentParser(description="Measure what a command costs; used by bench.run.")
    parser.add_argument("--timeout", type=float, required=True, metavar="S", help="seconds after which it is killed")
    document: dict[str, Any] = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    become_reaper()
    try:
        cost = _run(**document, timeout_s=parser.parse_args().timeout)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    finally:
        end_all()
    print(json.dumps(asdict(cost)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
