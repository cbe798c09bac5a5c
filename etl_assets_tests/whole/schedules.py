"""Schedules of the harness: which runs are disturbed, at which fault point, in which way."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from etl_assets.engine import faults
from etl_assets.engine.faults import Action
from etl_assets.engine.routing import shard_keys

SHARD_COUNT = 4
AIMED_SHARD = "shard_01"

# Points inside an attempt at a shard, which has a time limit; a hang anywhere else is ended from outside.
IN_ATTEMPT = tuple(name for name in faults.POINTS if name.startswith(("shard.", "manifest.")))
# Points that are passed in the name of one shard.
OF_A_SHARD = (
    *IN_ATTEMPT,
    *(name for name in faults.POINTS if name.startswith("attempt.")),
    "event.attempt",
    "sending.attempt",
)
# The merge has no retries: a transient error there ends the run.
OF_THE_MERGE = tuple(
    name for name in faults.POINTS if name.startswith(("warehouse.", "merge.", "commit.", "event.merge"))
)
# What is done by then is worth more than what fails there: it is a warning.
WARNS = ("sending.attempt", *(name for name in faults.POINTS if name.startswith("vacuum.")))
# Points of a lake at which a file is written.
_WITH_FILE = ("sending.slice",)
# What is published by then is reused by the retry, which does not come here again. A shard counts as published with its
# manifest only.
_DONE_BY_THEN = (
    *(f"{what}.{moment}" for what in ("snapshot", "pointer", "manifest") for moment in ("after_swap", "end")),
    "sending.marker",
    "sending.pointer",
)
# With a lake each attempt begins with the pointer that is there, and the local one is put again.
_NOT_DONE_IN_LAKE = ("pointer.after_swap", "pointer.end")
# Before the first step: nothing is repeated.
IN_PREFLIGHT = ("probe.put",)
# The process is gone after these.
_DEADLY = (Action.KILL, Action.TORN_WRITE)


@dataclass(frozen=True)
class Run:
    """One armed `etl-assets run`; `killed_after_s` is a SIGKILL at some moment, whatever the process then does."""

    faults: str = ""
    arguments: tuple[str, ...] = ()
    killed_after_s: float | None = None

    def __str__(self) -> str:
        """Its options, its faults and its end."""
        killed = f" killed after {self.killed_after_s:.2f} s" if self.killed_after_s is not None else ""
        return " ".join((*self.arguments, self.faults)) + killed


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
    is_on_lake: bool = False

    @property
    def strikes_each_attempt(self) -> bool:
        """Whether no attempt of a run gets past the fault."""
        is_done = self.point in _DONE_BY_THEN and not (self.is_on_lake and self.point in _NOT_DONE_IN_LAKE)
        return self.is_every_attempt and not is_done

    @property
    def keeps_history(self) -> bool:
        """Whether Dagster's history is on disk, as everywhere else; in memory takes a third of the time off a run."""
        return self.point is None or self.point.startswith("event.") or self.action is Action.DISK_FULL

    @property
    def is_timed(self) -> bool:
        """Whether attempts have a tight time limit; on a busy machine it would strike attempts that do not hang."""
        return any(f" {Action.HANG}" in run.faults for run in self.runs)


def enumerated(points: Sequence[str] = faults.RUN_POINTS) -> list[Schedule]:
    """Every point with every action that it can have, in one attempt and in every attempt."""
    return [
        replace(_schedule(point, action, is_every_attempt), is_on_lake=faults.LAKE_STEPS[0] in points)
        for point in points
        for action in Action
        if _can_have(point, action)
        for is_every_attempt in (False, True)
    ]


def _can_have(point: str, action: Action) -> bool:
    """Whether an action differs there from the others: a PUT is whole or not there."""
    is_of_file = action in (Action.TORN_WRITE, Action.CORRUPT)
    return not is_of_file or point not in faults.LAKE_STEPS or point in _WITH_FILE


def share(of: Sequence[Schedule], count: int) -> list[Schedule]:
    """A deterministic share of the enumerated ones, about `count`, with every point and every action.

    Point by point the next actions in turn, so that neighbours are broken in different ways.
    """
    by_point: dict[str | None, list[Schedule]] = {}
    for schedule in of:
        by_point.setdefault(schedule.point, []).append(schedule)
    each = max(1, count // len(by_point))
    chosen = [
        group[(number * 7 + step * 5) % len(group)]
        for number, group in enumerate(by_point.values())
        for step in range(each)
    ]
    return list(dict.fromkeys(chosen))


def between_file_and_manifest() -> list[Schedule]:
    """A kill at every moment at which a shard's file is published and its manifest is not."""
    points = ("shard.after_swap", "shard.end", "manifest.begin", "manifest.before_sync", "manifest.before_swap")
    return [_schedule(point, Action.KILL, is_every) for point in points for is_every in (False, True)]


def _schedule(point: str, action: Action, is_every_attempt: bool) -> Schedule:
    aim = f" shard={AIMED_SHARD}" if point in OF_A_SHARD else ""
    text = f"{point} {action}{aim}" + ("" if is_every_attempt else " attempts=1")
    ends_process = action in _DEADLY or (action is Action.HANG and point not in IN_ATTEMPT)
    # Every attempt of a process that does not survive the first one is every process.
    runs = (Run(text),) * (2 if is_every_attempt and ends_process else 1)
    name = f"{point} {action} {'every' if is_every_attempt else 'first'}"
    return Schedule(name, runs, point, action, is_every_attempt)


def randomised(count: int, seed: int, points: Sequence[str] = faults.RUN_POINTS) -> list[Schedule]:
    """Schedules of several faults, of kills at any moment and of forced rebuilds, all from one seed."""
    chance = random.Random(seed)
    return [_random_schedule(chance, f"random seed={seed} number={number}", points) for number in range(count)]


def _random_schedule(chance: random.Random, name: str, points: Sequence[str]) -> Schedule:
    is_current = chance.random() < 0.3
    runs = []
    for _ in range(chance.choice((1, 1, 2, 3))):
        texts = [_random_fault(chance, points) for _ in range(chance.choice((0, 1, 2, 2, 3)))]
        is_forced = chance.random() < (0.8 if is_current else 0.2)
        killed = chance.uniform(0.05, 1.5) if chance.random() < (0.3 if texts else 1.0) else None
        runs.append(Run("; ".join(texts), ("--force",) if is_forced else (), killed))
    return Schedule(f"{name} {' | '.join(map(str, runs))}", tuple(runs), is_current=is_current)


def _random_fault(chance: random.Random, points: Sequence[str]) -> str:
    point, action = chance.choice(points), chance.choice(list(Action))
    aim = f" shard={chance.choice(shard_keys(SHARD_COUNT))}" if point in OF_A_SHARD and chance.random() < 0.7 else ""
    attempt = chance.choice(("", " attempts=1", " attempts=1,2", " attempts=2", " attempts=1,2,3"))
    return f"{point} {action}{aim}{attempt}"
