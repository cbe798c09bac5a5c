"""A reader that polls the warehouse while the harness breaks the pipeline, and notes everything it sees."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing

POLL_S = 0.02


@dataclass(frozen=True)
class Seen:
    """Everything that a reader sees of a publication at a glance: nothing of it may be of another one."""

    digest: str
    record_count: int
    rows: int
    rows_hash: int
    quarantined: int
    manifests: int
    rows_promised: int


def look(path: Path) -> Seen:
    """Open the warehouse as any reader does, and read every row of it."""
    with duck.opened(path) as connection:
        row = connection.execute(
            """
            SELECT digest, record_count, (SELECT count(*) FROM merged_profiles),
                (SELECT bit_xor(hash(row)) FROM merged_profiles row), (SELECT count(*) FROM quarantine),
                (SELECT count(*) FROM shard_manifest), (SELECT sum(record_count) FROM shard_manifest)::BIGINT
            FROM publication"""
        ).fetchone()
    assert row is not None
    return Seen(*row)


class Published(Protocol):
    """What is published, as one reader sees it; its methods raise duckdb.Error or OSError when it cannot be read."""

    @property
    def poll_s(self) -> float:
        """How long a reader waits between two polls."""

    def stamp(self) -> str:
        """Changes with every publication."""

    def greet(self) -> str:
        """Open it and read what takes least; returns its stamp."""

    def look(self) -> Seen:
        """Read every row of it."""


@dataclass(frozen=True)
class WarehouseFile:
    """A warehouse, as a reader sees it."""

    path: Path
    poll_s: float = POLL_S

    def stamp(self) -> str:
        """The stamp of the file."""
        return publishing.stamp(self.path)

    def greet(self) -> str:
        """Read one row."""
        with duck.opened(self.path) as connection:
            connection.execute("SELECT digest FROM publication").fetchone()
        return self.stamp()

    def look(self) -> Seen:
        """Read every row."""
        return look(self.path)


class Poller(threading.Thread):
    """Polls what is published until it is stopped; notes what it saw and what it could not open."""

    def __init__(self, published: Published) -> None:
        super().__init__(daemon=True)
        self._published = published
        self._stop_asked = threading.Event()
        self.seen: list[Seen] = []
        self.failures: list[str] = []
        self.polls = 0

    def run(self) -> None:
        """Poll."""
        looked_at = ""
        while not self._stop_asked.wait(self._published.poll_s):
            try:
                # All of it when it changed; else no more than any reader's first query, so that it polls often.
                stamp = self._published.stamp()
                seen = self.seen[-1] if self._published.greet() == looked_at == stamp else self._published.look()
                looked_at = stamp
            except (duckdb.Error, OSError, AssertionError) as error:
                self.failures.append(f"{type(error).__name__}: {str(error)[:200]}")
                continue
            finally:
                self.polls += 1
            if not self.seen or self.seen[-1] != seen:
                self.seen.append(seen)

    def poll_again(self) -> None:
        """Wait until a poll that has begun after this call is done."""
        polls = self.polls
        while self.is_alive() and self.polls < polls + 2:
            time.sleep(POLL_S / 2)

    def stop(self) -> None:
        """End it."""
        self._stop_asked.set()
        self.join()
