"""How often Dagster's history on SQLite is synced to the disk while a run writes it."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine


@contextlib.contextmanager
def synced_once() -> Iterator[None]:
    """Sync the history that is written inside once, at the end, and not with every event.

    Dagster opens a connection for each event and closes it again. SQLite then syncs three times: at the commit, and
    because the last connection that closes moves the write-ahead log into the database. A small run did that 1200
    times, which takes seconds on most disks. A killed process loses nothing by this. A power cut can take the last
    events, but does not damage the database (SQLite, "synchronous = NORMAL" in WAL mode).
    """
    kept: dict[str, sqlite3.Connection] = {}

    def relax(connection: Any, _: object) -> None:
        # An error here happens again, and is reported, where the connection is used.
        with contextlib.suppress(sqlite3.Error):
            if isinstance(connection, sqlite3.Connection):
                _relax(connection, kept)

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)
        for connection in kept.values():
            connection.close()


def _relax(connection: sqlite3.Connection, kept: dict[str, sqlite3.Connection]) -> None:
    path = connection.execute("PRAGMA database_list").fetchone()[2]
    if path not in kept:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            # A new database. Dagster sets this too, but after it has created its tables, each of which is synced
            # three times.
            connection.execute("PRAGMA journal_mode = WAL")
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            return
        # This one stays open, so that no other is the last to close.
        kept[path] = sqlite3.connect(path, check_same_thread=False)
        kept[path].execute("SELECT count(*) FROM sqlite_master").fetchone()
    connection.execute("PRAGMA synchronous = NORMAL")
