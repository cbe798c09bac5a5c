"""The record of every attempt at a shard: one small JSON file each, written at its start and rewritten at its end.

An attempt that never wrote its end was killed. A file for each attempt needs no lock, survives the process, and reaches
the warehouse as `shard_attempts` with the next merge. Files are numbered, so that their order does not depend on a
clock: an attempt that was dated in the future would otherwise be the latest until that day.
"""

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from etl_assets.engine.files import folder_entries, presence, publishing, sweeping
from etl_assets.engine.files.documents import Count, Form, MomentText, SmallCount
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.processes import process_is_alive, this_process
from etl_assets.engine.published.status import Status

# Attempts kept a shard; older ones are swept.
MAX_KEPT = 100
MAX_ERROR_CHARS = 2000
_FAULT_POINTS = "attempt"
# Sequence, the first characters of the run, number. Other files in the folder are not this pipeline's.
_NAME = re.compile(r"[0-9]{9,18}-[^/]{1,8}-[0-9]{1,9}\.json")


@dataclass(frozen=True)
class Attempt:
    """One attempt; times are ISO 8601 in UTC, `elapsed_ms` and what follows is null until (and unless) it ended."""

    shard_id: str
    run_id: str
    number: SmallCount
    status: Status
    started_at: MomentText
    ended_at: MomentText | None
    elapsed_ms: Count | None
    record_count: Count | None
    error: str | None
    host: str
    pid: SmallCount
    process_start: str
    # Its place among all attempts at the shard, which names its file.
    sequence: Count


_FORM = Form(Attempt)


def start(home: Home, shard_id: str, run_id: str, number: int) -> Attempt:
    """Record that an attempt begins; `number` counts the attempts of the run from 1."""
    folder = publishing.ensure_directory(home.attempts_at(shard_id))
    presence.hold(home.root)
    sweeping.sweep(folder)
    known = _files(folder)
    for path in filter(publishing.is_regular, known[: -MAX_KEPT + 1]):
        sweeping.discard(path)
    begun = Attempt(
        shard_id,
        run_id,
        number,
        Status.RUNNING,
        datetime.now(UTC).isoformat(timespec="microseconds"),
        None,
        None,
        None,
        None,
        *this_process(),
        1 + max((_sequence(path) for path in known), default=0),
    )
    # Not synced: a power cut takes the attempt with its record, and a sync takes as long as a very small shard.
    _record(home, begun, is_durable=False)
    return begun


def finish(
    home: Home, begun: Attempt, status: Status, *, record_count: int | None = None, error: str | None = None
) -> Attempt:
    """Record how the attempt ended."""
    now = datetime.now(UTC)
    elapsed = now - datetime.fromisoformat(begun.started_at)
    ended = replace(
        begun,
        status=status,
        ended_at=now.isoformat(timespec="microseconds"),
        elapsed_ms=max(0, round(elapsed.total_seconds() * 1000)),
        record_count=record_count,
        error=error[:MAX_ERROR_CHARS] if error else None,
    )
    _record(home, ended, is_durable=True)
    return ended


def latest_attempts(home: Home, shard_ids: Iterable[str]) -> list[Attempt]:
    """The last known attempt at each of these shards that has one; reads one small file a shard, as a rule."""
    found = []
    for shard_id in shard_ids:
        newest_first = reversed(_files(home.attempts_at(shard_id)))
        attempt = next(filter(None, map(_read, newest_first)), None)
        if attempt is not None:
            found.append(_judged(home, attempt, ()))
    return found


def read_attempts(home: Home, shard_ids: Iterable[str]) -> list[Attempt]:
    """Every known attempt at these shards, oldest first; those whose process died silently are `killed`."""
    by_shard: dict[str, list[Attempt]] = defaultdict(list)
    for shard_id in shard_ids:
        for path in _files(home.attempts_at(shard_id)):
            attempt = _read(path)
            if attempt is not None:
                by_shard[shard_id].append(attempt)
    return [
        _judged(home, attempt, attempts[number + 1 :])
        for attempts in by_shard.values()
        for number, attempt in enumerate(attempts)
    ]


def _record(home: Home, attempt: Attempt, *, is_durable: bool) -> None:
    publishing.publish_json(path_of(home, attempt), asdict(attempt), what=_FAULT_POINTS, is_durable=is_durable)


def unlisted_attempts(home: Home, shard_ids: Iterable[str], listed: Container[tuple[str, str, int]]) -> list[Attempt]:
    """The attempts at these shards that are not among the `listed`: shard, first 8 characters of the run, number.

    Their file names say so, and only their files are read.
    """
    found = []
    for shard_id in shard_ids:
        for path in _files(home.attempts_at(shard_id)):
            run, _, number = path.stem.partition("-")[2].rpartition("-")
            is_listed = number.isdigit() and (shard_id, run, int(number)) in listed
            attempt = None if is_listed else _read(path)
            if attempt is not None:
                found.append(_judged(home, attempt, ()))
    return found


def kept_names(names: Iterable[str]) -> list[str]:
    """Of the names of one shard's records those of the newest, oldest first; what is no record is left out."""
    return _records(names)[-MAX_KEPT:]


def surplus_names(names: Iterable[str]) -> list[str]:
    """The names of one shard's records that `kept_names` leaves out because there are newer ones."""
    return _records(names)[:-MAX_KEPT]


def _records(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if _NAME.fullmatch(name))


def _files(folder: Path) -> list[Path]:
    """The records in a shard's folder, oldest first."""
    return [path for path in folder_entries.list_files(folder, ".json") if _NAME.fullmatch(path.name)]


def _read(path: Path) -> Attempt | None:
    """The attempt in a file; None when it holds anything else, or an attempt at another shard."""
    attempt = _FORM.read(path)
    return attempt if attempt is not None and attempt.shard_id == path.parent.name else None


def _judged(home: Home, attempt: Attempt, later: Sequence[Attempt]) -> Attempt:
    """An attempt with its true status if it has not recorded its end; `later` are those at the same shard."""
    if attempt.status is not Status.RUNNING:
        return attempt
    run = (attempt.run_id, attempt.host, attempt.pid, attempt.process_start)
    if any((other.run_id, other.host, other.pid, other.process_start) == run for other in later):
        # A run makes one attempt at a shard at a time, so this one is over, though its process lives.
        return replace(attempt, status=Status.FAILED, error="its end could not be recorded; its run tried again")
    alive = process_is_alive(attempt.host, attempt.pid, attempt.process_start)
    if alive is None:
        # Another host's process cannot be asked. That the shard was attempted again, or that no one else works in this
        # ETL_HOME, means that this one is gone.
        alive = not later and not presence.is_deserted(home.root)
    return attempt if alive else replace(attempt, status=Status.KILLED, error="the process was killed or lost")


def path_of(home: Home, attempt: Attempt) -> Path:
    """The file of its record."""
    name = f"{attempt.sequence:09d}-{attempt.run_id[:8]}-{attempt.number}.json"
    return home.attempts_at(attempt.shard_id) / name


def _sequence(path: Path) -> int:
    number = path.name.partition("-")[0]
    return int(number) if number.isdigit() else 0
