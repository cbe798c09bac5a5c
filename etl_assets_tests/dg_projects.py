"""A `dg` project in the layout of `create-dagster`: a package below `src/`, its `defs/` folder, `[tool.dg]`."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from etl_assets_tests.command_line import environment
from etl_assets_tests.factory import PROJECT_FOLDER

CHECKOUT = Path(__file__).parent.parent
TYPE = "etl_assets.ProfilesComponent"
_DG = Path(sys.executable).with_name("dg")
_PYPROJECT = """
[project]
name = "{name}"
version = "0.1.0"

[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "{name}"

[tool.dg.cli]
suppress_warnings = ["project_and_activated_venv_mismatch"]

[tool.dg.cli.telemetry]
enabled = false
"""
_DEFINITIONS = """
from pathlib import Path

import dagster as dg


@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
# The assets of someone else's.
_OTHER = """
import dagster as dg


@dg.asset
def download_crm() -> None:
    pass


@dg.asset(deps=[dg.AssetKey(["customers", "merged_profiles"])])
def mailing() -> None:
    pass
"""


@dataclass(frozen=True)
class DgProject:
    """Someone's project with two assets of their own; `name` is that of its package."""

    root: Path
    name: str = "shop"

    @property
    def defs(self) -> Path:
        """The folder that `dg` loads."""
        return self.root / "src" / self.name / "defs"

    def add(self, path: str, **attributes: Any) -> Path:
        """Write an instance of the component with the tests' project, below `defs/`; returns its defs.yaml."""
        file = self.defs / path / "defs.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump({"type": TYPE, "attributes": {"project": str(PROJECT_FOLDER), **attributes}}))
        return file

    def load(self) -> dg.Definitions:
        """What Dagster loads; the package must be importable (see `made`)."""
        return dg.load_from_defs_folder(path_within_project=self.defs)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """A command of `dg` in the project."""
        paths = [str(self.root / "src"), str(CHECKOUT), os.environ.get("PYTHONPATH", "")]
        env = environment(PYTHONPATH=os.pathsep.join(paths), **variables)
        return subprocess.run(
            [str(_DG), *arguments], cwd=self.root, env=env, capture_output=True, encoding="utf-8", check=False
        )


def write(root: Path, name: str = "shop") -> DgProject:
    """Write an empty project with two assets to the folder `root`."""
    project = DgProject(root, name)
    project.defs.mkdir(parents=True)
    (root / "pyproject.toml").write_text(_PYPROJECT.format(name=name))
    for folder in (project.defs, project.defs.parent):
        (folder / "__init__.py").touch()
    (project.defs.parent / "definitions.py").write_text(_DEFINITIONS)
    (project.defs / "others.py").write_text(_OTHER)
    return project


def importable(project: DgProject, monkeypatch: pytest.MonkeyPatch) -> DgProject:
    """Let this process import the project's package, until the test ends."""
    monkeypatch.syspath_prepend(str(project.root / "src"))
    for module in [name for name in sys.modules if name.split(".")[0] == project.name]:
        monkeypatch.delitem(sys.modules, module)
    return project


def names(defs: dg.Definitions) -> Mapping[str, list[str]]:
    """The names of jobs, sensors and schedules."""
    repository = defs.get_repository_def()
    return {
        "jobs": sorted(job.name for job in repository.get_all_jobs() if not job.name.startswith("__")),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
        "schedules": sorted(schedule.name for schedule in repository.schedule_defs),
    }
