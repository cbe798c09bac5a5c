"""The harness: breaks the pipeline at every fault point in every way, lets it recover, and holds the result to account.

A schedule is a few `etl-assets run` in a row on a home that already has a published warehouse of older exports: some of
them with faults, the last ones without. Every run is a real process (it can be killed), forked from a server that has
imported everything, because a thousand times a second of imports is what would keep anybody from running them all.
A reader polls the warehouse all the while. What must hold afterwards is in `_Judge`.
"""

import contextlib
import io
import json
import multiprocessing
import os
import random
import re
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from etl_assets.cli import main
from etl_assets.cli import run_command as run
from etl_assets.cli import run_report as report
from etl_assets.engine import faults
from etl_assets.engine.faults import Action
from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts, checks
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published.attempts import Attempt, Status
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import stage as staging
from etl_assets.orchestration import code_location as build
from etl_assets.orchestration import retry, shard_profiles
from etl_assets.orchestration import run as launch
from etl_assets.pipeline.drill import leftovers
from etl_assets.samples.writing import generate
from etl_assets_tests import factory
from etl_assets_tests.whole import power

# Imported so that the server, which preloads this module, has them before it forks.
PRELOADED = (launch, report, run)
# Read once, so that an editor's save during a long run makes no shard stale.
CODE_VERSIONS = (shard.code_version(), staging.staging_version())

SHARD_COUNT = 4
CUSTOMERS = 150
AIMED_SHARD = "shard_01"
RUN_LIMIT_S = 240.0
# What an operator, or run monitoring, waits until a process that says nothing any more is killed; here it is enough
# that the fault has struck.
HANG_GRACE_S = 0.4
SHARD_TIMEOUT_S = 3
MAX_RECOVERIES = 2
POLL_S = 0.02

# Points inside an attempt at a shard, which has a time limit; a hang anywhere else is ended from outside.
_IN_ATTEMPT = tuple(name for name in faults.POINTS if name.startswith("shard."))
# Points that are passed in the name of one shard.
_OF_A_SHARD = (*_IN_ATTEMPT, *(name for name in faults.POINTS if name.startswith("attempt.")), "event.attempt")
# The merge has no retries: a transient error there ends the run.
_OF_THE_MERGE = tuple(name for name in faults.POINTS if name.startswith(("warehouse.", "merge.", "event.merge")))
# What is published by then is reused by the retry, which does not come here again.
_DONE_BY_THEN = tuple(
    f"{what}.{moment}" for what in ("snapshot", "pointer", "shard") for moment in ("after_swap", "end")
)
# The process is gone after these.
DEADLY = (Action.KILL, Action.TORN_WRITE)
# The accident is that the published file itself is damaged; then a reader cannot but see it, until the next run.
_DAMAGE_WAREHOUSE = {
    Action.CORRUPT: (
        "warehouse.before_sync",
        "warehouse.before_swap",
        "warehouse.after_swap",
        "warehouse.end",
    ),
    Action.TORN_WRITE: ("warehouse.after_swap", "warehouse.end"),
}
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)|  File \".*\", line \d+")
# Set for a process: its Dagster history is not kept; and where it notes what it syncs (see power.py).
IN_MEMORY, JOURNAL = "HARNESS_IN_MEMORY", "HARNESS_JOURNAL"
_STRUCK, _FACTS = "HARNESS STRUCK ", "HARNESS FACTS "


@dataclass(frozen=True)
class Run:
    """One armed `etl-assets run`; `killed_after_s` is a SIGKILL at some moment, wherever the process then is."""

    faults: str = ""
    arguments: tuple[str, ...] = ()
    killed_after_s: float | None = None


@dataclass(frozen=True)
class Schedule:
    """The runs that are disturbed; `point` and `action` are None when it is a random one, of which less is known."""

    name: str
    runs: tuple[Run, ...]
    point: str | None = None
    action: Action | None = None
    is_every_attempt: bool = False
    # Whether the home it begins on holds the new exports already, so that a run without --force has nothing to do.
    is_current: bool = False

    @property
    def strikes_each_attempt(self) -> bool:
        """Whether no attempt of a run gets past the fault."""
        return self.is_every_attempt and self.point not in _DONE_BY_THEN

    @property
    def keeps_history(self) -> bool:
        """Whether Dagster's history is on disk, as everywhere else; in memory takes a third of the time off a run."""
        return self.point is None or self.point.startswith("event.") or self.action is Action.DISK_FULL

    @property
    def is_timed(self) -> bool:
        """Whether attempts have a tight time limit; on a busy machine it would strike attempts that do not hang."""
        return any(f" {Action.HANG}" in run_.faults for run_ in self.runs)


