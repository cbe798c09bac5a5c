"""For Python programs and notebooks: `etl_assets.status` and `etl_assets.open_warehouse`; `run` is in orchestration.

What is passed wins over the environment, which is read and never changed: several projects can be used one after
another in one process.
"""

import uuid
from pathlib import Path

import duckdb

from etl_assets.engine.files.private_folders import private_folder
from etl_assets.engine.published import warehouse
from etl_assets.errors import ConfigError
from etl_assets.pipeline import overview
from etl_assets.pipeline.configuration import project_of, run_limits, site_of
from etl_assets.pipeline.fetching import readable_home
from etl_assets.project.loading import Project, shipped_folder
from etl_assets.project.settings import Settings, load_settings

# A loaded project, its folder, or None for the one that the settings name.
Declared = Project | Path | str | None


def configured(
    project: Declared,
    *,
    sources: Path | str | None = None,
    home: Path | str | None = None,
    num_shards: int | None = None,
) -> tuple[Project, Settings]:
    """The project and its settings: those that are passed, else those of the environment; ConfigError if one is bad."""
    folder = project.folder if isinstance(project, Project) else project
    settings = load_settings(project=folder, sources=sources, home=home, num_shards=num_shards)
    return project if isinstance(project, Project) else project_of(settings), settings


def status(
    project: Declared = None,
    *,
    sources: Path | str | None = None,
    home: Path | str | None = None,
    num_shards: int | None = None,
) -> overview.Facts:
    """The state of sources, shards and warehouse, as `etl-assets status --json` gives it; changes no result.

    The parameters are those of `run`. Raises ConfigError for wrong settings, a wrong project, and folders that cannot
    be read.
    """
    declared, settings = configured(project, sources=sources, home=home, num_shards=num_shards)
    try:
        return overview.collect(site_of(declared, settings), settings)
    except OSError as error:
        raise ConfigError(f"{settings.home} or {settings.sources} cannot be read: {error}") from error


def open_warehouse(home: Path | str | None = None) -> duckdb.DuckDBPyConnection:
    """A read-only DuckDB connection to the published warehouse in `home` (by default that of the settings).

    Its tables are in the current schema: `SELECT … FROM merged_profiles`. The connection sees one publication until it
    is closed, and blocks none: open another one to see the next. It reaches no other file, keeps to `ETL_MEMORY_LIMIT`,
    and is closed by `close()` or by `with`. What it spills goes to a private folder in the system's temporary folder
    and is removed when it is closed. Raises ConfigError when nothing is published, or it cannot be read.
    """
    # A warehouse that is named needs no project: not that of the current folder, which may be another one.
    settings = load_settings(project=None if home is None else shipped_folder(), home=home)
    # DuckDB makes the folder when it spills, with a mode that lets others read, and removes it when the connection is
    # closed. It is not made here: a connection cannot say when it is closed.
    scratch = private_folder() / uuid.uuid4().hex
    return warehouse.connect(readable_home(settings), run_limits(settings), scratch)
