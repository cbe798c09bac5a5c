"""The run launcher of this project's instance: Dagster's own, which also sees that a run's process is gone.

Dagster's leaves that to the code server, the parent of the processes: it reports a killed one within a second. When the
code server is killed together with them (the host goes down, a container is stopped, memory runs out), nobody is left
to report it, and the runs would be "in progress" until `max_runtime_seconds`, two hours. Run monitoring asks this
launcher every few seconds; a run whose process is gone is marked as failed, and run retries repeat it.

They do so at once or never, and need the code server for it. So a run is not given up while that is being replaced.
"""

import json
import os
import socket
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._grpc.client import DagsterGrpcClient

from etl_assets.engine.files import publishing as storage
from etl_assets.orchestration.instance.home import HOST_TAG

# Set by Dagster on each run that it hands to a code server: the server's socket, or its host and port.
_SERVER_TAG = ".dagster/grpc_info"
# Where the code server answers now: set by `etl-assets ui` for the daemon. A run's tag may name one that is long gone.
SERVER_VARIABLE = "ETL_ASSETS_CODE_SERVER"
# Looks at which the code server answers before a run is given up: the daemon takes a moment to see that it is back.
_LOOKS = 2


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts a process a run on this machine, and can tell whether it is alive."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """As Dagster makes it, from dagster.yaml."""
        super().__init__(*arguments, **options)
        self._looks: dict[str, int] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Makes run monitoring ask."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run is there; it counts as running where that cannot be known."""
        known = _process(self._instance, run.run_id) if _is_of_this_machine(run) else None
        if known is None or storage.process_was_there(*known) or not self._can_be_repeated(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(
            WorkerStatus.NOT_FOUND,
            f"Process {known[0]} of this run is gone: it was killed, or the machine was restarted. {_advice(run)}",
        )

    def _can_be_repeated(self, run: dg.DagsterRun) -> bool:
        if HOST_TAG in run.tags:
            return True  # nobody will
        self._looks[run.run_id] = self._looks.get(run.run_id, 0) + 1 if _code_server_answers() else 0
        return self._looks[run.run_id] >= _LOOKS


def _code_server_answers() -> bool:
    path = os.environ.get(SERVER_VARIABLE)
    if not path:
        return True  # a plain `dagster dev`, which does not say where, or a code server at a port
    try:
        # Not a heartbeat, which is answered without the process that holds the code.
        DagsterGrpcClient(socket=path).ping("")
    except DagsterUserCodeUnreachableError:
        return False
    return True


def _is_of_this_machine(run: dg.DagsterRun) -> bool:
    server = run.tags.get(_SERVER_TAG)
    if server is None:
        return run.tags.get(HOST_TAG) == socket.gethostname()
    # A code server at a port may be on another machine, whose processes cannot be seen from here.
    return "socket" in json.loads(server)


def _process(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """The pid that the run's process has noted last, and when (Unix time); None when it has not yet."""
    for entry in reversed(instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        pid = entry.dagster_event.engine_event_data.metadata.get("pid") if entry.dagster_event else None
        if pid is not None:
            return int(str(pid.value)), entry.timestamp
    return None


def _advice(run: dg.DagsterRun) -> str:
    if HOST_TAG in run.tags:
        return "What it had published is kept; etl-assets run does what is left."
    return "What it had published is kept. The daemon repeats the run, up to three times."