@dataclass(frozen=True)
class Ended:
    """How a process ended, and what it wrote; `struck` lists the faults that it met."""

    exit_code: int
    output: str
    struck: tuple[str, ...]
    facts: Mapping[str, Any] | None
    elapsed_s: float


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
        """The problems, and what the processes said."""
        lines = [f"{self.schedule.name}: {problem}" for problem in self.problems]
        for title, ends in (("disturbed", self.ended), ("recovery", self.recoveries)):
            for ended in ends:
                lines.append(
                    f"--- {title}, exit {ended.exit_code} after {ended.elapsed_s:.1f} s, struck {ended.struck}"
                )
                lines.append(ended.output)
        lines += [f"{a.shard_id} {a.run_id[:8]} {a.attempt} {a.status} {a.error or ''}" for a in self.known]
        return "\n".join(lines)


def enumerated() -> list[Schedule]:
    """Every point with every action, once and for good."""
    return [
        _schedule(point, action, is_every_attempt)
        for point in faults.POINTS
        for action in Action
        for is_every_attempt in (False, True)
    ]


def share(of: Sequence[Schedule], count: int) -> list[Schedule]:
    """A deterministic share of the enumerated ones, about `count`, in which every point and every action stands.

    Point by point the next actions in turn, so that neighbours are broken in different ways.
    """
    a_point = 2 * len(Action)
    each = max(1, count // len(faults.POINTS))
    chosen = [
        of[number * a_point + (number * 7 + step * 5) % a_point]
        for number in range(len(faults.POINTS))
        for step in range(each)
    ]
    return list(dict.fromkeys(chosen))


def _schedule(point: str, action: Action, is_every_attempt: bool) -> Schedule:
    aim = f" shard={AIMED_SHARD}" if point in _OF_A_SHARD else ""
    text = f"{point} {action}{aim}" + ("" if is_every_attempt else " attempts=1")
    ends_process = action in DEADLY or (action is Action.HANG and point not in _IN_ATTEMPT)
    # Every attempt of a process that does not survive the first one is every process.
    runs = (Run(text),) * (2 if is_every_attempt and ends_process else 1)
    name = f"{point} {action} {'every' if is_every_attempt else 'first'}"
    return Schedule(name, runs, point, action, is_every_attempt)


def randomised(count: int, seed: int) -> list[Schedule]:
    """Schedules of several faults, of kills at any moment and of forced rebuilds, all out of one seed."""
    chance = random.Random(seed)
    return [_random_schedule(chance, f"random seed={seed} number={number}") for number in range(count)]


def _random_schedule(chance: random.Random, name: str) -> Schedule:
    is_current = chance.random() < 0.3
    runs = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        texts = [_random_fault(chance) for _ in range(chance.choice((0, 1, 2, 2, 3)))]
        is_forced = chance.random() < (0.8 if is_current else 0.2)
        killed = chance.uniform(0.05, 1.5) if chance.random() < (0.3 if texts else 1.0) else None
        runs.append(Run("; ".join(texts), ("--force",) if is_forced else (), killed))
    return Schedule(f"{name} {' | '.join(_spelled(run) for run in runs)}", tuple(runs), is_current=is_current)


def _random_fault(chance: random.Random) -> str:
    point, action = chance.choice(faults.POINTS), chance.choice(list(Action))
    aim = f" shard={chance.choice(shard_keys(SHARD_COUNT))}" if point in _OF_A_SHARD and chance.random() < 0.7 else ""
    attempt = chance.choice(("", " attempts=1", " attempts=1,2", " attempts=2", " attempts=1,2,3"))
    return f"{point} {action}{aim}{attempt}"


def _spelled(run: Run) -> str:
    killed = f" killed after {run.killed_after_s:.2f} s" if run.killed_after_s is not None else ""
    return " ".join((*run.arguments, run.faults)) + killed


@dataclass(frozen=True)
class Seen:
    """All that a reader sees of a publication at a glance: nothing of it may be of another one."""

    digest: str
    record_count: int
    rows: int
    rows_hash: int
    quarantined: int
    manifests: int
    rows_promised: int


def look(path: Path) -> Seen:
    """Open the warehouse as any reader does, and read every row of it."""
    with contextlib.closing(shard.open_read_only(path)) as connection:
        row = connection.execute(
            """
            SELECT digest, record_count, (SELECT count(*) FROM merged_profiles),
                (SELECT bit_xor(hash(row)) FROM merged_profiles row), (SELECT count(*) FROM quarantine),
                (SELECT count(*) FROM shard_manifest), (SELECT sum(record_count) FROM shard_manifest)::BIGINT
            FROM publication"""
        ).fetchone()
    assert row is not None
    return Seen(*row)


class Reader(threading.Thread):
    """Polls the warehouse until it is told to stop; notes what it saw and what it could not open."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._stop_asked = threading.Event()
        self.seen: list[Seen] = []
        self.failures: list[str] = []
        self.polls = 0

    def run(self) -> None:
        """Poll."""
        looked_at = ""
        while not self._stop_asked.wait(POLL_S):
            try:
                # All of it when it changed; else no more than any reader's first query, so that it polls often.
                stamp = storage.stamp(self._path)
                seen = self.seen[-1] if self._greet() == looked_at == stamp else look(self._path)
                looked_at = stamp
            except (duckdb.Error, OSError, AssertionError) as error:
                self.failures.append(f"{type(error).__name__}: {str(error)[:200]}")
                continue
            finally:
                self.polls += 1
            if not self.seen or self.seen[-1] != seen:
                self.seen.append(seen)

    def _greet(self) -> str:
        with contextlib.closing(shard.open_read_only(self._path)) as connection:
            connection.execute("SELECT digest FROM publication").fetchone()
        return storage.stamp(self._path)

    def stop(self) -> None:
        """End it."""
        self._stop_asked.set()
        self.join()


class Harness:
    """The exports, the homes that every schedule begins on, and the server that its processes are forked from."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._starting = threading.Lock()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([__name__])
        self._old_sources, self.new_sources = folder / "old_sources", folder / "new_sources"
        generate(self._old_sources, rows=CUSTOMERS, seed=1)
        generate(self.new_sources, rows=CUSTOMERS, seed=2, dirty=0.1)
        self._template, self._current = folder / "template", folder / "current"
        self.old = self._published(self._template, self._old_sources)
        shutil.copytree(self._template, self._current, symlinks=True)
        self.new = self._published(self._current, self.new_sources)
        assert self.old.digest != self.new.digest
        assert self.new.quarantined > 0, "the new exports are dirty"

    def _published(self, place: Path, sources: Path) -> Seen:
        ended = self.process(environment(place, sources), ())
        assert ended.exit_code == 0, ended.output
        return look(home_of(place).warehouse)

    def begin(self, name: str, *, is_current: bool = False) -> Path:
        """A place of its own for a schedule: a home that has a published warehouse, and a Dagster instance."""
        place = self._folder / re.sub(r"[^a-z0-9]+", "_", name.lower())[:100]
        shutil.copytree(self._current if is_current else self._template, place, symlinks=True)
        return place

    def process(
        self,
        variables: Mapping[str, str],
        arguments: Sequence[str],
        *,
        killed_after_s: float | None = None,
        is_hang_endless: bool = True,
    ) -> Ended:
        """One `etl-assets run`, to its end, or to its SIGKILL when it hangs where no time limit ends it."""
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(dict(variables), tuple(arguments), sending))
        began = time.monotonic()
        with self._starting:
            process.start()
        sending.close()
        with receiving:
            output = _watch(process, receiving, began, killed_after_s, is_hang_endless=is_hang_endless)
        exit_code = self._exit_code(process)
        elapsed_s = time.monotonic() - began
        process.close()
        lines = output.splitlines()
        facts = [json.loads(line.removeprefix(_FACTS)) for line in lines if line.startswith(_FACTS)]
        return Ended(
            exit_code,
            "\n".join(line for line in lines if not line.startswith((_STRUCK, _FACTS))),
            tuple(line.removeprefix(_STRUCK) for line in lines if line.startswith(_STRUCK)),
            facts[-1] if facts else None,
            elapsed_s,
        )

    def _exit_code(self, process: ForkServerProcess) -> int:
        """The exit code of a process that has ended or is about to.

        Not by joining it: whoever starts a process asks all others how they ended, each answer can be had but once, and
        of two threads that ask, one is told 255.
        """
        while True:
            with self._starting:
                if process.exitcode is not None:
                    return process.exitcode
            time.sleep(POLL_S)

    def play(self, schedule: Schedule) -> Outcome:
        """Run a schedule from beginning to end and judge it; its place is kept only when something did not hold."""
        place = self.begin(schedule.name, is_current=schedule.is_current)
        outcome = Outcome(schedule)
        reader = Reader(home_of(place).warehouse)
        reader.start()
        try:
            plain = environment(place, self.new_sources)
            if not schedule.keeps_history:
                plain[IN_MEMORY] = "1"
            if schedule.is_timed:
                plain["ETL_SHARD_TIMEOUT_S"] = str(SHARD_TIMEOUT_S)
            for run_ in schedule.runs:
                before = storage.stamp(home_of(place).warehouse)
                outcome.ended.append(
                    self.process(
                        plain | {faults.FAULT_VARIABLE: run_.faults},
                        run_.arguments,
                        killed_after_s=run_.killed_after_s,
                        is_hang_endless=schedule.point not in _IN_ATTEMPT,
                    )
                )
                is_unchanged = before == storage.stamp(home_of(place).warehouse)
                if "warehouse is unchanged" in outcome.ended[-1].output and not is_unchanged:
                    outcome.problems.append("says that the warehouse is unchanged, and it is not")
            while len(outcome.recoveries) < MAX_RECOVERIES:
                outcome.recoveries.append(self.process(plain, ()))
                if outcome.recoveries[-1].exit_code == 0:
                    break
            # One more poll, of the recovered warehouse.
            time.sleep(2 * POLL_S)
        finally:
            reader.stop()
        outcome.polls = reader.polls
        outcome.known = attempts.read_attempts(home_of(place), shard_keys(SHARD_COUNT))
        outcome.problems += _Judge(self, place, outcome, reader).problems()
        if not outcome.problems:
            shutil.rmtree(place)
        return outcome


