"""Dagster's migrations, read once a process.

Whenever a process looks into the database of another run, Dagster asks whether it has the newest form. For the answer,
alembic runs all 88 files of Dagster's migrations, which takes as long as building a small shard.
"""

from collections.abc import Callable

from alembic.config import Config
from alembic.script import ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.sql import get_alembic_config

_read_anew: Callable[[Config], ScriptDirectory] = ScriptDirectory.from_config
# By the settings of alembic.
_known: dict[tuple[tuple[str, str], ...], ScriptDirectory] = {}


def read_migrations_once() -> None:
    """From here on, take the migrations as they were read first."""
    ScriptDirectory.from_config = _read  # type: ignore[method-assign]


def read_migrations_ahead() -> None:
    """Read them now, for this process and those that are forked from it."""
    read_migrations_once()
    _read(get_alembic_config(sqlite_event_log.__file__)).get_current_head()


def _read(config: Config) -> ScriptDirectory:
    # The databases of runs, events and schedules have one folder of migrations, and a file of settings each, "here".
    section = config.get_section(config.config_ini_section, {})
    settings = tuple(sorted((name, value) for name, value in section.items() if name != "here"))
    if settings not in _known:
        _known[settings] = _read_anew(config)
    return _known[settings]
