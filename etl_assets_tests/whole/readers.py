"""Many readers, each a process of its own, that open what is published again and again while it is replaced."""

import contextlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.engine.steps import build as shard

# Everything that a reader can count or name, in one query, so that a mixture of two states would show.
_WAREHOUSE = """
    SELECT digest, record_count, (SELECT count(*) FROM merged_profiles), (SELECT min(email) FROM merged_profiles),
        (SELECT max(email) FROM merged_profiles), (SELECT sum(record_count) FROM shard_manifest)::BIGINT
    FROM publication"""
_SHARD = """
    SELECT content_hash, record_count, (SELECT count(*) FROM profiles), (SELECT min(email) FROM profiles),
        (SELECT max(email) FROM profiles), run_id
    FROM manifest"""


# As a busy dashboard polls; without a pause, forty of them leave the publisher a twentieth of a small machine.
_PAUSE_S = 0.25


@dataclass
class Seen:
    """What one reader met: the states of each file in the order it saw them, and what it could not open or read."""

    states: dict[str, list[Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    polls: int = 0


def look(path: Path, *, is_plain: bool = False) -> Any:
    """One state of a published file, through a fresh connection; `is_plain` opens it as the README shows."""
    opened = duckdb.connect(str(path), read_only=True) if is_plain else shard.open_read_only(path)
    with contextlib.closing(opened) as connection:
        return connection.execute(_SHARD if path.parent.name == "shards" else _WAREHOUSE).fetchone()


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
    while not stop.exists():
        time.sleep(_PAUSE_S)
        _poll(paths, seen, is_plain=is_plain)
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


def out_of_order(seen: Seen, known: Mapping[str, list[Any]]) -> list[str]:
    """The files of which a reader saw a state that was never published, or an older one after a newer one."""
    return [
        f"{name}: {states}"
        for name, states in seen.states.items()
        if states != [state for state in known[name] if state in states]
    ]
