"""The environment: its part of `--help`, the project of a command, a warning about variables that are no setting.

`--help` must not wait for pydantic, so the text is kept here; a test holds it against `settings.table()`.
"""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from etl_assets.cli.output import write_error
from etl_assets.cli.program import command

HELP = """\
environment:
  ETL_PROJECT              folder of your own project
  ETL_SOURCES              folder of the exports (data/sources)
  ETL_HOME                 folder of everything the pipeline makes (data)
  ETL_LAKE                 object store that holds shards and result as a Delta table
  ETL_NUM_SHARDS           number of shards (10)
  ETL_MAX_REJECT_RATIO     largest share of a source's rows that may break the contract (0.05)
  ETL_MAX_SUPERSEDED_RATIO largest share of a source's rows that repeat a key of their file (0.5)
  ETL_MIN_ROWS_RATIO       least share of the last publication's rows (0.5)
  ETL_WORKERS              sources or shards worked on at once in a run (number of cores, at most 8)
  ETL_MEMORY_LIMIT         DuckDB's memory for one run (700MB)
  ETL_SHARD_TIMEOUT_S      seconds after which an attempt at a shard is ended and retried (1800)
  ETL_SOURCE_TIMEOUT_S     seconds after which reading a source is interrupted and retried (3600)
  ETL_MAX_UNPACKED         what one packed or Parquet file may unpack to (16384MB)
  ETL_KEEP_WAREHOUSES      warehouses that stay after they were replaced (3)
  DAGSTER_HOME             folder of the Dagster instance (.dagster)
  ETL_FAULT                breaks something on purpose (etl_assets/engine/faults.py)
  CHAOS_FAIL_SHARD         number of a shard whose first attempt fails on purpose
  ETL_ENV                  production refuses faults
"""


def warn_of_unknown(environment: Mapping[str, str] = os.environ) -> None:
    """One line on stderr with the names that begin as settings do and are none; a run would ignore them in silence."""
    from etl_assets.project.settings import unknown_variables

    names = unknown_variables(environment)
    if names:
        what = "is no setting and has" if len(names) == 1 else "are no settings and have"
        write_error(f"warning: {', '.join(names)} {what} no effect. The settings: {command('--help')}")


def adopt_project(named: str | None, environment: MutableMapping[str, str] = os.environ) -> None:
    """Make a project that of this process and of those that it starts: `--project`, or the one that is found.

    ConfigError when the folder that is named holds none. The instance of Dagster that the project's file names is
    adopted too. A project that is found below the current folder is named on stderr: one could have meant another.
    """
    from etl_assets.errors import ConfigError
    from etl_assets.project.locating import CONTRACT_FILE, PROJECT_VARIABLE, located

    if named is not None:
        folder = Path(named).expanduser().absolute()
        if not (folder / CONTRACT_FILE).is_file():
            raise ConfigError(
                f"{folder} is no project: it has no {CONTRACT_FILE}. Make one with: {command(f'init {named}')}",
                subject=str(folder),
            )
        environment[PROJECT_VARIABLE] = str(folder)
    found = located(environment)
    if found is None:
        return
    if found.parent == Path.cwd() and not environment.get(PROJECT_VARIABLE, "").strip():
        write_error(f"Project: {found.name}, the only one in this folder")
        environment[PROJECT_VARIABLE] = str(found)
    _adopt_instance(found, environment)


def _adopt_instance(folder: Path, environment: MutableMapping[str, str]) -> None:
    from etl_assets.project.locating import declared_settings

    if "dagster_home" not in declared_settings(folder) or environment.get("DAGSTER_HOME", "").strip():
        return
    from etl_assets.project.settings import load_settings

    home = load_settings(environment, folder).dagster_home
    if home is not None:
        environment["DAGSTER_HOME"] = str(home)
