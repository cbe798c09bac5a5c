"""`dagster dev`, which `etl-assets ui` becomes, with a guarded webserver and a second watch.

The webserver that `dagster dev` starts obeys every web page that the user visits. The one started here has a guard
(webserver.py).

The second watch is on the process that holds this project's code. The code server of `dagster dev` is two processes: a
proxy that answers, and behind it one that holds the code. `dagster dev` restarts the proxy when it was killed. It does
not watch the other process. When that one is gone, no run starts any more until a person reloads the code location. The
watch here kills a proxy that cannot reach its process, so that `dagster dev` restarts both.
"""

import logging
import os
import re
import sys
import threading
from collections.abc import Sequence
from subprocess import Popen
from typing import Any

from dagster._cli import dev, main
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.server import GrpcServerProcess
from dagster_shared.ipc import open_ipc_subprocess

from etl_assets.orchestration.instance.launcher import SERVER_VARIABLE
from etl_assets.orchestration.instance.opening import read_paths_literally

POLL_S = 3.0
# A killed process has a successor after 6 to 10 s, which answers a few seconds later.
MAX_FAILED_POLLS = 2
EXIT_CRASHED = 1

# How `dagster dev` starts its webserver, and what is started instead.
_PLAIN_WEBSERVER = ["-m", "dagster_webserver"]
# Any other way to start it would serve pages without the guard.
_WEBSERVER = re.compile(r"(.*/)?dagster[-_]webserver(\..*)?")
_GUARDED_WEBSERVER = ["-m", "etl_assets.orchestration.instance.webserver"]

_CRASHED = "An unexpected exception has occurred"
_ADVICE = (
    "The Dagster UI ended because one of its processes was killed (see above). Runs that were started go on, and "
    "nothing is lost. Start it again with: etl-assets ui"
)


class WatchingManager(ProxyServerManager):
    """Starts the code server, and restarts it when either of its processes is gone."""

    listener: logging.Handler = logging.NullHandler()

    def _initialize_endpoints(self) -> None:
        self._ended = threading.Event()
        # Not earlier: `dagster dev` configures its logging just before, and removes the existing handlers.
        logging.getLogger("dagster").addHandler(self.listener)
        super()._initialize_endpoints()
        for specification in self.get_code_server_specs():
            # For the launcher, which works in the daemon. The daemon is started after this.
            os.environ[SERVER_VARIABLE] = specification["grpc_server"].get("socket", "")

    def _process_monitoring_thread(self, process_entry: GrpcServerProcess) -> None:
        """Dagster's own watch on the proxy, in Dagster's thread; starts ours in another."""
        threading.Thread(target=self._watch_code, args=(process_entry,), daemon=True).start()
        super()._process_monitoring_thread(process_entry)

    def _watch_code(self, process_entry: GrpcServerProcess) -> None:
        failed_polls = 0
        while not self._ended.wait(POLL_S):
            server = process_entry.server_process
            if server.poll() is not None:
                failed_polls = 0  # Dagster is restarting it
                continue
            try:
                # Not a heartbeat: the proxy answers that alone.
                process_entry.create_client().ping("")  # type: ignore[no-untyped-call]
                failed_polls = 0
            except DagsterUserCodeUnreachableError:
                failed_polls += 1
            if failed_polls >= MAX_FAILED_POLLS and not self._ended.is_set():
                logging.getLogger("dagster").warning("The process of the code location does not answer: restarting it.")
                server.kill()
                failed_polls = 0

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        super().__exit__(*error)


class _CrashListener(logging.Handler):
    """Finds the crash in the log: `dagster dev` exits with 0 also when one of its processes was killed."""

    has_crashed = False

    def emit(self, record: logging.LogRecord) -> None:
        self.has_crashed = self.has_crashed or record.getMessage() == _CRASHED


def _open_subprocess(parts: Sequence[str], **options: Any) -> "Popen[Any]":
    """Dagster's function for its own processes, which starts the guarded webserver in place of the plain one."""
    python, *rest = parts
    if rest[:2] == _PLAIN_WEBSERVER:
        rest[:2] = _GUARDED_WEBSERVER
    elif any(_WEBSERVER.fullmatch(part) for part in parts):
        raise RuntimeError(f"Dagster starts its webserver in a way that leaves no room for the guard: {parts}")
    return open_ipc_subprocess([python, *rest], **options)


def serve() -> None:
    """Run `dagster dev`; exits with 1 when it ended because one of its own processes was gone."""
    read_paths_literally()
    listener = _CrashListener(logging.ERROR)
    WatchingManager.listener = listener
    dev.ProxyServerManager = WatchingManager  # type: ignore[attr-defined]
    dev.open_ipc_subprocess = _open_subprocess  # type: ignore[attr-defined]
    try:
        main()  # type: ignore[no-untyped-call]
    finally:
        if listener.has_crashed:
            print(_ADVICE, file=sys.stderr)
            sys.exit(EXIT_CRASHED)


if __name__ == "__main__":
    serve()
