"""The settings of a run: environment over the project's file over defaults; the only place that knows `ETL_*` names.

One class gives the values, the messages, the table of the documentation and the help texts. Reading settings changes
nothing: faults are armed by the process that wants them. Values are read when asked for, not at import.
"""

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.project.locating import declared_settings, located
from etl_assets.project.setting_sources import DeclaredSource, EnvironmentSource
from etl_assets.project.setting_types import Exports, Folder, Lake, Megabytes, Share, Whole, has_url, places_of, setting

PREFIX = "ETL_"
# Variables between the package's own processes; they are not settings.
_INTERNAL = "ETL_ASSETS_"
MAX_SHARDS = 1000
MAX_WORKERS = 64
MIN_MEMORY_MB = 64
MAX_KEPT = 100
_WEEK_S = 7 * 24 * 3600
# Settings that a project's file may have under `settings:`; the others belong to a machine or a moment.
_FOLDERS = ("sources", "home", "dagster_home")
DECLARABLE = (
    *_FOLDERS,
    *("lake", "num_shards", "max_reject_ratio", "max_superseded_ratio", "min_rows_ratio", "workers", "memory_limit"),
    *("shard_timeout_s", "source_timeout_s", "max_unpacked", "keep_warehouses"),
)
# Values that work, where the default is none or depends on the machine.
_EXAMPLES = {"lake": "s3://bucket/prefix", "workers": str(min(os.cpu_count() or 1, 8))}


