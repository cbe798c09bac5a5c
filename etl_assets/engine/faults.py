"""Fault points: named moments at which a test or a drill can break the pipeline, to see that nothing is lost.

Every step that leaves a trace on disk or in Dagster passes such a point. Nothing happens there unless `ETL_FAULT` names
it, and a process with `ETL_ENV=production` refuses to start armed. Each fault is `POINT ACTION [shard=…] [attempts=…]`,
several are separated by semicolons:

    ETL_FAULT="shard.before_swap kill shard=shard_03 attempts=1" etl-assets run

`CHAOS_FAIL_SHARD=3` is short for `shard.begin raise shard=3 attempts=1`: shard_03 fails its first attempt.
"""

import contextlib
import errno
import os
import re
import resource
import signal
import time
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from etl_assets import errors
from etl_assets.engine.routing import shard_key, shard_number
from etl_assets.engine.stopping import Stop
from etl_assets.errors import Advice, ConfigError

FAULT_VARIABLE = "ETL_FAULT"
CHAOS_VARIABLE = "CHAOS_FAIL_SHARD"
SLOW_S = 0.3
HANG_LIMIT_S = 3600.0

# The kinds of publications; each passes the same moments of `files.publishing`.
PUBLICATIONS = ("snapshot", "pointer", "attempt", "shard", "manifest", "warehouse")
MOMENTS = ("begin", "before_sync", "before_swap", "after_swap", "end")
# Moments of the work itself.
STEPS = (
    "staging.read",
    "staging.slices",
    "staging.quarantine",
    "shard.joined",
    "shard.validated",
    "merge.copied",
    "merge.tables",
    "merge.kept",
    "event.attempt",
    "event.sources",
    "event.shards",
    "event.merge",
    "sweep",
)
# Moments of `etl-assets restore`, which no run passes.
RESTORE_STEPS = ("restore.kept", "restore.marked", "restore.before_swap", "restore.after_swap")
# Moments of a run with a lake (`ETL_LAKE`), each between two objects of it.
LAKE_STEPS = (
    "probe.put",
    "sending.begin",
    "sending.slice",
    "sending.slices",
    "sending.marker",
    "sending.pointer",
    "sending.attempt",
    "commit.document",
    "vacuum.chosen",
    "vacuum.markers",
    "vacuum.removed",
)
RUN_POINTS: tuple[str, ...] = (*(f"{what}.{moment}" for what in PUBLICATIONS for moment in MOMENTS), *STEPS)
# An object is put in one request, and the merge copies no row and keeps no file.
_NOT_IN_LAKE = {f"{what}.{moment}" for what in ("shard", "manifest", "warehouse") for moment in MOMENTS} - {
    "shard.begin",
    *(f"{what}.{side}_swap" for what in ("shard", "manifest", "warehouse") for side in ("before", "after")),
} | {"merge.copied", "merge.kept"}
LAKE_RUN_POINTS: tuple[str, ...] = (*(name for name in RUN_POINTS if name not in _NOT_IN_LAKE), *LAKE_STEPS)
POINTS: tuple[str, ...] = (*RUN_POINTS, *RESTORE_STEPS, *LAKE_STEPS)


class Action(StrEnum):
    """The effect of a fault at its point."""

    RAISE = "raise"  # a transient error: the disk said no
    RAISE_PERMANENT = "raise-permanent"
    KILL = "kill"  # SIGKILL to this process
    HANG = "hang"  # until the work is stopped
    TORN_WRITE = "torn-write"  # half of the file is on disk, and the process is gone
    DISK_FULL = "disk-full"  # this process may write no larger file any more; the error is the system's own
    CORRUPT = "corrupt"  # bytes of the file change behind the pipeline's back
    SLOW = "slow"


@dataclass(frozen=True)
class Fault:
    """One armed fault; `shard` is the number of one, None means any; `attempts` empty means every one."""

    point: str
    action: Action
    shard: int | None = None
    attempts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Scope:
    """The shard and attempt whose work passes the points, and the stop of that work."""

    shard_id: str | None = None
    attempt: int = 1
    stop: Stop | None = None


class InjectedFaultError(OSError):
    """The transient error of the action `raise`."""


_UNSET = (Advice(errors.Action.UNSET, FAULT_VARIABLE), Advice(errors.Action.UNSET, CHAOS_VARIABLE))
_armed: tuple[Fault, ...] = ()
_ANY = Scope()
_scope: ContextVar[Scope] = ContextVar("fault_scope", default=_ANY)


