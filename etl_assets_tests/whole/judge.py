"""How the disturbed processes ended, and what must hold after a schedule."""

import json
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import duckdb

from etl_assets.engine.faults import Action
from etl_assets.engine.published import checks
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.published.status import Status
from etl_assets.orchestration import retry
from etl_assets.project.severity import Severity
from etl_assets_tests import factory
from etl_assets_tests.whole import armed_run
from etl_assets_tests.whole.places import Place
from etl_assets_tests.whole.poller import Poller, Seen
from etl_assets_tests.whole.schedules import AIMED_SHARD, IN_ATTEMPT, IN_PREFLIGHT, OF_THE_MERGE, WARNS, Schedule

MAX_RECOVERIES = 2
SHARD_TIMEOUT_S = 3
# The accident is that the published file itself is damaged; then a reader cannot but see it, until the next run.
_DAMAGE_WAREHOUSE = {
    Action.CORRUPT: ("warehouse.before_sync", "warehouse.before_swap", "warehouse.after_swap", "warehouse.end"),
    Action.TORN_WRITE: ("warehouse.after_swap", "warehouse.end"),
}
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|  File \".*\", line \d+")
# What a message says to do where a process ends without a report: it never came to run the pipeline.
_ADVICE = re.compile(r"etl-assets run|Try: |run the same command again")


@dataclass(frozen=True)
class Ended:
    """How a process ended; `output` is all it wrote, lines of JSON and messages."""

    exit_code: int
    output: str
    elapsed_s: float

    @cached_property
    def _lines(self) -> tuple[list[dict[str, Any]], list[str]]:
        """The JSON lines, and the messages for people."""
        events, messages = [], []
        for line in filter(None, self.output.splitlines()):
            try:
                document = json.loads(line)
            except ValueError:
                document = None
            if isinstance(document, dict):
                events.append(document)
            else:
                messages.append(line)
        return events, messages

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The JSON lines of one kind, in order."""
        return [event for event in self._lines[0] if event["event"] == kind]

    @property
    def messages(self) -> str:
        """What a person reads."""
        return "\n".join(self._lines[1])

    @property
    def struck(self) -> list[dict[str, Any]]:
        """The faults that it met."""
        return self.events(armed_run.STRUCK)

    @property
    def report(self) -> dict[str, Any] | None:
        """The run's last line; None when the process was killed, or never came to run the pipeline."""
        return next(iter(self.events("report")), None)

    @property
    def versions(self) -> Mapping[str, str | None] | None:
        """After a good end, what Dagster knows of the shards' content."""
        return next((facts["versions"] for facts in self.events(armed_run.FACTS)), None)

    @property
    def errors(self) -> str:
        """Every error that it reported, as facts or, where there is no report, in its message."""
        reported = [step["error"] for step in self.events("step")]
        if self.report is not None:
            parts = (*self.report["sources"], *self.report["shards"])
            reported += [part["error"] for part in parts] + [self.report["merge_error"]]
        return "\n".join(filter(None, [*reported, self.messages]))


@dataclass
class Outcome:
    """What became of a schedule; no problems means that everything held."""

    schedule: Schedule
    ended: list[Ended] = field(default_factory=list)
    recoveries: list[Ended] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    polls: int = 0
    known: list[Attempt] = field(default_factory=list)

    def __str__(self) -> str:
        """The problems, and what the processes wrote."""
        lines = [f"{self.schedule.name}: {problem}" for problem in self.problems]
        for title, ends in (("disturbed", self.ended), ("recovery", self.recoveries)):
            for ended in ends:
                lines.append(f"--- {title}, exit {ended.exit_code} after {ended.elapsed_s:.1f} s")
                lines.append(ended.output)
        lines += [f"{a.shard_id} {a.run_id[:8]} {a.number} {a.status} {a.error or ''}" for a in self.known]
        return "\n".join(lines)