class Settings(BaseSettings):
    """The configuration of one run of the pipeline."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", env_ignore_empty=True)

    project: Folder | None = setting(
        "folder of your own project; without one, the nearest folder upwards that holds one, else the only one in the "
        "current folder, else the shipped customer 360",
        "a folder",
        "not set",
        default=None,
    )
    sources: Exports = setting(
        "folder of the exports; only read. One in an object store, such as `s3://bucket/exports`, and several places, "
        "such as `s3://bucket/exports,/data/exports`, are copied to `ETL_HOME/exports` (extra `etl_assets[lake]`)",
        "a folder, or URLs of plain characters (s3://bucket/prefix, gs://, az://), with commas between several places",
        "data/sources",
        default="data/sources",
        validate_default=True,
    )
    home: Folder = setting(
        "folder of everything the pipeline makes", "a folder", "data", default="data", validate_default=True
    )
    lake: Lake | None = setting(
        "object store that holds shards and result as a Delta table, instead of `ETL_HOME`, which is scratch then; "
        "needs the extra `etl_assets[lake]`",
        "a URL of plain characters like s3://bucket/prefix, gs://bucket/prefix, az://container/prefix or file:///folder",
        "not set",
        default=None,
    )
    num_shards: Whole = setting(
        "number of shards; another number needs `etl-assets run --force` or another `ETL_HOME`",
        f"a whole number from 1 to {MAX_SHARDS}",
        "10",
        default=10,
        ge=1,
        le=MAX_SHARDS,
    )
    max_reject_ratio: Share = setting(
        "largest share of a source's rows that may break the contract; `superseded` rows do not count",
        "a share from 0 to 1",
        "0.05",
        default=0.05,
        ge=0,
        le=1,
    )
    max_superseded_ratio: Share = setting(
        "largest share of a source's rows that repeat a key of their file; not with `latest_by` or `rows: many`",
        "a share from 0 to 1",
        "0.5",
        default=0.5,
        ge=0,
        le=1,
    )
    min_rows_ratio: Share = setting(
        "least share of the last publication's rows; a source with fewer is refused, and a result with fewer profiles; "
        "0 accepts any, `etl-assets run --accept-shrunk` does this once",
        "a share from 0 to 1",
        "0.5",
        default=0.5,
        ge=0,
        le=1,
    )
    workers: Whole = setting(
        "sources or shards worked on at once in a run, and threads of the merge and of shards too large to share the "
        "memory",
        f"a whole number from 1 to {MAX_WORKERS}",
        "number of cores, at most 8",
        default_factory=lambda: min(os.cpu_count() or 1, 8),
        ge=1,
        le=MAX_WORKERS,
    )
    # Ten million customers in ten shards are built almost without spilling, in a process of less than 1 GB.
    memory_limit: Megabytes = setting(
        "DuckDB's memory for one run, divided among what is worked on at once",
        f"a size of at least {MIN_MEMORY_MB}MB like 512MB or 2GB",
        "700MB",
        default=700,
        ge=MIN_MEMORY_MB,
    )
    # Ten times what a shard of ten million customers takes; a hung disk or network is noticed within the hour.
    shard_timeout_s: Whole = setting(
        "seconds after which an attempt at a shard is ended and retried; 0 for no limit",
        f"a whole number from 0 to {_WEEK_S}",
        "1800",
        default=1800,
        ge=0,
        le=_WEEK_S,
    )
    # A hundred times what an export of a million rows takes.
    source_timeout_s: Whole = setting(
        "seconds after which reading a source is interrupted and retried; 0 for no limit",
        f"a whole number from 0 to {_WEEK_S}",
        "3600",
        default=3600,
        ge=0,
        le=_WEEK_S,
    )
    # A hundred million rows, and what the unpacked copy may take of the disk while it is read.
    max_unpacked: Megabytes = setting(
        "what one packed or Parquet file may unpack to; a larger one is refused before it fills the disk",
        f"a size of at least {MIN_MEMORY_MB}MB like 512MB or 2GB",
        "16384MB",
        default=16 * 1024,
        ge=MIN_MEMORY_MB,
    )
    keep_warehouses: Whole = setting(
        "warehouses that stay after they were replaced, for `etl-assets restore`; for 30 days at most, 0 for none",
        f"a whole number from 0 to {MAX_KEPT}",
        "3",
        default=3,
        ge=0,
        le=MAX_KEPT,
    )
    dagster_home: Folder | None = setting(
        "folder of the Dagster instance; a new or empty one is set up with the shipped `dagster.yaml`, settings in it "
        "are left alone",
        "a folder",
        ".dagster",
        default=None,
        validation_alias="DAGSTER_HOME",
    )
    fault: str = setting(
        "breaks something on purpose (`etl_assets/engine/faults.py`); refused with `ETL_ENV=production`",
        "POINT ACTION [shard=…] [attempts=…]",
        "not set",
        default="",
    )
    chaos_fail_shard: str = setting(
        "number of a shard whose first attempt fails on purpose",
        "the number of a shard",
        "not set",
        default="",
        validation_alias="CHAOS_FAIL_SHARD",
    )
    env: str = setting("`production` refuses faults", "any word", "not set", default="")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Values that are passed, the environment, the project's file: no .env file, no secrets folder."""
        return init_settings, EnvironmentSource(settings_cls), DeclaredSource(settings_cls)

    @property
    def is_production(self) -> bool:
        """Whether faults must be refused."""
        return self.env.strip().lower() == "production"


def load_settings(
    environment: Mapping[str, str] | None = None, project: Path | str | None = None, **changes: Any
) -> Settings:
    """Read the environment (default: this process's), and the file of `project` (default: the one that it leads to).

    `changes` are settings by their names, which win over the environment; those that are None are left to it.
    ConfigError lists every variable and change that is wrong: its name, what was expected and what was found; and one
    that looks like a misspelt name of a setting.
    """
    env = os.environ if environment is None else environment
    passed = {name: value for name, value in {**changes, "project": project}.items() if value is not None}
    wrong = _misspelt(env)
    folder = Path(project) if project is not None else located(env)
    EnvironmentSource.variables, DeclaredSource.values = env, declared_in(folder) if folder else {}
    try:
        settings = Settings(**passed)
    except ValidationError as error:
        fields = dict.fromkeys(_field_of(str(one["loc"][0])) for one in error.errors())
        raise _refusal([*wrong, *(_wrong_value(name, env, passed) for name in fields)]) from error
    finally:
        EnvironmentSource.variables, DeclaredSource.values = None, {}
    if wrong:
        raise _refusal(wrong)
    return settings


