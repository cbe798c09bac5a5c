"""The harness: breaks the pipeline at every fault point in every way, lets it recover, and judges the result.

A schedule (`schedules.py`) is a few `etl-assets run` in a row on a home that already has a published warehouse of older
exports: some of them with faults, the last ones without. Every run is a real process that can be killed
(`armed_run.py`). A reader polls the warehouse all the while (`poller.py`). `judge.py` has what must hold afterwards.
"""

import io
import multiprocessing
import os
import re
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from etl_assets.engine import faults
from etl_assets.engine.faults import Action
from etl_assets.engine.published import attempts
from etl_assets.engine.site import Site
from etl_assets.project.loading import load_project
from etl_assets.samples.any_files import writer_of
from etl_assets_tests import factory
from etl_assets_tests.whole import armed_run
from etl_assets_tests.whole.judge import MAX_RECOVERIES, SHARD_TIMEOUT_S, Ended, Judge, Outcome
from etl_assets_tests.whole.places import LocalPlace, Place, PlaceKind
from etl_assets_tests.whole.poller import POLL_S, Poller, Seen
from etl_assets_tests.whole.schedules import IN_ATTEMPT, SHARD_COUNT, Schedule

CUSTOMERS = 150
RUN_LIMIT_S = 240.0
# What an operator, or run monitoring, waits before a silent process is killed; here it is enough that the fault has
# struck.
HANG_GRACE_S = 0.4
_HANGS = f'"action": "{Action.HANG}"'.encode()


