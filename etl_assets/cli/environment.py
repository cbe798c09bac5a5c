"""The environment variables: their part of `--help`, and a warning about those that are no setting.

`--help` must not wait for pydantic, so the text is kept here; a test holds it against `settings.table()`.
"""

import os
from collections.abc import Mapping

from etl_assets.cli.output import write_error
from etl_assets.cli.wording import command

HELP = """\
environment:
  ETL_PROJECT           folder of your own project
  ETL_SOURCES           folder of the exports (data/sources)
  ETL_HOME              folder of everything the pipeline makes (data)
  ETL_NUM_SHARDS        number of shards (10)
  ETL_MAX_REJECT_RATIO  largest share of a source's rows that may break the contract (0.05)
  ETL_WORKERS           sources or shards worked on at once in one run (number of cores, at most 8)
  ETL_MEMORY_LIMIT      DuckDB's memory for one run (700MB)
  ETL_SHARD_TIMEOUT_S   seconds after which an attempt at a shard is interrupted and retried (1800)
  ETL_SOURCE_TIMEOUT_S  seconds after which the reading of a source is interrupted and retried (3600)
  ETL_MAX_UNPACKED      what one .csv.gz or Parquet file may unpack to (16384MB)
  DAGSTER_HOME          folder of the Dagster instance (.dagster)
  ETL_FAULT             breaks something on purpose (etl_assets/engine/faults.py)
  CHAOS_FAIL_SHARD      number of a shard whose first attempt fails on purpose
  ETL_ENV               production refuses faults
"""


def warn_of_unknown(environment: Mapping[str, str] = os.environ) -> None:
    """One line on stderr with the names that begin as settings do and are none; a run would ignore them in silence."""
    from etl_assets.project.settings import unknown_variables

    names = unknown_variables(environment)
    if names:
        what = "is no setting and has" if len(names) == 1 else "are no settings and have"
        write_error(f"warning: {', '.join(names)} {what} no effect. The settings: {command('--help')}")
