"""The record of every attempt at a shard: one small JSON file each, written at its start and rewritten at its end.

An attempt that never wrote its end was killed. A file an attempt needs no lock, survives the process, and reaches the
warehouse as `shard_attempts` with the next merge.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.publishing import Home

# Attempts kept a shard; older ones are swept.
MAX_KEPT = 100
MAX_ERROR_CHARS = 2000


class Status(StrEnum):
    """How an attempt ended; `running` is not an end and never reaches the warehouse."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    KILLED = "killed"
    CANCELLED = "cancelled"
    REUSED = "reused"


@dataclass(frozen=True)
class Attempt:
    """One attempt; times are ISO 8601 in UTC, `elapsed_ms` and what follows is null until (and unless) it ended."""

    shard_id: str
    run_id: str
    attempt: int
    status: Status
    started_at: str
    ended_at: str | None
    elapsed_ms: int | None
    record_count: int | None
    error: str | None
    host: str
    pid: int
    process_start: str


def start(home: Home, shard_id: str, run_id: str, attempt: int) -> Attempt:
    """Note that an attempt begins."""
    begun = Attempt(
        shard_id,
        run_id,
        attempt,
        Status.RUNNING,
        # Always with microseconds: files in name order are attempts in time order.
        datetime.now(UTC).isoformat(timespec="microseconds"),
        None,
        None,
        None,
        None,
        *storage.this_process(),
    )
    folder = storage.ensure_directory(home.attempts / shard_id)
    storage.sweep(folder)
    for path in storage.list_files(folder, ".json")[: -MAX_KEPT + 1]:
        storage.remove(path)
    storage.publish_json(_path(home, begun), asdict(begun))
    return begun


def finish(
    home: Home, begun: Attempt, status: Status, *, record_count: int | None = None, error: str | None = None
) -> Attempt:
    """Note how the attempt ended."""
    now = datetime.now(UTC)
    elapsed = now - datetime.fromisoformat(begun.started_at)
    ended = replace(
        begun,
        status=status,
        ended_at=now.isoformat(),
        elapsed_ms=round(elapsed.total_seconds() * 1000),
        record_count=record_count,
        error=error[:MAX_ERROR_CHARS] if error else None,
    )
    storage.publish_json(_path(home, ended), asdict(ended))
    return ended


def latest_attempts(home: Home, shard_ids: Iterable[str]) -> list[Attempt]:
    """The last known attempt at each of these shards that has one; reads one small file a shard."""
    found = []
    for shard_id in shard_ids:
        paths = storage.list_files(home.attempts / shard_id, ".json")
        document = storage.read_json(paths[-1]) if paths else None
        if document is not None:
            found.append(_judged(_from_json(document), ()))
    return found


def read_attempts(home: Home, shard_ids: Iterable[str]) -> list[Attempt]:
    """Every known attempt at these shards, oldest first; those whose process died without a word are `killed`."""
    by_shard: dict[str, list[Attempt]] = defaultdict(list)
    for shard_id in shard_ids:
        for path in storage.list_files(home.attempts / shard_id, ".json"):
            document = storage.read_json(path)
            if document is not None:
                by_shard[shard_id].append(_from_json(document))
    return [
        _judged(attempt, attempts[number + 1 :])
        for attempts in by_shard.values()
        for number, attempt in enumerate(attempts)
    ]


def _from_json(document: dict[str, Any]) -> Attempt:
    return Attempt(**{**document, "status": Status(document["status"])})


def _judged(attempt: Attempt, later: Sequence[Attempt]) -> Attempt:
    """What became of an attempt that has not said so itself, given those at the same shard after it."""
    if attempt.status is not Status.RUNNING:
        return attempt
    run = (attempt.run_id, attempt.host, attempt.pid, attempt.process_start)
    if any((other.run_id, other.host, other.pid, other.process_start) == run for other in later):
        # A run makes one attempt at a shard at a time, so this one is over, though its process lives.
        return replace(attempt, status=Status.FAILED, error="how it ended could not be noted; its run tried again")
    alive = storage.process_is_alive(attempt.host, attempt.pid, attempt.process_start)
    if alive is None:
        # Another host's process cannot be asked; that the shard was attempted again tells that this one is gone.
        alive = not later
    return attempt if alive else replace(attempt, status=Status.KILLED, error="the process was killed or lost")


def _path(home: Home, attempt: Attempt) -> Path:
    moment = attempt.started_at.replace(":", "").replace("+0000", "Z")
    return home.attempts / attempt.shard_id / f"{moment}-{attempt.run_id[:8]}-{attempt.attempt}.json"
