"""A reader that polls the warehouse while the harness breaks the pipeline, and notes everything it sees."""

import threading
from dataclasses import dataclass
from pathlib import Path

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


class Poller(threading.Thread):
    """Polls the warehouse until it is stopped; notes what it saw and what it could not open."""

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
                stamp = publishing.stamp(self._path)
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
        with duck.opened(self._path) as connection:
            connection.execute("SELECT digest FROM publication").fetchone()
        return publishing.stamp(self._path)

    def stop(self) -> None:
        """End it."""
        self._stop_asked.set()
        self.join()
