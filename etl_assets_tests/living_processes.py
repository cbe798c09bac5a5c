"""Processes that tests have started on purpose, with all that these have started: found by a mark, and killed."""

import contextlib
import os
import signal
from collections.abc import Callable, Mapping

import psutil


def living(is_ours: Callable[[psutil.Process], bool]) -> dict[int, str]:
    """The command lines of the living processes for which this says yes; it may raise for those of other users."""
    found = {}
    for process in psutil.process_iter():
        # Others end while this looks.
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if is_ours(process) and process.status() != psutil.STATUS_ZOMBIE:
                found[process.pid] = " ".join(process.cmdline())
    return found


def kill_all(find: Callable[[], Mapping[int, str]]) -> None:
    """What a host that goes down does: SIGKILL to every process, until none is found."""
    while found := find():
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