@dataclass(frozen=True)
class Judge:
    """What must hold after a schedule that began with the `old` publication on exports that give the `new` one."""

    place: Place
    outcome: Outcome
    poller: Poller
    old: Seen
    new: Seen

    def problems(self) -> Iterator[str]:
        """Everything that does not hold."""
        yield from self._of_the_reader()
        yield from self._of_the_disturbed_runs()
        if self.outcome.recoveries[-1].exit_code:
            yield f"does not recover in {MAX_RECOVERIES} runs"
            return
        yield from self._of_the_result()
        yield from self._of_the_shards()
        yield from self._of_the_attempts()

    def _of_the_reader(self) -> Iterator[str]:
        if self.poller.polls == 0:
            yield "the reader never polled"
        if self.poller.failures and not self._is_warehouse_damaged():
            yield f"a reader failed {len(self.poller.failures)} times: {self.poller.failures[0]}"
        allowed = [self.new] if self.outcome.schedule.is_current else [self.old, self.new]
        seen = self.poller.seen
        if any(one not in allowed for one in seen):
            yield f"a reader saw neither the old nor the new publication: {seen}"
        elif [one for one in allowed if one in seen] != seen:
            yield f"a reader saw the publications out of order: {seen}"
        elif seen[-1:] != [self.new]:
            yield "a reader never saw the new publication"

    def _is_warehouse_damaged(self) -> bool:
        struck = {(strike["action"], strike["point"]) for ended in self.outcome.ended for strike in ended.struck}
        return bool(struck & {(action, point) for action, points in _DAMAGE_WAREHOUSE.items() for point in points})

    def _of_the_disturbed_runs(self) -> Iterator[str]:
        schedule = self.outcome.schedule
        for ended in self.outcome.ended:
            if ended.exit_code not in (0, 1, 2, -signal.SIGKILL):
                yield f"ended with exit code {ended.exit_code}"
            if found := _TRACEBACK.search(ended.messages):
                yield f"showed a raw traceback: {found[0]}"
            yield from self._of_its_report(ended)
        if schedule.point is not None and schedule.action is not None:
            if not self.outcome.ended[0].struck:
                yield "the fault never struck"
            yield from self._of_one_fault(schedule.point, schedule.action)

    def _of_its_report(self, ended: Ended) -> Iterator[str]:
        """A run that ends on its own says how, and what to do where it failed."""
        report = ended.report
        if report is None:
            if ended.exit_code == 0:
                yield "succeeded without a report"
            elif ended.exit_code in (1, 2) and not _ADVICE.search(ended.messages):
                yield "failed without saying what to do"
            return
        if ended.exit_code != -signal.SIGKILL and report["exit_code"] != ended.exit_code:
            yield f"reported exit code {report['exit_code']}, ended with {ended.exit_code}"
        if (report["recovery"] is None) != (report["exit_code"] == 0):
            yield f"exit code {report['exit_code']}, but the way to recover is {report['recovery']}"

    def _of_one_fault(self, point: str, action: Action) -> Iterator[str]:
        first = self.outcome.ended[0]
        code, errors = first.exit_code, first.errors
        expected = self._expected_exit(point, action)
        if expected is not None and code != expected:
            yield f"expected exit code {expected}, found {code}"
        if action is Action.RAISE and (code or point in WARNS) and f"injected fault at {point}" not in errors:
            yield "the error is not reported"
        if action is Action.RAISE_PERMANENT and f"Injected permanent fault at {point}" not in errors:
            yield "the error is not reported"
        if action is Action.RAISE_PERMANENT and any(strike["attempt"] > 1 for strike in first.struck):
            yield f"a permanent error was retried: {first.struck}"
        if action is Action.HANG and code == 1 and f"longer than ETL_SHARD_TIMEOUT_S={SHARD_TIMEOUT_S}" not in errors:
            yield "the time limit is not reported"

    def _expected_exit(self, point: str, action: Action) -> int | None:
        """The exit code that one fault must lead to; None where it depends on the file that is hit."""
        is_every = self.outcome.schedule.strikes_each_attempt
        match action:
            case Action.SLOW:
                return 0
            case Action.KILL | Action.TORN_WRITE:
                return -signal.SIGKILL
            case Action.RAISE | Action.RAISE_PERMANENT if point in WARNS:
                return 0
            case Action.RAISE | Action.RAISE_PERMANENT if point in IN_PREFLIGHT:
                return 1 if action is Action.RAISE else 2
            case Action.RAISE_PERMANENT:
                return 1
            case Action.HANG if point not in IN_ATTEMPT:
                return -signal.SIGKILL
            case Action.RAISE | Action.HANG:
                # `sweep` is passed by the merge as well.
                return 1 if is_every or point in (*OF_THE_MERGE, "sweep") else 0
            case _:
                return None

    def _of_the_result(self) -> Iterator[str]:
        site, home = self.place.site, self.place.site.home
        if left := self.place.leftovers():
            yield f"left behind: {', '.join(left)}"
        try:
            seen = self.place.published().look()
        except (duckdb.Error, OSError) as error:
            yield f"the recovered publication cannot be read: {error}"
            return
        if seen != self.new:
            yield f"the recovered publication is {seen}, undisturbed it is {self.new}"
        report = self.outcome.recoveries[-1].report or {}
        if (report.get("publication") or {}).get("digest") != seen.digest:
            yield f"the recovery reported {report.get('publication')}, published is {seen.digest}"
        findings = checks.check_warehouse(site, factory.LIMITS, checks.warehouse_checks(site.project))
        # Random exports differ from two publications before them, and a check that warns says so.
        warns = self.place.has_versions
        yield from (
            f"check failed: {finding}"
            for finding in findings
            if not finding.passed and not (warns and finding.severity is Severity.WARN)
        )
        for name, snapshot in current_snapshots(site).items():
            recount = checks.recount_source(home, snapshot)
            if not recount.passed:
                yield f"the books of {name} do not close: {recount}"

    def _of_the_shards(self) -> Iterator[str]:
        """Each file with the manifest beside it, and what Dagster knows of it."""
        found = self.place.shards()
        if found.obstacles:
            yield f"shards are not fit to merge: {found.obstacles}"
        for manifest in found.manifests:
            if why := self.place.why_bad(manifest):
                yield f"{manifest.shard_id} does not hold what its manifest says: {why}"
        contents = {manifest.shard_id: manifest.content_hash for manifest in found.manifests}
        # By the first run that succeeded: the next one would report again what that one forgot.
        ends = (*self.outcome.ended, *self.outcome.recoveries)
        versions = next((ended.versions for ended in ends if ended.versions is not None), None)
        is_damaged = self.outcome.schedule.action is Action.CORRUPT
        if versions != contents and not is_damaged:
            yield f"Dagster knows {versions}, published are {contents}"

    def _of_the_attempts(self) -> Iterator[str]:
        known, schedule = self.outcome.known, self.outcome.schedule
        yield from (f"an attempt never ended: {attempt}" for attempt in known if attempt.status is Status.RUNNING)
        published = self.place.listed_attempts()
        recorded = [(a.shard_id, a.run_id, a.number, str(a.status), a.record_count, a.error) for a in known]
        # A run that finds everything current merges nothing, so its reuses are in the record only.
        missing = [entry for entry in recorded if entry not in published and entry[3] != Status.REUSED]
        if missing or not set(published) <= set(recorded):
            yield f"shard_attempts says {published}, the record is {recorded}"
        if schedule.point not in IN_ATTEMPT:
            return
        mine = [attempt for attempt in known if attempt.shard_id == AIMED_SHARD]
        statuses = [attempt.status for attempt in mine]
        match schedule.action:
            case Action.KILL | Action.TORN_WRITE:
                if statuses.count(Status.KILLED) != sum(bool(ended.struck) for ended in self.outcome.ended):
                    yield f"the killed attempts are not listed: {statuses}"
            case Action.RAISE | Action.RAISE_PERMANENT | Action.HANG:
                is_once = schedule.action is Action.RAISE_PERMANENT or not schedule.strikes_each_attempt
                failed = [attempt for attempt in mine if attempt.status is Status.FAILED]
                if len(failed) != (1 if is_once else 1 + retry.MAX_RETRIES) or not all(a.error for a in failed):
                    yield f"the failed attempts are not listed: {statuses}"
