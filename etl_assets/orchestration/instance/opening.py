"""Opens the Dagster instance in a folder, with the settings in that folder's dagster.yaml.

Dagster reads the path of dagster.yaml as a glob pattern. Where the folder is called `etl [prod]`, the pattern matches
nothing, and the instance silently runs with Dagster's defaults: telemetry on, no monitoring, no retries of killed runs.

Telemetry is off unless dagster.yaml switches it on. Dagster by itself sends usage statistics where a folder has no
dagster.yaml, or one that does not mention them.
"""

import glob
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
from dagster._core.instance import config as instance_config
from dagster._core.instance.ref import InstanceRef
from dagster_shared.yaml_utils import load_yaml_from_globs

from etl_assets.orchestration.instance.databases import reuse_engines_and_migrations

# Dagster would redirect the process's stdout and stderr to a file while a step runs, and print the file from two more
# processes. The progress board would stand still, and Ctrl-C would print the tracebacks of these processes. The steps
# print nothing; their log is in the event log. The engine's warnings go to stderr, where the person is who started it.
_ON_TERMINAL: Mapping[str, object] = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"},
    "python_logs": {"managed_python_loggers": []},
}
_NO_TELEMETRY: Mapping[object, object] = {"telemetry": {"enabled": False}}


def read_paths_literally() -> None:
    """Make this process read dagster.yaml from any path, with telemetry off where the file does not mention it.

    The process passes the settings on to the processes it starts.
    """
    instance_config.load_yaml_from_globs = _load_yaml_from_paths  # type: ignore[attr-defined, assignment]


def _load_yaml_from_paths(*paths: str) -> Mapping[object, object]:
    settings = load_yaml_from_globs(*(glob.escape(path) for path in paths))
    return {**_NO_TELEMETRY, **(settings or {})}


def open_instance(home: Path) -> dg.DagsterInstance:
    """The instance in this folder, for runs in this process; close it by leaving its context.

    Raises sqlalchemy's OperationalError when the databases cannot be written, dg.DagsterInvalidConfigError for a
    dagster.yaml with wrong settings.
    """
    read_paths_literally()
    reuse_engines_and_migrations()
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_ON_TERMINAL))
