"""One profile for each customer of several systems, exactly once: a Dagster pipeline on DuckDB.

    from etl_assets import build_defs, load_project

    defs = build_defs(load_project("my360"), key_prefix=["my360"], owners=["team:data"])

Names are imported when they are first used: reading a project needs neither Dagster nor DuckDB.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etl_assets.orchestration.code_location import build_defs
    from etl_assets.project.contract import Column, Contract, Source
    from etl_assets.project.loading import Project, load_project

__all__ = ["Column", "Contract", "Project", "Source", "build_defs", "load_project"]

_HOMES = {
    "Column": "etl_assets.project.contract",
    "Contract": "etl_assets.project.contract",
    "Project": "etl_assets.project.loading",
    "Source": "etl_assets.project.contract",
    "build_defs": "etl_assets.orchestration.code_location",
    "load_project": "etl_assets.project.loading",
}


def __getattr__(name: str) -> object:
    """Import a public name on its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'etl_assets' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
