"""Finds the folder of a project and reads the settings in its file. `loading` checks the file."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from etl_assets.errors import Action, Advice, ConfigError

CONTRACT_FILE = "etl_assets.yaml"
PROJECT_VARIABLE = "ETL_PROJECT"
_SHIPPED = "customer360"
# The one in C, where PyYAML was built with it, takes a tenth of the time; both are safe.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def find_project(start: Path) -> Path | None:
    """The nearest folder, from `start` upwards, that holds a project; else the only one right below `start`.

    None when there is none. ConfigError when several folders below hold one: a guess would run the wrong project.
    """
    upwards = next((folder for folder in (start, *start.parents) if _has_project(folder)), None)
    return upwards or _only_below(start)


def _only_below(start: Path) -> Path | None:
    found = sorted(path.parent for path in start.glob(f"*/{CONTRACT_FILE}") if not path.parent.name.startswith("."))
    if len(found) > 1:
        names = ", ".join(folder.name for folder in found)
        raise ConfigError(
            f"Several projects are in {start}: {names}. Choose one of them: go into its folder, or name it.",
            Advice(Action.SET, PROJECT_VARIABLE, found[0].name),
            subject=str(start),
        )
    return found[0] if found else None


def _has_project(folder: Path) -> bool:
    return (folder / CONTRACT_FILE).is_file()


def shipped_folder() -> Path:
    """The folder of the shipped project."""
    return Path(str(resources.files("etl_assets.project"))) / _SHIPPED


def located(environment: Mapping[str, str]) -> Path | None:
    """The folder of the project that these variables name, else the nearest one; None for the shipped project."""
    named = environment.get(PROJECT_VARIABLE, "").strip()
    return Path(named).expanduser().absolute() if named else find_project(Path.cwd())


def declared_settings(folder: Path) -> dict[str, Any]:
    """The entries of `settings:` in the project's file; none where they cannot be read, which `loading` reports."""
    try:
        # Most files have no settings, and are not parsed twice.
        text = (folder / CONTRACT_FILE).read_text(encoding="utf-8")
        value = yaml.load(text, Loader) if "settings" in text else None
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    found = value.get("settings") if isinstance(value, dict) else None
    return {str(name): entry for name, entry in found.items()} if isinstance(found, dict) else {}
