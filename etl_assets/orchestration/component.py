"""`etl_assets.ProfilesComponent`: adds an etl_assets project to a `dg` project.

Each instance is a folder below `defs/` with a `defs.yaml`. What that file says wins over the environment, so that
several instances live in one code location, each with a prefix and an `ETL_HOME` of its own. The processes of runs load
the same file again and come to the same settings.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from pydantic import field_validator

from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.orchestration.code_location import build_defs
from etl_assets.project.copying import copy_shipped
from etl_assets.project.loading import load_project
from etl_assets.project.settings import load_settings

# The folder of the project that a scaffold writes, beside its defs.yaml.
_PROJECT = "project"
# The folder below which `dg` looks for components.
_DEFS = "defs"


class ProfilesScaffolder(dg.Scaffolder):
    """Writes an instance that loads as it is: `defs.yaml` (or `component.py`) and a copy of the shipped project."""

    def scaffold(self, request: dg.ScaffoldRequest) -> None:
        """Called by `dg scaffold defs etl_assets.ProfilesComponent NAME`, with a folder that is new."""
        folder = request.target_path.parent if request.append else request.target_path
        prefix = _prefix_of(folder)
        copy_shipped(folder / _PROJECT)
        if request.scaffold_format == "python":
            (folder / "component.py").write_text(_PYTHON.format(**_filled(prefix)), encoding="utf-8")
            return
        text = _YAML.format(type=request.type_name, **_filled(prefix))
        if request.append:
            text = f"{request.target_path.read_text(encoding='utf-8').rstrip()}\n---\n{text}"
        (request.target_path if request.append else folder / "defs.yaml").write_text(text, encoding="utf-8")


def _prefix_of(folder: Path) -> list[str]:
    """The folders below `defs/` that lead to this one: two instances cannot have the same."""
    parts = folder.parts
    below = parts[len(parts) - parts[::-1].index(_DEFS) :] if _DEFS in parts else ()
    return list(below or parts[-1:])


def _filled(prefix: Sequence[str]) -> dict[str, str]:
    return {"home": "/".join(["data", *prefix]), "prefix": ", ".join(f'"{part}"' for part in prefix)}


_YAML = """\
type: {type}

attributes:
  # The sources, the profile and its SQL: edit them.
  project: project
  # Your exports, and what the pipeline makes of them: the result is warehouse.duckdb. From the root of the dg project.
  sources: {home}/sources
  home: {home}
  key_prefix: [{prefix}]
"""
_PYTHON = """\
import dagster as dg

from etl_assets import ProfilesComponent


@dg.component_instance
def load(context: dg.ComponentLoadContext) -> ProfilesComponent:
    return ProfilesComponent(project="project", sources="{home}/sources", home="{home}", key_prefix=[{prefix}])
