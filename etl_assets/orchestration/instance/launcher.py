"""Dagster's run launcher, which also notices when a run's process is gone. warm_launcher.py adds the forking of runs.

Dagster's launcher leaves that to the code server, the parent of the runs' processes, which reports a killed one within
a second. When the code server is killed together with them (the host goes down, a container is stopped, memory runs
out), no one reports it, and the runs stay "in progress" until `max_runtime_seconds`, two hours. Run monitoring asks
this launcher every few seconds. It marks a run whose process is gone as failed, and run retries repeat it.

Run retries act at that moment or never, and they need the code server. So a run is not given up while the code server
is being restarted.
"""

import json
import os
import socket
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._grpc.client import DagsterGrpcClient

from etl_assets.engine.files.presence import is_deserted
from etl_assets.engine.files.processes import process_was_there
from etl_assets.errors import ConfigError
from etl_assets.orchestration.instance.tags import HOST_TAG, LAUNCHED_BY_TAG, MAX_RETRIES_TAG
from etl_assets.project.settings import load_settings

# Dagster sets it on each run that it hands to a code server: the server's socket, or its host and port.
SERVER_TAG = ".dagster/grpc_info"
# The address at which the code server answers now. `etl-assets ui` sets it for the daemon. A run's tag may have the
# address of a server that is long gone.
SERVER_VARIABLE = "ETL_ASSETS_CODE_SERVER"
# Polls that the code server answers before a run is given up: the daemon takes a moment to see that it is back.
_ANSWERED_POLLS = 2


class WatchedRunLauncher(DefaultRunLauncher):
    """Starts a process for each run on this machine, and knows whether it is alive."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Dagster passes what is in dagster.yaml."""
        super().__init__(*arguments, **options)
        self._answered_polls: dict[str, int] = {}

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Makes run monitoring ask."""
        return True

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process."""
        self._adopt(context.dagster_run)
        super().launch_run(context)

    def _adopt(self, run: dg.DagsterRun) -> None:
        """A run of `etl-assets run`, re-executed in the UI with the tags of the first: this one is the daemon's."""
        if HOST_TAG in run.tags:
            retries = str(self._instance.run_retries_max_retries)
            self._instance.add_run_tags(run.run_id, {LAUNCHED_BY_TAG: "re-execution", MAX_RETRIES_TAG: retries})

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run is alive; it counts as running where that cannot be known."""
        if _is_of_a_host_that_is_gone(run):
            return CheckRunHealthResult(
                WorkerStatus.NOT_FOUND, f"The host of this run is gone: no process works in ETL_HOME. {_advice(run)}"
            )
        known = noted_process(self._instance, run.run_id) if _is_of_this_machine(run) else None
        if known is None or process_was_there(*known) or not self._can_be_given_up(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        return CheckRunHealthResult(WorkerStatus.NOT_FOUND, gone(run, known[0]))

    def _can_be_given_up(self, run: dg.DagsterRun) -> bool:
        if not _has_code_server(run):
            return True  # it is not repeated
        answered = self._answered_polls.get(run.run_id, 0)
        self._answered_polls[run.run_id] = answered + 1 if code_server_answers() else 0
        return self._answered_polls[run.run_id] >= _ANSWERED_POLLS


def code_server_answers() -> bool:
    """Whether the process that holds the code can be reached now; runs are repeated by it."""
    path = os.environ.get(SERVER_VARIABLE)
    if not path:
        return True  # a plain `dagster dev`, which does not give the address, or a code server at a port
    try:
        # Not a heartbeat: that is answered without the process that holds the code.
        DagsterGrpcClient(socket=path).ping("")
    except DagsterUserCodeUnreachableError:
        return False
    return True


def _has_code_server(run: dg.DagsterRun) -> bool:
    # HOST_TAG alone does not say: a re-executed run has the tags of the first.
    return SERVER_TAG in run.tags


def _is_of_a_host_that_is_gone(run: dg.DagsterRun) -> bool:
    """Whether a run of `etl-assets run` was on another host, such as a container before its restart, and is over.

    Such a run holds its ETL_HOME from before its first Dagster run until it ends.
    """
    if _has_code_server(run) or run.tags.get(HOST_TAG) in (None, socket.gethostname()):
        return False
    try:
        return is_deserted(load_settings().home)
    except ConfigError:
        return False


def _is_of_this_machine(run: dg.DagsterRun) -> bool:
    if not _has_code_server(run):
        return run.tags.get(HOST_TAG) == socket.gethostname()
    # A code server at a port may be on another machine, whose processes cannot be seen from here.
    try:
        server = json.loads(run.tags[SERVER_TAG])
    except (ValueError, RecursionError):
        # Anyone who launches a run can set tags. An error here would stop the check of all other runs.
        return False
    return isinstance(server, dict) and "socket" in server


def noted_process(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """The pid that the run's process has noted last, and when (Unix time); None when it has noted none yet."""
    for entry in reversed(instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)):
        pid = entry.dagster_event.engine_event_data.metadata.get("pid") if entry.dagster_event else None
        if pid is not None and str(pid.value).isdecimal():
            return int(str(pid.value)), entry.timestamp
    return None


def gone(run: dg.DagsterRun, pid: int) -> str:
    """What is said of a run whose process is gone."""
    return f"Process {pid} of this run is gone: it was killed, or the machine was restarted. {_advice(run)}"


def _advice(run: dg.DagsterRun) -> str:
    if not _has_code_server(run):
        return "Its published shards are kept. Go on with: etl-assets run"
    return "Its published shards are kept. The daemon repeats the run, up to three times."
