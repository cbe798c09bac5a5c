"""A running `etl-assets ui` in a process group of its own: started, asked, ended and killed.

One waits for a condition, never for a time, with a deadline that a busy machine can keep.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl_assets_tests.command_line import environment
from etl_assets_tests.living_processes import kill_all, living

CHECKOUT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).with_name("etl-assets")
# Until a page shows what exists already.
PAGE_S = 60
# Until something that was requested is done: the slowest measured with both cores busy, three times over.
WORK_S = 240
# A variable that all processes of one server inherit.
_MARK = "ETL_ASSETS_TESTED_SERVER"


@dataclass(frozen=True)
class Server:
    """`etl-assets ui` in a session of its own, with its own exports, data and instance."""

    process: subprocess.Popen[bytes]
    url: str
    sources: Path
    home: Path
    log: Path
    mark: str

    @property
    def warehouse(self) -> Path:
        """What the merge publishes."""
        return self.home / "warehouse.duckdb"

    def published_shards(self) -> set[str]:
        """The names of the shards that have a file."""
        return {path.stem for path in (self.home / "shards").glob("shard_*.duckdb")}

    def processes(self) -> dict[int, str]:
        """The command lines of the living processes of the server: its group, and the runs that it has forked.

        The latter have sessions of their own; like all others they have the server's mark in their environment.
        """
        return living(lambda one: os.getpgid(one.pid) == self.process.pid or one.environ().get(_MARK) == self.mark)

    def pid_of(self, words: str) -> int:
        """The process whose command line holds these words."""
        (pid,) = [pid for pid, args in self.processes().items() if words in args]
        return pid

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Ask over GraphQL, as the UI's pages do; returns the answer's `data`."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PAGE_S) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data

    def kill(self) -> None:
        """What a host that goes down does: SIGKILL to every process, until none is left."""
        kill_all(self.processes)
        self.process.wait(timeout=PAGE_S)

    def interrupt(self) -> int:
        """What Ctrl-C does in a terminal: SIGINT for the whole group. Returns the server's exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=PAGE_S)


@contextlib.contextmanager
def serve(
    folder: Path, sources: Path, *arguments: str, read_only: bool = False, start_in: Path = CHECKOUT, **changes: str
) -> Iterator[Server]:
    """Start the UI as a user does, in the checkout or another folder; its remaining processes are killed at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home, log = folder / "home", folder / "ui.log"
    mark = uuid.uuid4().hex
    settings = {"ETL_SOURCES": sources, "ETL_HOME": home, "DAGSTER_HOME": folder / "dagster", _MARK: mark}
    with log.open("ab") as out:
        process = subprocess.Popen(
            # Not `python -m`, which would take modules from the folder in which it is started.
            [PROGRAM, "ui", "--port", str(port), *(["--read-only"] if read_only else []), *arguments],
            cwd=start_in,
            env=environment(**{name: str(path) for name, path in settings.items()}, **changes),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", sources, home, log, mark)
    try:
        wait_until(lambda: _answers(server), PAGE_S * 2, lambda: f"the UI to answer; its log ends:\n{_tail(log)}")
        yield server
    finally:
        server.kill()


def wait_until(condition: Callable[[], bool], within_s: float, what: Callable[[], str]) -> None:
    """Ask twice a second until the condition holds; AssertionError names the condition."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"Waited {within_s} s for {what()}"
        time.sleep(0.5)


def _answers(server: Server) -> bool:
    assert server.process.poll() is None, f"The UI ended with {server.process.returncode}:\n{_tail(server.log)}"
    try:
        with urllib.request.urlopen(f"{server.url}/server_info", timeout=30) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
