"""Starts runs from a preloaded process, which it starts itself, and anew when it is gone or outdated."""

import functools
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_MODULE = "etl_assets.orchestration.instance.preloaded"
# Two to three seconds of imports; ten times that on a machine that swaps.
READY_S = 60.0
_ANSWER_S = 20.0
_TRIES = 3
# After a preloaded process could not be started, the next attempt: a module that was being edited may import by then.
_UNFIT_S = 60.0
_LOG = logging.getLogger("dagster.etl_assets")


class NotForkedError(Exception):
    """No run can be forked here; the text says why."""


@dataclass(frozen=True)
class Forked:
    """The process of a run."""

    pid: int
    start: str


class _GoneError(Exception):
    """The preloaded process has ended, or does not answer, and has forked nothing."""


class RunStarter:
    """Keeps one preloaded process and has it fork one run after another. Threads may call it at once."""

    def __init__(self, python: str, module: str = _MODULE) -> None:
        self._command = (python, "-m", module)
        self._lock = threading.Lock()
        self._process: _Preloaded | None = None
        self._why_not, self._not_before_s = "", 0.0

    def prepare(self) -> None:
        """Start the preloaded process in the background, so that the first run does not wait for it."""
        threading.Thread(target=self._prepared, name="etl-assets-preload", daemon=True).start()

    def start(self, order: str) -> Forked:
        """Fork the process of a run; NotForkedError when there is none now, and will be none."""
        with self._lock:
            for _ in range(_TRIES):
                try:
                    return self._ready().fork(order)
                except _GoneError as error:
                    _LOG.info("Runs are forked from a new process: %s.", error)
                    self.close()
        raise NotForkedError("the process from which runs are forked ended again and again")

    def close(self) -> None:
        """Let the preloaded process end."""
        if self._process is not None:
            self._process.close()
            self._process = None

    def _prepared(self) -> None:
        with self._lock:
            try:
                self._ready()
            except NotForkedError as error:
                _LOG.info("Runs are not forked: %s.", error)

    def _ready(self) -> "_Preloaded":
        if self._process is None:
            if time.monotonic() < self._not_before_s:
                raise NotForkedError(self._why_not)
            process = _Preloaded(self._command)
            try:
                process.wait_until_ready()
            except (_GoneError, NotForkedError) as error:
                process.close()
                self._why_not, self._not_before_s = str(error), time.monotonic() + _UNFIT_S
                raise NotForkedError(self._why_not) from error
            self._process = process
        return self._process


@functools.cache
def starter_of(python: str) -> RunStarter:
    """The starter of this process for one Python: the daemon opens its instance more than once."""
    return RunStarter(python)


class _Preloaded:
    def __init__(self, command: Sequence[str]) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                # Not to be ended by the Ctrl-C that ends the daemon, before the daemon has ended.
                start_new_session=True,
            )
        self._socket = ours

    def wait_until_ready(self) -> None:
        started_s = time.monotonic()
        answer = self._answer(READY_S)
        if "unfit" in answer:
            raise NotForkedError(str(answer["unfit"]))
        size_mb = psutil.Process(self._process.pid).memory_info().rss >> 20
        seconds = time.monotonic() - started_s
        _LOG.info("Runs are forked from process %d, ready in %.1f s (%d MB).", self._process.pid, seconds, size_mb)

    def fork(self, order: str) -> Forked:
        try:
            self._socket.sendall((json.dumps({"order": order}) + "\n").encode())
        except OSError as error:
            raise _GoneError("the process from which runs are forked has ended") from error
        answer = self._answer(_ANSWER_S)
        if "outdated" in answer:
            raise _GoneError(f"{answer['outdated']} has changed")
        return Forked(int(str(answer["pid"])), str(answer["start"]))

    def _answer(self, timeout_s: float) -> dict[str, object]:
        self._socket.settimeout(timeout_s)
        try:
            line = self._line()
        except TimeoutError:
            # A process that it has forked after all cannot answer any more, and then does no run. If it has answered
            # meanwhile, it counts.
            self._process.kill()
            self._socket.shutdown(socket.SHUT_RD)
            self._socket.settimeout(None)
            line = self._line()
        if not line.endswith(b"\n"):
            raise _GoneError("the process from which runs are forked has ended, or does not answer")
        answer: dict[str, object] = json.loads(line)
        return answer

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            try:
                part = self._socket.recv(1 << 16)
            except ConnectionError:
                break
            if not part:
                break
            line += part
        return line

    def close(self) -> None:
        self._socket.close()
        threading.Thread(target=self._process.wait, daemon=True).start()


def can_fork() -> str | None:
    """Why runs cannot be forked on this system; None when they can."""
    if not hasattr(os, "fork"):
        return "this system has no fork"
    if sys.platform == "darwin":
        return "macOS ends forked processes that use its frameworks"
    return None


def is_daemon() -> bool:
    """Whether this process is `dagster-daemon`, which `dagster dev` starts as a module."""
    specification = getattr(sys.modules["__main__"], "__spec__", None)
    name = specification.name if specification else Path(sys.argv[0]).name
    return name.startswith(("dagster._daemon", "dagster-daemon"))
