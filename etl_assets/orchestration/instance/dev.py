"""`dagster dev`, which `etl-assets ui` becomes, with one more watch: on the process that holds this project's code.

`dagster dev` starts a code server of two processes, one that answers and one behind it that holds the code. It replaces
the first when that is killed, and never looks at the second: without it nothing starts any more, until somebody reloads
the code location by hand. Here the first is ended when it cannot reach the second, and both come back.

The class that is replaced is no public part of Dagster; a test kills the process and sees it come back.
"""

import logging
import os
import sys
import threading

from dagster._cli import dev, main
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.server import GrpcServerProcess

from etl_assets.cli.arguments import EXIT_FAILED
from etl_assets.orchestration.instance.launcher import SERVER_VARIABLE

# Two looks in a row that fail: a killed process has a successor after 6 to 10 s, which answers a few seconds later.
LOOK_S = 3.0
MAX_FAILED_LOOKS = 2

_CRASHED = "An unexpected exception has occurred"
_ADVICE = (
    "The Dagster UI ended because a process of it was killed (see above). Runs that were started go on, and nothing is "
    "lost: etl-assets ui goes on where it was."
)


class WatchingManager(ProxyServerManager):
    """Starts the code server and restarts it, whichever of its processes is gone."""

    listener: logging.Handler = logging.NullHandler()

    def _initialize_endpoints(self) -> None:
        self._ended = threading.Event()
        # Not earlier: `dagster dev` sets up its logging just before, and removes the handlers there are.
        logging.getLogger("dagster").addHandler(self.listener)
        super()._initialize_endpoints()
        for specification in self.get_code_server_specs():
            # For the launcher, which works in the daemon: that is started after this.
            os.environ[SERVER_VARIABLE] = specification["grpc_server"].get("socket", "")

    def _process_monitoring_thread(self, process_entry: GrpcServerProcess) -> None:
        """Dagster's own watch on the first process, in its thread; ours in another."""
        threading.Thread(target=self._watch_code, args=(process_entry,), daemon=True).start()
        super()._process_monitoring_thread(process_entry)

    def _watch_code(self, process_entry: GrpcServerProcess) -> None:
        failed_looks = 0
        while not self._ended.wait(LOOK_S):
            server = process_entry.server_process
            if server.poll() is not None:
                failed_looks = 0  # is being replaced already
                continue
            try:
                # Not a heartbeat, which the first process answers by itself.
                process_entry.create_client().ping("")  # type: ignore[no-untyped-call]
                failed_looks = 0
            except DagsterUserCodeUnreachableError:
                failed_looks += 1
            if failed_looks >= MAX_FAILED_LOOKS and not self._ended.is_set():
                logging.getLogger("dagster").warning("The process of the code location does not answer: replacing it.")
                server.kill()
                failed_looks = 0

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        super().__exit__(*error)


class _Listener(logging.Handler):
    """Hears in the log why `dagster dev` ends: it exits with 0 also when one of its processes was killed."""

    has_heard = False

    def emit(self, record: logging.LogRecord) -> None:
        self.has_heard = self.has_heard or record.getMessage() == _CRASHED


def serve() -> None:
    """Be `dagster dev`; exits with 1 when it ended because a process of its own was gone."""
    listener = _Listener(logging.ERROR)
    WatchingManager.listener = listener
    dev.ProxyServerManager = WatchingManager  # type: ignore[attr-defined]
    try:
        main()  # type: ignore[no-untyped-call]
    finally:
        if listener.has_heard:
            print(_ADVICE, file=sys.stderr)
            sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    serve()
