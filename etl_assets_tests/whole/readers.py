"""Many readers, each a process of its own, that open what is published again and again while it is replaced."""

import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.published.shards import read_manifest


class State(NamedTuple):
    """What a reader can count or name of one publication, read at one moment, so that a mixture of two would show."""

    content: object
    promised_count: int
    record_count: int
    first_email: str | None
    last_email: str | None
    shard_count: int


# One query each: a reader that asks twice may well get two answers.
_WAREHOUSE = """
    SELECT digest, record_count, (SELECT count(*) FROM merged_profiles), (SELECT min(email) FROM merged_profiles),
        (SELECT max(email) FROM merged_profiles), (SELECT count(*) FROM shard_manifest)
    FROM publication"""
_SHARD = """
    SELECT bit_xor(hash(profile)), count(*), count(*), min(email), max(email), count(DISTINCT shard_id)
    FROM profiles profile"""
# As a busy dashboard polls. Forty readers without a pause would leave the publisher a twentieth of a small machine, so
# each also waits in proportion to what its last look cost: together they take one core.
_PAUSE_S = 0.25
_PAUSE_RATIO = 40


@dataclass
class Seen:
    """One reader's record: the states of each file in the order it saw them, and what it could not open or read."""

    states: dict[str, list[State]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    polls: int = 0


def look(path: Path, *, is_plain: bool = False) -> State:
    """One state of a published file, through a connection of its own; `is_plain` opens it as the README shows.

    A manifest is read as `status` reads it.
    """
    if path.suffix == ".json":
        return _look_at_manifest(path)
    connected = contextlib.closing(duckdb.connect(str(path), read_only=True)) if is_plain else duck.opened(path)
    with connected as connection:
        row = connection.execute(_SHARD if path.parent.name == "shards" else _WAREHOUSE).fetchone()
    assert row is not None, "one publication"
    return State(*row)


def _look_at_manifest(path: Path) -> State:
    manifest = read_manifest(path)
    if manifest is None:
        raise OSError(f"{path.name} holds no manifest")
    return State(manifest.content_hash, manifest.record_count, manifest.record_count, None, None, 1)


@contextlib.contextmanager
def watching(paths: Sequence[Path], count: int, stop: Path) -> Iterator[list[Seen]]:
    """Let `count` processes read these files in the block, each once before it and once after it at least.

    The list is filled at the end of the block.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    pairs = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_watch, args=(paths, stop, number % 2 == 0, sending), daemon=True)
        for number, (_, sending) in enumerate(pairs)
    ]
    found: list[Seen] = []
    try:
        for process in processes:
            process.start()
        for receiving, _ in pairs:
            assert receiving.recv() == "ready"
        yield found
        stop.touch()
        found += [receiving.recv() for receiving, _ in pairs]
    finally:
        for process in processes:
            process.kill()
            process.join()


def _watch(paths: Sequence[Path], stop: Path, is_plain: bool, sending: Connection) -> None:
    seen = Seen()
    _poll(paths, seen, is_plain=is_plain)
    sending.send("ready")
    next_look_s = 0.0
    while not stop.exists():
        time.sleep(_PAUSE_S)
        if time.monotonic() >= next_look_s:
            began_s = time.process_time()
            _poll(paths, seen, is_plain=is_plain)
            next_look_s = time.monotonic() + _PAUSE_RATIO * (time.process_time() - began_s)
    _poll(paths, seen, is_plain=is_plain)
    sending.send(seen)


def _poll(paths: Sequence[Path], seen: Seen, *, is_plain: bool) -> None:
    for path in paths:
        try:
            state = look(path, is_plain=is_plain)
        except (duckdb.Error, OSError) as error:
            seen.failures.append(f"{path.name}: {type(error).__name__}: {str(error)[:200]}")
            continue
        states = seen.states.setdefault(path.name, [])
        if states[-1:] != [state]:
            states.append(state)
    seen.polls += 1


def out_of_order(seen: Seen, known: Mapping[str, list[State]]) -> list[str]:
    """The files of which a reader saw a state that was never published, or an older one after a newer one."""
    return [
        f"{name}: {states}"
        for name, states in seen.states.items()
        if states != [state for state in known[name] if state in states]
    ]