def home_of(place: Path) -> Home:
    """The ETL_HOME in a schedule's place."""
    return Home(place / "home")


def environment(place: Path, sources: Path) -> dict[str, str]:
    """The variables of a run in this place."""
    return {
        "ETL_SOURCES": str(sources),
        "ETL_HOME": str(place / "home"),
        "ETL_NUM_SHARDS": str(SHARD_COUNT),
        "ETL_MAX_REJECT_RATIO": "1",
        "ETL_WORKERS": "2",
        "DAGSTER_HOME": str(place / "dagster"),
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }


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
        readable, _, _ = select.select([receiving], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            process.kill()
            deadline = time.monotonic() + RUN_LIMIT_S
            continue
        chunk = os.read(receiving.fileno(), 65536)
        if not chunk:
            return chunks.getvalue().decode("utf-8", "replace")
        chunks.write(chunk)
        if is_hang_endless and f" {Action.HANG} ".encode() in chunk:
            deadline = min(deadline, time.monotonic() + HANG_GRACE_S)


def _child(variables: Mapping[str, str], arguments: Sequence[str], sending: Connection) -> None:
    """The process: the command itself, with its waits between attempts cut short and its faults noted."""
    for number in (1, 2):
        os.dup2(sending.fileno(), number)
    sending.close()
    # As a shell starts it: what the server that forked this ignores or catches is not its business.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115  lives as long as the process
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    for name in [name for name in os.environ if name.startswith(("ETL_", "DAGSTER_"))]:
        del os.environ[name]
    os.environ.update(variables)
    build.shard_retry_policy = lambda: retry.shard_retry_policy(0.01)
    act = faults._act

    def noted(fault: faults.Fault, here: faults.Scope, path: Path | None) -> None:
        os.write(2, f"\n{_STRUCK}{fault.point} {fault.action} {here.shard_id} {here.attempt}\n".encode())
        act(fault, here, path)

    faults._act = noted
    if variables.get(JOURNAL):
        power.record(Path(variables[JOURNAL]))
    kept = dg.DagsterInstance.ephemeral() if variables.get(IN_MEMORY) else None
    if kept is not None:
        setattr(dg.DagsterInstance, "from_ref", lambda _: contextlib.nullcontext(kept))  # noqa: B010  for mypy
    code = main.main(["run", *arguments])
    if code == 0:
        with contextlib.nullcontext(kept) if kept is not None else dg.DagsterInstance.get() as instance:
            os.write(2, f"\n{_FACTS}{json.dumps(_facts(instance))}\n".encode())
    sys.stdout.flush()
    sys.exit(code)


def _facts(instance: dg.DagsterInstance) -> dict[str, Any]:
    """What Dagster knows after a run that succeeded: the content of each shard by its latest materialization."""
    versions = {}
    for shard_id in shard_keys(SHARD_COUNT):
        filters = dg.AssetRecordsFilter(dg.AssetKey(shard_profiles.NAME), asset_partitions=[shard_id])
        records = instance.fetch_materializations(filters, limit=1).records
        materialization = records[0].asset_materialization if records else None
        tags = (materialization.tags if materialization else None) or {}
        versions[shard_id] = tags.get("dagster/data_version")
    return {"versions": versions}


@dataclass(frozen=True)
class _Judge:
    """What must hold after a schedule."""

    harness: Harness
    place: Path
    outcome: Outcome
    reader: Reader

    def problems(self) -> Iterator[str]:
        """Everything that does not."""
        yield from self._of_the_reader()
        yield from self._of_the_disturbed_runs()
        if self.outcome.recoveries[-1].exit_code:
            yield f"does not recover in {MAX_RECOVERIES} runs"
            return
        yield from self._of_the_result()
        yield from self._of_the_attempts()

    def _of_the_reader(self) -> Iterator[str]:
        if self.reader.polls == 0:
            yield "the reader never polled"
        if self.reader.failures and not self._is_warehouse_damaged():
            yield f"a reader failed {len(self.reader.failures)} times: {self.reader.failures[0]}"
        allowed = [self.harness.new] if self.outcome.schedule.is_current else [self.harness.old, self.harness.new]
        seen = self.reader.seen
        if any(one not in allowed for one in seen):
            yield f"a reader saw neither the old nor the new publication: {seen}"
        elif [one for one in allowed if one in seen] != seen:
            yield f"a reader saw the publications out of order: {seen}"
        elif seen[-1:] != [self.harness.new]:
            yield "a reader never saw the new publication"

    def _is_warehouse_damaged(self) -> bool:
        struck = {tuple(text.split()[:2]) for ended in self.outcome.ended for text in ended.struck}
        damaging = {(point, action) for action, points in _DAMAGE_WAREHOUSE.items() for point in points}
        return bool(struck & damaging)

    def _of_the_disturbed_runs(self) -> Iterator[str]:
        schedule = self.outcome.schedule
        for ended in self.outcome.ended:
            if ended.exit_code not in (0, 1, 2, -signal.SIGKILL):
                yield f"ended with exit code {ended.exit_code}"
            if found := _TRACEBACK.search(ended.output):
                yield f"showed a raw traceback: {found[0]}"
            if ended.exit_code in (1, 2) and not self._says_what_to_do(ended.output):
                yield "failed without saying what to do"
            if ended.exit_code == 0 and not schedule.runs[0].faults and ended.facts is None:
                yield "succeeded without facts"
        if schedule.point is not None and schedule.action is not None:
            if not self.outcome.ended[0].struck:
                yield "the fault never struck"
            yield from self._of_one_fault(schedule.point, schedule.action)

    def _says_what_to_do(self, output: str) -> bool:
        return "etl-assets run" in output or "Try:" in output or "run the same command again" in output

    def _of_one_fault(self, point: str, action: Action) -> Iterator[str]:
        first = self.outcome.ended[0]
        code, output = first.exit_code, first.output
        expected = self._expected_exit(point, action)
        if expected is not None and code != expected:
            yield f"expected exit code {expected}, found {code}"
        if action is Action.RAISE and code and f"injected fault at {point}" not in output:
            yield "the message does not name the error"
        if action is Action.RAISE_PERMANENT and f"Injected permanent fault at {point}" not in output:
            yield "the message does not name the error"
        if action is Action.RAISE_PERMANENT and any(int(text.split()[3]) > 1 for text in first.struck):
            yield f"a permanent error was retried: {first.struck}"
        if action is Action.HANG and code == 1 and f"longer than ETL_SHARD_TIMEOUT_S={SHARD_TIMEOUT_S}" not in output:
            yield "the message does not name the time limit"

    def _expected_exit(self, point: str, action: Action) -> int | None:
        """What one fault must end in; None where it depends on the file that is hit."""
        is_every = self.outcome.schedule.strikes_each_attempt
        match action:
            case Action.SLOW:
                return 0
            case Action.KILL | Action.TORN_WRITE:
                return -signal.SIGKILL
            case Action.RAISE_PERMANENT:
                return 1
            case Action.HANG if point not in _IN_ATTEMPT:
                return -signal.SIGKILL
            case Action.RAISE | Action.HANG:
                # `sweep` is passed by the merge as well.
                return 1 if is_every or point in (*_OF_THE_MERGE, "sweep") else 0
            case _:
                return None

    def _of_the_result(self) -> Iterator[str]:
        home = home_of(self.place)
        try:
            seen = look(home.warehouse)
        except duckdb.Error as error:
            yield f"the recovered warehouse cannot be read: {error}"
            return
        if seen != self.harness.new:
            yield f"the recovered warehouse is {seen}, undisturbed it is {self.harness.new}"
        yield from (
            f"check failed: {found}" for found in checks.check_warehouse(home, factory.LIMITS) if not found.passed
        )
        for name, snapshot in staging.current_snapshots(home, SHARD_COUNT).items():
            found = checks.recount_source(home, snapshot)
            if not found.passed:
                yield f"the books of {name} do not close: {found}"
        if problems := shardset.inspect_shards(home, SHARD_COUNT).problems:
            yield f"shards are not as they should be: {problems}"
        if left := leftovers(home) + [path.name for path in home.root.rglob("*.wal")]:
            yield f"left behind: {', '.join(left)}"
        promised = {state.shard_id: state.manifest for state in shard.read_shards(home, shard_keys(SHARD_COUNT))}
        contents = {name: manifest.content_hash for name, manifest in promised.items() if manifest}
        # By the first run that succeeded: the next one would report again what that one forgot.
        done = next(ended for ended in (*self.outcome.ended, *self.outcome.recoveries) if ended.facts is not None)
        is_damaged = self.outcome.schedule.action is Action.CORRUPT
        if (versions := (done.facts or {})["versions"]) != contents and not is_damaged:
            yield f"Dagster knows {versions}, published are {contents}"

    def _of_the_attempts(self) -> Iterator[str]:
        known, schedule = self.outcome.known, self.outcome.schedule
        yield from (f"an attempt never ended: {attempt}" for attempt in known if attempt.status is Status.RUNNING)
        told = _told(home_of(self.place).warehouse)
        recorded = [(a.shard_id, a.run_id, a.attempt, str(a.status), a.record_count, a.error) for a in known]
        if sorted(told, key=str) != sorted(recorded, key=str):
            yield f"shard_attempts says {told}, the record is {recorded}"
        if schedule.point not in _IN_ATTEMPT:
            return
        mine = [attempt for attempt in known if attempt.shard_id == AIMED_SHARD]
        statuses = [attempt.status for attempt in mine]
        match schedule.action:
            case Action.KILL | Action.TORN_WRITE:
                if statuses.count(Status.KILLED) != sum(bool(ended.struck) for ended in self.outcome.ended):
                    yield f"the killed attempts are not told: {statuses}"
            case Action.RAISE | Action.RAISE_PERMANENT | Action.HANG:
                is_once = schedule.action is Action.RAISE_PERMANENT or not schedule.strikes_each_attempt
                failed = [attempt for attempt in mine if attempt.status is Status.FAILED]
                if len(failed) != (1 if is_once else 1 + retry.MAX_RETRIES) or not all(a.error for a in failed):
                    yield f"the failed attempts are not told: {statuses}"


def _told(path: Path) -> list[tuple[Any, ...]]:
    with contextlib.closing(shard.open_read_only(path)) as connection:
        return connection.execute(
            "SELECT shard_id, run_id, attempt, status, record_count, error FROM shard_attempts"
        ).fetchall()
