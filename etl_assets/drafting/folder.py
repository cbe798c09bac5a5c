"""A project folder, made whole or not at all: written beside its place under another name, then renamed."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from etl_assets.drafting.draft import Draft
from etl_assets.drafting.naming import snake_case
from etl_assets.drafting.query_text import profiles_text
from etl_assets.drafting.yaml_text import SCHEMA_LINE, SCHEMA_NAME, contract_text
from etl_assets.errors import ConfigError
from etl_assets.project.loading import load_project
from etl_assets.project.locating import CONTRACT_FILE, shipped_folder
from etl_assets.project.schema import SCHEMA_FILE

TEMPLATE = "customer360"
_IGNORED = "data/\n.dagster/\n"
_TEMPLATE_SETTINGS = """
# Folders count from this file's. Environment variables (ETL_SOURCES, ETL_HOME, ...) come before these.
settings:
  sources: data/sources
  home: data
  dagster_home: .dagster
"""
_README = """\
# {name}

A project of [etl_assets]: one profile for each key of the sources in `etl_assets.yaml`, exactly once.

| file | holds |
|---|---|
| `etl_assets.yaml` | the sources, their columns and types, the key, the settings |
| `sql/profiles.sql` | the profile: one SELECT |
| `sql/macros/` | macros for it, one `CREATE MACRO` a file |
| `sql/checks/` | checks of the published warehouse, a SELECT each |

```sh
etl-assets check    # all mistakes, and what a run would do
etl-assets run      # read the exports, build, publish data/warehouse.duckdb
etl-assets query "SELECT * FROM merged_profiles LIMIT 10"
```
"""


def refuse_existing(target: Path) -> None:
    """ConfigError when there is anything in the project's place."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ConfigError(f"{target} exists and is no folder. Choose another name.", subject=str(target))
    if target.is_dir() and any(target.iterdir()):
        raise ConfigError(f"{target} exists and is not empty. Choose another name.", subject=str(target))
    if not target.parent.is_dir():
        raise ConfigError(f"The folder {target.parent} does not exist.", subject=str(target.parent))


def write_draft(target: Path, draft: Draft, exports: Path) -> None:
    """Make the project folder `target` of a draft; ConfigError when something is there."""
    name = project_name(target)
    sources_folder = os.path.relpath(exports.resolve(), target.resolve())
    _write(
        target,
        {
            CONTRACT_FILE: contract_text(draft, name, sources_folder),
            "sql/profiles.sql": profiles_text(draft),
            "README.md": _README.format(name=name),
        },
    )


def write_template(target: Path) -> None:
    """Make the project folder `target` as a copy of the shipped project; ConfigError when something is there."""
    shipped = shipped_folder()
    texts = {
        path.relative_to(shipped).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(shipped.rglob("*"))
        if path.suffix in (".yaml", ".sql", ".md")
    }
    contract = texts[CONTRACT_FILE].replace(f"name: {TEMPLATE}\n", f"name: {project_name(target)}\n", 1)
    _write(target, {**texts, CONTRACT_FILE: SCHEMA_LINE + contract.rstrip("\n") + "\n" + _TEMPLATE_SETTINGS})


def project_name(target: Path) -> str:
    """The project's name, after its folder."""
    return snake_case(target.name, "project")


def _write(target: Path, texts: Mapping[str, str]) -> None:
    refuse_existing(target)
    fixed = {
        ".gitignore": _IGNORED,
        SCHEMA_NAME: SCHEMA_FILE.read_text(encoding="utf-8"),
        "sql/macros/.gitkeep": "",
        "sql/checks/.gitkeep": "",
    }
    with _beside(target) as folder:
        for name, text in {**fixed, **texts}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        # What cannot be loaded is never put in its place.
        load_project(folder)
        try:
            # Takes the place of an empty folder, and of nothing else.
            folder.rename(target)
        except OSError as error:
            raise ConfigError(f"{target} cannot be made: {error.strerror}.", subject=str(target)) from error


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new folder in the target's, removed unless it was renamed."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise ConfigError(f"{target} cannot be made: {error.strerror}.", subject=str(target)) from error
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