def arm(fault: str, chaos_shard: str, *, is_production: bool, shard_count: int) -> None:
    """Arm what the settings name, in this process; ConfigError for a misspelt fault, and in production.

    Called by the processes that do the work, at their start: reading settings arms nothing.
    """
    global _armed
    texts = [text for text in fault.split(";") if text.strip()]
    if chaos_shard.strip():
        texts.append(f"shard.begin raise shard={chaos_shard.strip()} attempts=1")
    if texts and is_production:
        raise ConfigError(
            f"{FAULT_VARIABLE} or {CHAOS_VARIABLE} is set, and ETL_ENV is production: faults are for drills only.",
            *_UNSET,
        )
    _armed = tuple(_parsed(text, shard_count) for text in texts)


@contextlib.contextmanager
def scope(*, shard_id: str | None = None, attempt: int = 1, stop: Stop | None = None) -> Iterator[None]:
    """Set the shard and attempt of the block, so that a fault can be aimed at them."""
    token = _scope.set(Scope(shard_id, attempt, stop))
    try:
        yield
    finally:
        _scope.reset(token)


@contextlib.contextmanager
def stopped_by(stop: Stop) -> Iterator[None]:
    """Set the stop of the block, a part of the work that can be stopped alone."""
    token = _scope.set(replace(_scope.get(), stop=stop))
    try:
        yield
    finally:
        _scope.reset(token)


def point(name: str, path: Path | None = None) -> None:
    """Pass a point; `path` is the file being written there, if any. Costs one comparison when nothing is armed."""
    if not _armed:
        return
    here = _scope.get()
    for fault in _armed:
        if fault.point == name and _is_aimed(fault, here):
            _act(fault, here, path)


def _is_aimed(fault: Fault, here: Scope) -> bool:
    if fault.shard is not None and (here.shard_id is None or shard_number(here.shard_id) != fault.shard):
        return False
    return not fault.attempts or here.attempt in fault.attempts


def _parsed(text: str, shard_count: int) -> Fault:
    words = text.split()
    options = {name: value for name, _, value in (word.partition("=") for word in words[2:])}
    attempts = options.pop("attempts", "all")
    shard = options.pop("shard", None)
    numbers = [] if attempts == "all" else attempts.split(",")
    known = len(words) >= 2 and words[0] in POINTS and words[1] in list(Action)
    is_shard = shard is None or re.fullmatch(r"(shard_)?[0-9]+", shard) is not None
    if not known or options or len(words) > 4 or not is_shard or not all(number.isdigit() for number in numbers):
        raise ConfigError(
            f"{FAULT_VARIABLE} holds {text.strip()!r}, expected POINT ACTION [shard=shard_03] [attempts=1,2]. Points: "
            f"{', '.join(POINTS)}. Actions: {', '.join(Action)}.",
            *_UNSET,
        )
    number = None if shard is None else shard_number(shard)
    if number is not None and number >= shard_count:
        # It would never strike, and a drill would pass without testing anything.
        raise ConfigError(
            f"{FAULT_VARIABLE} or {CHAOS_VARIABLE} names shard {shard}, but there are {shard_count} shards: the last "
            f"is {shard_key(shard_count - 1, shard_count)}.",
            *_UNSET,
        )
    return Fault(words[0], Action(words[1]), number, frozenset(int(number) for number in numbers))


def _act(fault: Fault, here: Scope, path: Path | None) -> None:
    match fault.action:
        case Action.RAISE:
            raise InjectedFaultError(errno.EIO, f"injected fault at {fault.point}, attempt {here.attempt}")
        case Action.RAISE_PERMANENT:
            raise ConfigError(f"Injected permanent fault at {fault.point}.", *_UNSET)
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.HANG:
            _hang(here)
        case Action.TORN_WRITE:
            if path is not None and path.is_file():
                os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.DISK_FULL:
            _limit_file_size(path)
        case Action.CORRUPT:
            _corrupt(path)
        case Action.SLOW:
            time.sleep(SLOW_S)


def _hang(here: Scope) -> None:
    deadline = time.monotonic() + HANG_LIMIT_S
    while time.monotonic() < deadline:
        if here.stop is not None:
            here.stop.check()
        time.sleep(0.02)


def _limit_file_size(path: Path | None) -> None:
    """A quota on this process, so that the system itself refuses the next write (EFBIG)."""
    size = path.stat().st_size if path is not None and path.is_file() else 0
    # Python ignores the signal that comes with it (SIGXFSZ), so that the write fails instead.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))


def _corrupt(path: Path | None) -> None:
    if path is None or not path.is_file():
        return
    size = path.stat().st_size
    # The middle half: a few bytes might hit a block that the file does not use.
    with path.open("r+b") as stream:
        stream.seek(size // 4)
        stream.write(b"\xde\xad\xbe\xef" * (size // 8))
