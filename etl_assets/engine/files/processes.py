"""Whether the process that writes a temporary file, or works on an attempt, is still alive."""

import os
import socket

import psutil

# How far the clock may have been set forward since a process began; a pid is not used again so soon.
_CLOCK_SLACK_S = 5.0
_ENDED = "ended"
_UNKNOWN = "0"


def this_process() -> tuple[str, int, str]:
    """Host, pid and start of this process, as `process_is_alive` takes them."""
    pid = os.getpid()
    return socket.gethostname(), pid, process_start(pid)


def process_start(pid: int) -> str:
    """An id of the process that a later process with the same pid does not share; `0` when it cannot be seen."""
    try:
        process = psutil.Process(pid)
        # A killed process that its parent (a container's first process, say) never waits for keeps its pid for ever.
        if process.status() == psutil.STATUS_ZOMBIE:
            return _ENDED
        started_s = process.create_time()
    except psutil.Error:
        return _UNKNOWN
    # On Linux the kernel counts from its own start, and psutil adds the boot time. Without it, the result does not
    # depend on the clock. Other systems keep the time of day itself.
    return f"{started_s - psutil.boot_time():.2f}" if psutil.LINUX else f"{started_s:.2f}"


def process_is_alive(host: str, pid: int, start: str) -> bool | None:
    """Whether that very process runs; None when it is on another host and cannot be asked."""
    if host != socket.gethostname():
        return None
    return psutil.pid_exists(pid) and start == process_start(pid)


def process_was_there(pid: int, moment_s: float) -> bool:
    """Whether the process that had this pid on this machine at `moment_s` (Unix time) still runs.

    For a process of which only the pid is known. A process that has the pid now and began later is another one, for
    example after a restart of the machine or the container.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.create_time() <= moment_s + _CLOCK_SLACK_S
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        return True
