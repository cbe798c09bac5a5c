"""The run launcher of this project's instance: it forks runs from a process in which everything is imported.

With Dagster's own launcher a run is a new process, which imports Dagster and the definitions: two seconds on a small
machine, most of what a shard in the UI costs. Here it is a fork (preloaded.py). What Dagster's code
server does for its runs is done here: a killed run is reported within a second, and a run can be terminated.

Where runs cannot be forked (macOS, Windows, a code server on another machine, a definition's library that has started
threads) they are started by Dagster's launcher, and the run's log says so.
"""

import contextlib
import json
import os
import signal
import socket
import sys
import time
from functools import partial
from typing import Any, cast

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, LaunchRunContext
from dagster._core.remote_representation.code_location import GrpcServerCodeLocation
from dagster._grpc.types import ExecuteRunArgs
from dagster_shared.serdes import serialize_value

from etl_assets.engine.files.processes import process_is_alive, process_was_there
from etl_assets.orchestration.instance.launcher import (
    SERVER_TAG,
    WatchedRunLauncher,
    code_server_answers,
    gone,
    noted_process,
)
from etl_assets.orchestration.instance.run_watch import RunWatch
from etl_assets.orchestration.instance.starting import NotForkedError, can_fork, is_daemon, starter_of
from etl_assets.orchestration.instance.tags import FORKED_TAG

# A run notes its pid a tenth of a second after it was forked.
_NOTED_AFTER_S, _NOTED_POLL_S = 5.0, 0.1
# The watch asks the system, and no database.
_WATCHED_EVERY_S = 0.5


class WarmRunLauncher(WatchedRunLauncher):
    """Forks a process for each run on this machine, and knows whether it is alive."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Dagster passes what is in dagster.yaml."""
        super().__init__(*arguments, **options)
        self._watch = RunWatch(_WATCHED_EVERY_S)

    def register_instance(self, instance: dg.DagsterInstance) -> None:
        """Dagster calls this in every process that opens the instance; only the daemon launches runs."""
        super().register_instance(instance)
        if is_daemon() and can_fork() is None:
            starter_of(sys.executable).prepare()

    def launch_run(self, context: LaunchRunContext) -> None:
        """Start the run's process."""
        run = context.dagster_run
        try:
            python, server = _place(context)
            self._adopt(run)
            self._instance.add_run_tags(run.run_id, {SERVER_TAG: json.dumps(server), FORKED_TAG: "true"})
            forked = starter_of(python).start(order_of(run, self._instance))
        except NotForkedError as why:
            self._instance.add_run_tags(run.run_id, {FORKED_TAG: "false"})
            self._instance.report_engine_event(f"Dagster starts the process of this run: {why}.", run)
            super().launch_run(context)
            return
        start = (socket.gethostname(), forked.pid, forked.start)
        report = partial(self._report_gone, run.run_id, forked.pid)
        self._watch.add(run.run_id, lambda: process_is_alive(*start) is not False, report)

    def terminate(self, run_id: str) -> bool:
        """Interrupt the process of a run; the run reports the rest itself."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished or run.tags.get(FORKED_TAG) != "true":
            return bool(super().terminate(run_id))  # type: ignore[no-untyped-call]
        self._instance.report_run_canceling(run)
        known = self._noted_soon(run_id)
        if known is None or not process_was_there(*known):
            # A process that has not begun yet finds this and does not begin.
            self._instance.report_run_canceled(run)
            return True
        with contextlib.suppress(ProcessLookupError):
            os.kill(known[0], signal.SIGINT)
        return True

    def _noted_soon(self, run_id: str) -> tuple[int, float] | None:
        """The process of a run; one that was forked just now has yet to note its pid."""
        deadline_s = time.monotonic() + _NOTED_AFTER_S
        while (known := noted_process(self._instance, run_id)) is None and time.monotonic() < deadline_s:
            time.sleep(_NOTED_POLL_S)
        return known

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Whether the process of a started run is alive; takes over the watch of an earlier daemon's runs."""
        if run.tags.get(FORKED_TAG) == "true" and run.run_id not in self._watch:
            known = noted_process(self._instance, run.run_id)
            if known is not None and process_was_there(*known):
                report = partial(self._report_gone, run.run_id, known[0])
                self._watch.add(run.run_id, partial(process_was_there, *known), report)
        return super().check_run_worker_health(run)

    def _report_gone(self, run_id: str, pid: int) -> None:
        """Report a run whose process ended before the run did; run monitoring does it where the code server is gone."""
        run = self._instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return
        if run.status is dg.DagsterRunStatus.CANCELING:
            self._instance.report_run_canceled(run)
        elif code_server_answers():
            self._instance.report_run_failed(run, gone(run, pid))


def _place(context: LaunchRunContext) -> tuple[str, dict[str, str | None]]:
    """The Python of the run's code location and the address of its server, where runs can be forked beside it."""
    obstacle = can_fork()
    if obstacle:
        raise NotForkedError(obstacle)
    run = context.dagster_run
    if context.workspace is None or run.job_code_origin is None or run.remote_job_origin is None:
        raise NotForkedError("the run does not name its code")
    name = run.remote_job_origin.location_name
    # Raises what Dagster's launcher does when the code location does not load.
    client = cast("GrpcServerCodeLocation", context.workspace.get_code_location(name)).client
    if not client.socket:
        raise NotForkedError("its code server has a port, and may be on another machine")
    python = run.job_code_origin.repository_origin.executable_path
    return python or sys.executable, {"host": client.host, "socket": client.socket}


def order_of(run: dg.DagsterRun, instance: dg.DagsterInstance) -> str:
    """The arguments of `dagster api execute_run`."""
    assert run.job_code_origin is not None, "checked in _place"
    return serialize_value(ExecuteRunArgs(run.job_code_origin, run.run_id, instance.get_ref()))