def misdeclared(entries: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and fault of each entry of a project's `settings:` that is none."""
    return [(name, fault) for name, value in entries.items() if (fault := _fault(name, value))]


def _fault(name: str, value: Any) -> str | None:
    if name not in DECLARABLE:
        close = difflib.get_close_matches(name, DECLARABLE, n=1)
        return (
            f"unknown word; did you mean '{close[0]}'?" if close else f"unknown word; known are {', '.join(DECLARABLE)}"
        )
    field = Settings.model_fields[name]
    try:
        # Pydantic takes true for 1.
        if isinstance(value, bool):
            raise ValueError
        form: Any = Annotated[field.annotation, Field(), *field.metadata]
        TypeAdapter(form).validate_python(value)
    except ValueError:
        return f"expected {_extra(field)['expected']}, found {value!r}"
    return None


def declared_in(folder: Path) -> dict[str, Any]:
    """The sound settings in a project's file, folders as absolute paths; the loading of the file reports the others."""
    entries = {name: value for name, value in declared_settings(folder).items() if _fault(name, value) is None}
    return {name: _absolute(folder, value) if name in _FOLDERS else value for name, value in entries.items()}


def _absolute(folder: Path, value: str) -> Path | str:
    """A folder that is written as from the project's; the URL of one stays, also among folders."""
    if has_url(value):
        return ",".join(one if has_url(one) else str(_absolute(folder, one)) for one in places_of(value))
    # Without `..`, so that messages name the folder as a person would.
    return Path(os.path.normpath(folder.absolute() / Path(value).expanduser()))


@dataclass(frozen=True)
class _Wrong:
    """One variable that is wrong, why, and what helps."""

    variable: str
    finding: str
    advice: tuple[Advice, ...]


def _refusal(wrong: Sequence[_Wrong]) -> ConfigError:
    advice = [one for each in wrong for one in each.advice]
    return ConfigError("\n".join(each.finding for each in wrong), *advice, subject=wrong[0].variable)


def _wrong_value(name: str, environment: Mapping[str, str], passed: Mapping[str, Any]) -> _Wrong:
    expected = _extra(Settings.model_fields[name])["expected"]
    # The person who passed a value knows the setting by this name.
    shown = name if name in passed else variable(name)
    found = passed[name] if name in passed else environment.get(shown, "").strip()
    return _Wrong(shown, f"{shown} must be {expected}, found {found!r}.", (Advice(Action.SET, shown, _example(name)),))


def _misspelt(environment: Mapping[str, str]) -> list[_Wrong]:
    """Names that are no settings and look like one."""
    known = [variable(name) for name in Settings.model_fields]
    nearest = {name: difflib.get_close_matches(name, known, n=1, cutoff=0.8) for name in unknown_variables(environment)}
    return [
        _Wrong(
            name,
            f"{name} is set, and there is no such setting: did you mean {close[0]}?",
            (Advice(Action.UNSET, name), Advice(Action.SET, close[0], environment[name])),
        )
        for name, close in nearest.items()
        if close
    ]


def variable(name: str) -> str:
    """The environment variable of a setting."""
    alias = Settings.model_fields[name].validation_alias
    return str(alias) if alias else f"{PREFIX}{name.upper()}"


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """Names that begin as settings do and are none, in name order."""
    known = {variable(name) for name in Settings.model_fields}
    return sorted(
        name for name in environment if name.startswith(PREFIX) and not name.startswith(_INTERNAL) and name not in known
    )


def table() -> list[tuple[str, str, str]]:
    """Variable, default and meaning of every setting, for documentation and help."""
    fields = Settings.model_fields
    return [(variable(name), _extra(field)["shown"], field.description or "") for name, field in fields.items()]


def _field_of(location: str) -> str:
    """The setting that pydantic speaks of, by its field or its alias."""
    return next(name for name in Settings.model_fields if location.lower() in (name, variable(name).lower()))


def _example(name: str) -> str:
    """A value that works."""
    return _EXAMPLES.get(name) or _extra(Settings.model_fields[name])["shown"]


def _extra(field: FieldInfo) -> dict[str, str]:
    extra = field.json_schema_extra
    assert isinstance(extra, dict), "every field is made by `setting`"
    return {name: str(value) for name, value in extra.items()}
