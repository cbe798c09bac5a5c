"""A server that is started for a measurement, asked over GraphQL, and ended together with all that it started.

It runs below a small process of its own (`python -m bench.server COMMAND`), the keeper, which becomes the reaper of
orphans: workers that a server puts into sessions of their own are found as well. The keeper ends everything when its
stdin is closed, so also when the benchmark is killed. Linux only.
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
# A server with all cores busy takes its time; the figures do not come from when it answers.
_ANSWER_S = 60.0
_ASK_EVERY_S = 1.0
# Deliberately without the proxy that the environment may name: it does not know this machine's ports.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(Exception):
    """The server ended, refused a request or took too long; the text says which."""


class NoAnswerError(ServerError):
    """The server cannot be reached or broke off; it may answer later."""


@dataclass(frozen=True)
class Server:
    """A running server; `keeper` is the process that ends it."""

    keeper: "subprocess.Popen[bytes]"
    port: int

    def ask(self, query: str, **variables: object) -> dict[str, Any]:
        """The `data` of the answer. NoAnswerError when there is none, ServerError when it is an error."""
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

    def wait(self, look: Callable[[], T | None], deadline: float, what: str) -> T:
        """Look every second until there is something; ServerError when the server ends or `deadline` passes first.

        `deadline` is of `time.monotonic()`, `what` says what is waited for.
        """
        while True:
            with contextlib.suppress(NoAnswerError):
                found = look()
                if found is not None:
                    return found
            if self.keeper.poll() is not None:
                raise ServerError(f"the server ended with exit code {self.keeper.returncode}")
            if time.monotonic() > deadline:
                raise ServerError(f"took too long: waiting for {what}")
            time.sleep(_ASK_EVERY_S)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def serve(
    command: Sequence[str], *, environment: Mapping[str, str], folder: Path, log: Path, port: int
) -> Iterator[Server]:
    """Start the server in `folder`, with its output in `log`; at the end nothing of it is left."""
    with log.open("ab") as output:
        # In a session of its own: Ctrl-C in the terminal is for the benchmark, which then ends the server.
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
        assert keeper.stdin is not None, "it was asked for"
        keeper.stdin.close()
        keeper.wait()


def main(folder: str, command: Sequence[str]) -> int:
    """Keep the command until it ends or stdin does, then end all that it started; its exit code."""
    # Not below `folder`: the path of a socket must be short.
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
        # Sockets and the like, which a killed server does not remove.
        shutil.rmtree(temporary, ignore_errors=True)
    return process.returncode if process and process.returncode else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