"""


def _field(description: str, example: object) -> dg.Resolver:
    """What `dg` and editors show of a field: Dagster drops the description of a pydantic field that has a default."""
    resolver: dg.Resolver = dg.Resolver.default(description=description, examples=[example])
    return resolver


@dg.scaffold_with(ProfilesScaffolder)
class ProfilesComponent(dg.Component, dg.Model, dg.Resolvable):
    """One profile for each key of several systems, exactly once, from a project folder of YAML and SQL.

    Gives an asset for each source, the partitioned asset `shard_profiles`, the asset `merged_profiles`, their checks,
    two jobs, three sensors and a schedule. Several instances fit into one project if each has a `key_prefix` and a
    `home` of its own. What is not set here comes from the environment (`ETL_WORKERS` and the others), else from the
    project's file.
    """

    project: Annotated[
        str, _field("Folder of the project (etl_assets.yaml, sql/), relative to the folder of this file.", "project")
    ] = "."
    home: Annotated[
        str,
        _field(
            "Folder of everything the pipeline makes, relative to the dg project; of this instance alone.",
            "data/customers",
        ),
    ]
    sources: Annotated[
        str | None,
        _field(
            "Folder of the exports, relative to the dg project; by default the one in ETL_SOURCES.",
            "data/customers/sources",
        ),
    ] = None
    key_prefix: Annotated[
        Sequence[str],
        _field(
            "Comes before every asset key and into the name of every job, sensor and schedule: a list, or a text like "
            "emea/customers.",
            ["customers"],
        ),
    ] = ()
    owners: Annotated[
        Sequence[str], _field("Owners of every asset: team:data or an e-mail address.", ["team:data"])
    ] = ()
    num_shards: Annotated[
        int | None, _field("Number of shards, which are the partitions; by default that in ETL_NUM_SHARDS.", 20)
    ] = None
    max_reject_ratio: Annotated[
        float | None,
        _field(
            "Largest share of a source's rows that may break the contract; by default that in ETL_MAX_REJECT_RATIO.",
            0.05,
        ),
    ] = None
    max_superseded_ratio: Annotated[
        float | None,
        _field(
            "Largest share of a source's rows that may have the key of another row of their file; by default that in "
            "ETL_MAX_SUPERSEDED_RATIO.",
            0.5,
        ),
    ] = None
    min_rows_ratio: Annotated[
        float | None,
        _field(
            "Share of the last publication's rows below which a source or the result is refused; by default that in "
            "ETL_MIN_ROWS_RATIO.",
            0.5,
        ),
    ] = None
    workers: Annotated[
        int | None, _field("Sources or shards worked on at once in one run; by default that in ETL_WORKERS.", 4)
    ] = None
    memory_limit: Annotated[
        str | None, _field("DuckDB's memory for one run; by default that in ETL_MEMORY_LIMIT.", "2GB")
    ] = None
    shard_timeout_s: Annotated[
        int | None,
        _field(
            "Seconds after which an attempt at a shard is interrupted; by default those in ETL_SHARD_TIMEOUT_S.", 1800
        ),
    ] = None
    source_timeout_s: Annotated[
        int | None,
        _field("Seconds after which reading a source is interrupted; by default those in ETL_SOURCE_TIMEOUT_S.", 3600),
    ] = None
    max_unpacked: Annotated[
        str | None,
        _field("What one packed or Parquet file may unpack to; by default that in ETL_MAX_UNPACKED.", "16GB"),
    ] = None

    @field_validator("key_prefix", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """Dagster writes a key as one text, too."""
        return value.split("/") if isinstance(value, str) else value

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of this instance; ConfigError for wrong settings, a wrong project or a shared `home`.

        They leave the executor to the dg project. Their jobs run in the process of their run in any case.
        """
        self._refuse_shared_home(context)
        changes = self._settings(context)
        return build_defs(
            load_project(changes["project"]),
            settings=load_settings(**changes),
            key_prefix=self.key_prefix,
            owners=self.owners,
            executor=None,
        )

    def _settings(self, context: dg.ComponentLoadContext) -> Mapping[str, Any]:
        # An instance in Python is a file.
        folder = context.path if context.path.is_dir() else context.path.parent
        return {
            "project": folder / Path(self.project).expanduser(),
            "sources": None if self.sources is None else context.project_root / Path(self.sources).expanduser(),
            "home": self._home(context),
            "num_shards": self.num_shards,
            "max_reject_ratio": self.max_reject_ratio,
            "max_superseded_ratio": self.max_superseded_ratio,
            "min_rows_ratio": self.min_rows_ratio,
            "workers": self.workers,
            "memory_limit": self.memory_limit,
            "shard_timeout_s": self.shard_timeout_s,
            "source_timeout_s": self.source_timeout_s,
            "max_unpacked": self.max_unpacked,
        }

    def _home(self, context: dg.ComponentLoadContext) -> Path:
        return (context.project_root / Path(self.home).expanduser()).resolve()

    def _refuse_shared_home(self, context: dg.ComponentLoadContext) -> None:
        """Two pipelines in one ETL_HOME would make each other's shards stale, for ever."""
        if context.component_decl.loc != context.component_loc:
            return  # made by dg.build_defs_for_component, outside of a dg project
        home = self._home(context)
        found = context.component_tree.get_all_components(of_type=ProfilesComponent)
        sharing = ["/".join(one.key_prefix) or "(none)" for one in found if one._home(context) == home]
        if len(sharing) > 1:
            raise ConfigError(
                f"{len(sharing)} instances of etl_assets.ProfilesComponent have the home {home}: those with the "
                f"key_prefix {', '.join(sorted(sharing))}. Each needs one of its own.",
                Advice(Action.EDIT, value="home: in all but one defs.yaml"),
                subject=str(home),
            )
