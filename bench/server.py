"""A server that runs for the time of a measurement, answers GraphQL requests, and ends with all its descendants.

It runs below a small process, the keeper (`python -m bench.server FOLDER COMMAND`). The keeper becomes the reaper of
orphans, so that it also finds workers in sessions of their own. When its stdin closes, as it does when the benchmark is
killed, the keeper ends every process below it. Linux only.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, TypeVar

from bench import measure

T = TypeVar("T")

_HOST = "127.0.0.1"
# Generous, because a server with all cores busy is slow. The figures do not depend on when it answers.
_ANSWER_S = 60.0
_POLL_EVERY_S = 1.0
# Deliberately without the proxy of the environment: a proxy does not reach ports of this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(Exception):
    """The server ended, refused a request or took too long; the text says which."""


class NoAnswerError(ServerError):
    """The server cannot be reached or broke off its answer; it may answer later."""


@dataclass(frozen=True)
class Server:
    """A running server; `keeper` is the process that ends it."""

    keeper: "subprocess.Popen[bytes]"
    port: int

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """Send a GraphQL query; returns the `data` of the answer.

        Raises NoAnswerError when the server does not answer, and ServerError when it answers with an error.
        """
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(
            f"http://{_HOST}:{self.port}/graphql", body, {"Content-Type": "application/json"}
        )
        try:
            with _DIRECT.open(request, timeout=_ANSWER_S) as response:
                answer = json.load(response)
        except (OSError, HTTPException, ValueError) as error:
            raise NoAnswerError(f"the server does not answer: {error}") from error
        if answer.get("errors"):
            raise ServerError(f"the server refuses a request: {answer['errors'][0].get('message')}")
        data: dict[str, Any] = answer["data"]
        return data

    def wait(self, poll: Callable[[], T | None], deadline: float, awaited: str) -> T:
        """Call `poll` every second until it returns something else than None; returns that.

        Raises ServerError when the server ends first or `deadline` (of `time.monotonic()`) passes. `awaited` names in
        the message what did not come.
        """
        while True:
            with contextlib.suppress(NoAnswerError):
                result = poll()
                if result is not None:
                    return result
            if self.keeper.poll() is not None:
                raise ServerError(f"the server ended with exit code {self.keeper.returncode}")
            if time.monotonic() > deadline:
                raise ServerError(f"took too long: waiting for {awaited}")
            time.sleep(_POLL_EVERY_S)


def free_port() -> int:
    """A port on which no process listens now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serve(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, port: int
) -> Iterator[Server]:
    """Run the server in `folder`, with its output in `log`, and end it and all its descendants at the end."""
    with log.open("ab") as output:
        # In a session of its own, so that Ctrl-C reaches only the benchmark, which then ends the server.
        keeper = subprocess.Popen(
            [sys.executable, "-m", "bench.server", str(folder), *command],
            env=environment,
            cwd=Path(__file__).resolve().parent.parent,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield Server(keeper, port)
    finally:
        assert keeper.stdin is not None, "stdin is a pipe"
        keeper.stdin.close()
        keeper.wait()


def main(folder: str, command: Sequence[str]) -> int:
    """Run the command until it ends or stdin closes, then end all its descendants; returns its exit code."""
    # Deliberately not below `folder`: the path of a socket must be short.
    process, temporary = None, tempfile.mkdtemp(prefix="bench-")
    try:
        measure.become_reaper()
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, "TMPDIR": temporary}, stdin=subprocess.DEVNULL
        )
        end = select.poll()
        end.register(sys.stdin, select.POLLHUP)
        end.register(os.pidfd_open(process.pid), select.POLLIN)
        end.poll()
        process.poll()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        measure.end_all()
        # Sockets and other files that a killed server does not remove.
        shutil.rmtree(temporary, ignore_errors=True)
    return process.returncode if process and process.returncode else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
