"""The settings that the project ships for clusters, as a user copies them into DAGSTER_HOME."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"


def ray_settings() -> dict[str, Any]:
    """What deploy/ray/dagster.yaml says."""
    settings: dict[str, Any] = yaml.safe_load((DEPLOY / "ray" / "dagster.yaml").read_text())
    return settings


def dagster_home(folder: Path, settings: Mapping[str, Any]) -> Path:
    """A DAGSTER_HOME with these settings."""
    folder.mkdir(parents=True)
    (folder / "dagster.yaml").write_text(yaml.safe_dump(dict(settings)))
    return folder
