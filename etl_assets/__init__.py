"""One profile for each customer of several systems, exactly once: a Dagster pipeline on DuckDB.

    import etl_assets

    report = etl_assets.run("my360", sources="exports", home="data")
    with etl_assets.open_warehouse("data") as warehouse:
        warehouse.sql("SELECT * FROM merged_profiles LIMIT 10").show()

In Dagster, `build_defs(load_project("my360"))` gives the definitions, and `ProfilesComponent` is a component for `dg`.
Names are imported when they are first used: reading a project needs neither Dagster nor DuckDB.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etl_assets.errors import ConfigError, EtlError, InputError
    from etl_assets.orchestration.code_location import build_defs
    from etl_assets.orchestration.component import ProfilesComponent
    from etl_assets.orchestration.launching import run
    from etl_assets.pipeline.embedding import open_warehouse, status
    from etl_assets.pipeline.overview import Facts
    from etl_assets.pipeline.report import Report
    from etl_assets.project.contract import Column, Contract, Source
    from etl_assets.project.loading import Project, load_project

__all__ = [
    "Column",
    "ConfigError",
    "Contract",
    "EtlError",
    "Facts",
    "InputError",
    "ProfilesComponent",
    "Project",
    "Report",
    "Source",
    "build_defs",
    "load_project",
    "open_warehouse",
    "run",
    "status",
]

_HOMES = {
    "Column": "etl_assets.project.contract",
    "ConfigError": "etl_assets.errors",
    "Contract": "etl_assets.project.contract",
    "EtlError": "etl_assets.errors",
    "Facts": "etl_assets.pipeline.overview",
    "InputError": "etl_assets.errors",
    "ProfilesComponent": "etl_assets.orchestration.component",
    "Project": "etl_assets.project.loading",
    "Report": "etl_assets.pipeline.report",
    "Source": "etl_assets.project.contract",
    "build_defs": "etl_assets.orchestration.code_location",
    "load_project": "etl_assets.project.loading",
    "open_warehouse": "etl_assets.pipeline.embedding",
    "run": "etl_assets.orchestration.launching",
    "status": "etl_assets.pipeline.embedding",
}


def __getattr__(name: str) -> object:
    """Import a public name on its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'etl_assets' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """The public names too: `dg` looks here for components, and editors for what to complete."""
    return sorted({*globals(), *__all__})
