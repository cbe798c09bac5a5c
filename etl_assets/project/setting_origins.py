"""Where the value of a setting comes from, for messages that show it."""

import os
from collections.abc import Mapping

from etl_assets.project.locating import located
from etl_assets.project.settings import declared_in, variable


def origin(name: str, environment: Mapping[str, str] | None = None) -> str:
    """Its environment variable, the project's file, or that it is the default."""
    env = os.environ if environment is None else environment
    if env.get(variable(name), "").strip():
        return variable(name)
    folder = located(env)
    return f"settings of {folder}" if folder and name in declared_in(folder) else "the default"
