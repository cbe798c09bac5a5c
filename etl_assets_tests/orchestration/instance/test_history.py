"""Dagster's history goes to the disk once a run, and is as sound as ever."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy

from etl_assets.orchestration.instance import history


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "history.db"


def _engine(path: Path) -> sqlalchemy.Engine:
    # As Dagster makes it: a connection a statement.
    return sqlalchemy.create_engine(f"sqlite:///{path}", poolclass=sqlalchemy.NullPool)


def _pragma(path: Path, name: str) -> object:
    with _engine(path).connect() as connection:
        return connection.execute(sqlalchemy.text(f"PRAGMA {name}")).scalar()


def test_a_commit_is_not_synced_and_the_log_is_kept_until_the_end(database: Path) -> None:
    """Fails: a small run syncs 1200 times, and takes as long as the disk likes."""
    log = database.with_name("history.db-wal")
    with history.synced_once():
        for statement in ("CREATE TABLE t (n INTEGER)", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)"):
            with _engine(database).begin() as connection:
                connection.execute(sqlalchemy.text(statement))
            assert log.stat().st_size > 0
        assert _pragma(database, "synchronous") == 1
    assert not log.exists()
    with contextlib.closing(sqlite3.connect(database)) as reader:
        assert reader.execute("SELECT n FROM t").fetchall() == [(1,), (2,)]


def test_it_is_as_before_afterwards(database: Path) -> None:
    with history.synced_once():
        assert _pragma(database, "synchronous") == 1
    assert _pragma(database, "synchronous") == 2


def test_a_database_that_is_kept_without_a_write_ahead_log_is_left_alone(database: Path) -> None:
    """Fails: a power cut could damage it; only with such a log is it sound without a sync."""
    with sqlite3.connect(database) as made:
        made.execute("CREATE TABLE t (n INTEGER)")
    made.close()
    with history.synced_once():
        assert _pragma(database, "synchronous") == 2
    assert _pragma(database, "journal_mode") == "delete"


def test_a_database_that_cannot_be_made_is_told_where_it_is_used(tmp_path: Path) -> None:
    with history.synced_once(), pytest.raises(sqlalchemy.exc.OperationalError):
        _pragma(tmp_path / "no_folder" / "history.db", "synchronous")
