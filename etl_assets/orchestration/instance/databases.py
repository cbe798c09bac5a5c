"""Lets a process make once what Dagster makes again each time it opens one of its SQLite databases.

- The migrations. When a process first looks into the database of a run, Dagster asks whether it has the newest form.
  For the answer, alembic runs all 88 files of Dagster's migrations, which takes as long as building a small shard.
- SQLAlchemy's engine, for each query and each event that is stored. An engine keeps the statements that it has
  compiled; a new one compiles them again. That took a fifth of the CPU time of an asset that does nothing.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import sqlalchemy
from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from dagster._core.storage.sql import get_alembic_config
from sqlalchemy.engine import Engine
from sqlalchemy.pool import NullPool

# The databases of all runs, of their index, of the schedules, and of some runs. A process that shows a thousand runs
# must not keep an engine for each.
_MAX_ENGINES = 16

_read_anew: Callable[[Config], ScriptDirectory] = ScriptDirectory.from_config
_new_engine = sqlalchemy.create_engine
# By the settings of alembic.
_known: dict[tuple[tuple[str, str], ...], ScriptDirectory] = {}


def reuse_engines_and_migrations() -> None:
    """From here on, take the migrations as they were read first, and the engine that a database has already."""
    ScriptDirectory.from_config = _read  # type: ignore[method-assign]
    for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        module.create_engine = _engine  # type: ignore[attr-defined]


def read_migrations_ahead() -> None:
    """Read them now, for this process and those that are forked from it."""
    reuse_engines_and_migrations()
    _read(get_alembic_config(sqlite_event_log.__file__)).get_current_head()


def _read(config: Config) -> ScriptDirectory:
    # The databases of runs, events and schedules have one folder of migrations, and a file of settings each, "here".
    section = config.get_section(config.config_ini_section, {})
    settings = tuple(sorted((name, value) for name, value in section.items() if name != "here"))
    if settings not in _known:
        _known[settings] = _read_anew(config)
    return _known[settings]


def _engine(address: str, **options: Any) -> Engine:
    """In the place of SQLAlchemy's `create_engine` in Dagster's modules."""
    # Only an engine that holds no connection can be shared by threads, and survives a fork.
    if options.get("poolclass") is NullPool and options.keys() <= {"poolclass", "connect_args"}:
        return _engine_of(address, tuple(sorted(options.get("connect_args", {}).items())))
    return _new_engine(address, **options)


@lru_cache(_MAX_ENGINES)
def _engine_of(address: str, connect_args: tuple[tuple[str, Any], ...]) -> Engine:
    return _new_engine(address, poolclass=NullPool, connect_args=dict(connect_args))