class Harness:
    """The exports, the homes that every schedule begins on, and the server that its processes are forked from."""

    def __init__(self, folder: Path, project: Path = factory.PROJECT_FOLDER, kind: PlaceKind = LocalPlace) -> None:
        self._folder, self._kind = folder, kind
        self._project = load_project(project)
        self._starting = threading.Lock()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([armed_run.__name__])
        self._old_sources, self.new_sources = folder / "old_sources", folder / "new_sources"
        write = writer_of(self._project.contract)
        write(self._old_sources, rows=CUSTOMERS, seed=1)
        write(self.new_sources, rows=CUSTOMERS, seed=2, dirty=0.1)
        self._template = self.place(folder / "template")
        if self._template.has_versions:
            # The runs that are disturbed have something to remove.
            write(folder / "older_sources", rows=CUSTOMERS, seed=3)
            self._published(self._template, folder / "older_sources")
        self.old = self._published(self._template, self._old_sources)
        self._template.age()
        self._current = self._template.copied_to(folder / "current")
        self.new = self._published(self._current, self.new_sources)
        self._current.age()
        assert self.old.digest != self.new.digest
        assert self.new.quarantined > 0, "the new exports are dirty"

    def _published(self, place: Place, sources: Path) -> Seen:
        ended = self.process(self.environment(place.folder, sources), ())
        assert ended.exit_code == 0, ended.output
        return place.published().look()

    def place(self, folder: Path) -> Place:
        """The place of a schedule, by its folder."""
        return self._kind(folder, self._project)

    def site_of(self, folder: Path) -> Site:
        """The project in a schedule's place."""
        return self.place(folder).site

    def environment(self, folder: Path, sources: Path) -> dict[str, str]:
        """The variables of a run in this place."""
        return {
            "ETL_PROJECT": str(self._project.folder),
            "ETL_SOURCES": str(sources),
            "ETL_NUM_SHARDS": str(SHARD_COUNT),
            "ETL_MAX_REJECT_RATIO": "1",
            "ETL_WORKERS": "2",
            "NO_COLOR": "1",
            **self.place(folder).variables,
        }

    def begin(self, name: str, *, is_current: bool = False) -> Path:
        """A place of its own for a schedule: a home that has published already, and a Dagster instance."""
        folder = self._folder / re.sub(r"[^a-z0-9]+", "_", name.lower())[:100]
        return (self._current if is_current else self._template).copied_to(folder).folder

    def process(
        self,
        variables: Mapping[str, str],
        arguments: Sequence[str],
        *,
        killed_after_s: float | None = None,
        is_hang_endless: bool = True,
    ) -> Ended:
        """One `etl-assets run`, to its end, or to its SIGKILL when it hangs and no time limit ends it."""
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(target=armed_run.work, args=(dict(variables), tuple(arguments), sending))
        began = time.monotonic()
        with self._starting:
            process.start()
        sending.close()
        with receiving:
            output = _watch(process, receiving, began, killed_after_s, is_hang_endless=is_hang_endless)
        exit_code = self._exit_code(process)
        elapsed_s = time.monotonic() - began
        process.close()
        return Ended(exit_code, output, elapsed_s)

    def _exit_code(self, process: ForkServerProcess) -> int:
        """The exit code of a process that has ended or is about to.

        Deliberately not by joining it: starting a process asks for the exit codes of all others, each can be had but
        once, and of two threads that ask, one gets 255.
        """
        while True:
            with self._starting:
                if process.exitcode is not None:
                    return process.exitcode
            time.sleep(POLL_S)

    def play(self, schedule: Schedule) -> Outcome:
        """Run a schedule from beginning to end and judge it; its place is kept only when something did not hold."""
        place = self.place(self.begin(schedule.name, is_current=schedule.is_current))
        site = place.site
        outcome = Outcome(schedule)
        poller = Poller(place.published())
        poller.start()
        try:
            plain = self.environment(place.folder, self.new_sources)
            if not schedule.keeps_history:
                plain[armed_run.IN_MEMORY] = "1"
            if schedule.is_timed:
                plain["ETL_SHARD_TIMEOUT_S"] = str(SHARD_TIMEOUT_S)
            self._disturb(schedule, place, plain, outcome)
            while len(outcome.recoveries) < MAX_RECOVERIES:
                outcome.recoveries.append(self.process(plain, ()))
                if outcome.recoveries[-1].exit_code == 0:
                    break
            # One more poll, of what was recovered.
            poller.poll_again()
        finally:
            poller.stop()
        outcome.polls = poller.polls
        outcome.known = attempts.read_attempts(site.home, site.shard_ids)
        outcome.problems += Judge(place, outcome, poller, self.old, self.new).problems()
        if not outcome.problems:
            place.remove()
        return outcome

    def _disturb(self, schedule: Schedule, place: Place, plain: Mapping[str, str], outcome: Outcome) -> None:
        for run in schedule.runs:
            before = place.published().stamp()
            ended = self.process(
                {**plain, faults.FAULT_VARIABLE: run.faults},
                run.arguments,
                killed_after_s=run.killed_after_s,
                is_hang_endless=schedule.point not in IN_ATTEMPT,
            )
            is_replaced = before != place.published().stamp()
            if ended.report is not None and ended.report["is_warehouse_replaced"] != is_replaced:
                outcome.problems.append(f"the report is wrong: the warehouse was replaced: {is_replaced}")
            outcome.ended.append(ended)


def _watch(
    process: ForkServerProcess,
    receiving: Connection,
    began: float,
    killed_after_s: float | None,
    *,
    is_hang_endless: bool,
) -> str:
    """Collect what the process writes until it is gone; kill it when its time has come."""
    deadline = began + (RUN_LIMIT_S if killed_after_s is None else killed_after_s)
    chunks = io.BytesIO()
    while True:
        # Not `select`, which takes no descriptor above 1,023: each home that was looked at keeps one.
        if not wait([receiving], max(0.0, deadline - time.monotonic())):
            process.kill()
            deadline = time.monotonic() + RUN_LIMIT_S
            continue
        chunk = os.read(receiving.fileno(), 65536)
        if not chunk:
            return chunks.getvalue().decode("utf-8", "replace")
        chunks.write(chunk)
        if is_hang_endless and _HANGS in chunk:
            deadline = min(deadline, time.monotonic() + HANG_GRACE_S)
