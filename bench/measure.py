"""What one command costs: wall time, CPU, peak memory and bytes written, of it and of all its descendants.

Runs in a small process of its own (`python -m bench.measure`), which becomes the reaper of orphans, so that nothing
the command starts gets away uncounted, and whose sampling disturbs nobody. Linux only: it reads /proc.

- Wall time is from the start of the process to its end, its imports included.
- CPU and bytes are the kernel's own sums, read when everything has ended; nothing is sampled.
- Memory is sampled every `SAMPLE_MS`: what is each process's own, added up, and once what they map of files (libraries,
  above all), taken from the process that maps most. Deliberately not the sum of resident sets, which counts the same
  libraries in each of ten workers, nor of proportional ones, which cost the measured processes a lock and a core. A
  peak of one process between two samples is known from its high-water mark, one of the sum is not.
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
# How long orphans may go on after the command itself: helpers that end by themselves need a moment for it.
_ORPHANS_MAY_TAKE_S = 10.0
# From linux/prctl.h.
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Cost:
    """What a command cost; `exit_code` is negative for a signal and None when it was ended for taking too long.

    `written_bytes` is what went to a file system on disk, `wchar_bytes` all that was handed to write calls, pipes and
    file systems in memory included. `left_over` processes had to be killed: figures with any are not to be trusted.
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
    """Run the command in `folder`, with its output in `log`, and say what it cost."""
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
            # It ends what it started and then itself; a kill would leave the command running.
            process.terminate()
            raise
    if process.returncode != 0:
        raise RuntimeError(f"measuring failed, which says nothing of the command: {errors.strip()}")
    return Cost(**json.loads(output))


@dataclass
class Seen:
    """What the samples showed so far."""

    peak_bytes: int = 0
    process_ids: frozenset[int] = frozenset()

    def sample(self, root: int) -> None:
        """Take in what the processes below this one hold now."""
        own_total, mapped_most = 0, 0
        for process_id in descendants(root):
            self.process_ids |= {process_id}
            own, mapped, high_water = _memory(process_id)
            own_total, mapped_most = own_total + own, max(mapped_most, mapped)
            self.peak_bytes = max(self.peak_bytes, high_water)
        self.peak_bytes = max(self.peak_bytes, own_total + mapped_most)


@dataclass
class _Used:
    """What those used that have ended.

    The kernel adds to a process what the children it waited for used, so that each is counted once: in its parent, or
    here when it was left to this process.
    """

    cpu_s: float = 0.0
    written_bytes: int = 0
    wchar_bytes: int = 0

    def reap(self) -> dict[int, int]:
        """Wait for every child that has ended; their exit codes."""
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
    """Every process below this one; those that end meanwhile may be missing."""
    try:
        threads = os.listdir(f"/proc/{process_id}/task")  # noqa: PTH208, a hundred times a second
    except OSError:
        return
    for thread in threads:
        for child in map(int, _read(f"/proc/{process_id}/task/{thread}/children").split()):
            yield child
            yield from descendants(child)


def _memory(process_id: int) -> tuple[int, int, int]:
    """Bytes of its own, bytes of mapped files and shared memory, most it ever held; zeros when it has ended."""
    found = dict.fromkeys(("RssAnon", "RssFile", "RssShmem", "VmHWM"), 0)
    for line in _read(f"/proc/{process_id}/status").splitlines():
        name, _, value = line.partition(":")
        if name in found:
            found[name] = int(value.split()[0]) << 10
    return found["RssAnon"], found["RssFile"] + found["RssShmem"], found["VmHWM"]


def _written(process_id: int) -> tuple[int, int]:
    """Bytes to disk and bytes handed to write calls, by the process and every child that it has waited for."""
    fields = dict(line.split(": ") for line in _read(f"/proc/{process_id}/io").splitlines())
    return int(fields.get("write_bytes", 0)), int(fields.get("wchar", 0))


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123, a thousand times a second
            return file.read()
    except OSError:
        return ""


def _ended() -> int | None:
    """A child that has ended and was not yet waited for."""
    try:
        info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return info.si_pid if info else None


def become_reaper() -> None:
    """Inherit all that is left behind below this process, and be told (SIGTERM) when who started it has ended."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_CHILD_SUBREAPER, 1), (_PR_SET_PDEATHSIG, signal.SIGTERM)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "cannot become the reaper of orphans")


def _run(command: Sequence[str], environment: Mapping[str, str], folder: str, log: str, timeout_s: float) -> Cost:
    me, seen, used = os.getpid(), Seen(), _Used()
    with open(log, "ab") as output:  # noqa: PTH123
        started = time.perf_counter()
        process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    # Wakes this process at the very end of the command, not at the next sample.
    end = select.poll()
    end.register(os.pidfd_open(process.pid), select.POLLIN)
    while process.returncode is None:
        seen.sample(me)
        end.poll(SAMPLE_MS)
        wall_s = time.perf_counter() - started
        # Popen, told of the exit code, does not wait for it again.
        process.returncode = used.reap().get(process.pid)
        if process.returncode is None and wall_s > timeout_s:
            _kill(set(descendants(me)))
    left_over = _outlive(me, seen, used)
    exit_code = None if wall_s > timeout_s else process.returncode
    return Cost(
        exit_code,
        wall_s,
        used.cpu_s,
        seen.peak_bytes,
        used.written_bytes,
        used.wchar_bytes,
        len(seen.process_ids),
        left_over,
    )


def _outlive(me: int, seen: Seen, used: _Used) -> int:
    """Wait for what the command left running, at last with force; the number of those that needed it."""
    deadline, killed = time.monotonic() + _ORPHANS_MAY_TAKE_S, set[int]()
    while living := set(descendants(me)):
        seen.sample(me)
        if time.monotonic() > deadline:
            _kill(living)
            killed |= living
        time.sleep(SAMPLE_MS / 1000)
        used.reap()
    return len(killed)


def end_all() -> None:
    """Kill every process below this one, those included that are started meanwhile; for a reaper of orphans."""
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
    """Measure the command of the document on stdin and print its cost as JSON."""
    parser = argparse.ArgumentParser(description="What a command costs; used by bench.run.")
    parser.add_argument("--timeout", type=float, required=True, metavar="S", help="seconds after which it is killed")
    given: dict[str, Any] = json.load(sys.stdin)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    become_reaper()
    try:
        cost = _run(given["command"], given["environment"], given["folder"], given["log"], parser.parse_args().timeout)
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED
    finally:
        end_all()
    print(json.dumps(asdict(cost)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
