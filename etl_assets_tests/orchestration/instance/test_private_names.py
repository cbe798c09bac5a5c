"""What this project uses of Dagster's private modules: where, and that Dagster still has it.

Dagster changes these names without notice. A test that fails here says what the next version of Dagster has changed,
and which module of ours to look at.
"""

import ast
import importlib
import inspect
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_webserver.app
import pytest
from dagster._cli.dev import dev_command_impl
from dagster._core.storage import tags as dagster_tags

from etl_assets.orchestration.instance import dev, launcher, opening, origin, tags
from etl_assets.orchestration.instance.job_type import AssetJob

PACKAGE = Path(tags.__file__).parents[2]
INSTANCE = Path(tags.__file__).parent
# Each private name, the parameters that are passed to it, and the members that are used of it.
USED: dict[str, tuple[list[str], list[str]]] = {
    # A command of click; `callback` is the function.
    "dagster._cli.api.execute_run_command": ([], ["callback"]),
    "dagster._cli.dev": ([], ["ProxyServerManager", "open_ipc_subprocess"]),
    "dagster._cli.main": ([], []),
    "dagster._cli.proxy_server_manager.ProxyServerManager": (
        [],
        ["__exit__", "_initialize_endpoints", "_process_monitoring_thread", "get_code_server_specs"],
    ),
    "dagster._core.definitions.repository_definition.SINGLETON_REPOSITORY_NAME": ([], []),
    "dagster._core.definitions.unresolved_asset_job_definition.UnresolvedAssetJobDefinition": ([], []),
    "dagster._core.errors.DagsterUserCodeUnreachableError": ([], []),
    "dagster._core.instance.config": ([], ["load_yaml_from_globs"]),
    "dagster._core.instance.ref.InstanceRef": ([], ["from_dir"]),
    "dagster._core.launcher.CheckRunHealthResult": (["status", "msg"], []),
    "dagster._core.launcher.DefaultRunLauncher": (
        [],
        [
            "_instance",
            "check_run_worker_health",
            "launch_run",
            "register_instance",
            "supports_check_run_worker_health",
            "terminate",
        ],
    ),
    "dagster._core.launcher.LaunchRunContext": ([], ["dagster_run", "workspace"]),
    "dagster._core.launcher.WorkerStatus": ([], ["NOT_FOUND", "RUNNING"]),
    "dagster._core.run_coordinator.QueuedRunCoordinator": (
        ["max_concurrent_runs"],
        ["_instance", "dequeue_interval_seconds", "get_run_queue_config"],
    ),
    "dagster._core.run_coordinator.queued_run_coordinator.RunQueueConfig": ([], ["max_concurrent_runs"]),
    "dagster._core.storage.event_log.sqlite.sqlite_event_log": ([], ["create_engine"]),
    "dagster._core.storage.runs.sqlite.sqlite_run_storage": ([], ["create_engine"]),
    "dagster._core.storage.schedules.sqlite.sqlite_schedule_storage": ([], ["create_engine"]),
    "dagster._core.storage.sql.get_alembic_config": (["dunder_file"], []),
    "dagster._core.storage.tags.PARTITION_NAME_TAG": ([], []),
    # Dagster's records take the signature of their fields at the first call only; job_origin() is called below.
    "dagster._core.remote_origin.RegisteredCodeLocationOrigin": ([], []),
    "dagster._core.remote_origin.RemoteJobOrigin": ([], []),
    "dagster._core.remote_origin.RemoteRepositoryOrigin": ([], ["get_job_origin"]),
    "dagster._core.remote_representation.code_location.GrpcServerCodeLocation": ([], ["client"]),
    "dagster._grpc.client.DagsterGrpcClient": (["socket"], ["host", "ping", "socket"]),
    "dagster._grpc.types.ExecuteRunArgs": (["job_origin", "run_id", "instance_ref"], []),
    "dagster._grpc.server.GrpcServerProcess": ([], ["create_client", "server_process"]),
    "dagster_shared.ipc.open_ipc_subprocess": (["parts"], []),
    "dagster_shared.serdes.serialize_value": ([], []),
    "dagster_shared.yaml_utils.load_yaml_from_globs": (["globs"], []),
    "dagster_webserver.app": ([], ["DagsterWebserver"]),
    "dagster_webserver.cli.main": ([], []),
    "dagster_webserver.webserver.DagsterWebserver": ([], ["build_middleware"]),
}


def _private_imports(path: Path) -> Iterator[str]:
    """The names that a module imports from modules of Dagster that are not public."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, *rest = name.split(".")
            if package in ("dagster_shared", "dagster_webserver", "dagster_graphql") or (
                package == "dagster" and any(part.startswith("_") for part in rest)
            ):
                yield name


def _found(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    try:
        return importlib.import_module(name)
    except ImportError:
        return getattr(importlib.import_module(module), attribute)


def test_private_modules_are_imported_in_one_folder_only() -> None:
    elsewhere = {
        str(path.relative_to(PACKAGE)): names
        for path in PACKAGE.rglob("*.py")
        if INSTANCE not in path.parents and (names := list(_private_imports(path)))
    }
    assert elsewhere == {}, "import these from a module in orchestration/instance/"


def test_every_private_name_is_in_the_table_above() -> None:
    assert {name for path in INSTANCE.glob("*.py") for name in _private_imports(path)} == set(USED)


@pytest.mark.parametrize("name", USED)
def test_dagster_still_has_what_is_used_of(name: str) -> None:
    parameters, members = USED[name]
    users = [path.name for path in INSTANCE.glob("*.py") if name in _private_imports(path)]
    where = f"Dagster {dg.__version__} has changed {name}, which {', '.join(users)} uses"
    try:
        found = _found(name)
    except (ImportError, AttributeError) as error:
        pytest.fail(f"{where}: {error}")
    missing = [member for member in members if not hasattr(found, member) and member not in _assigned(found)]
    assert not missing, f"{where}: no {', '.join(missing)}"
    unknown = set(parameters) - inspect.signature(found).parameters.keys() if parameters else set()
    assert not unknown, f"{where}: no parameter {', '.join(unknown)}"


def _assigned(found: type) -> set[str]:
    """The attributes that the class and its bases assign to an object."""
    sources = [inspect.getsource(base) for base in found.__mro__ if base.__module__.startswith("dagster")]
    nodes = [node for source in sources for node in ast.walk(ast.parse(textwrap.dedent(source)))]
    return {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}


def test_an_asset_job_has_the_type_of_its_alias() -> None:
    assert type(dg.define_asset_job("job")) is AssetJob


def test_a_run_can_be_created_with_an_origin() -> None:
    parameters = inspect.signature(dg.DagsterInstance.create_run_for_job).parameters
    assert "remote_job_origin" in parameters, "orchestration/instance/origin.py passes it"


def test_an_origin_has_the_names_of_the_location_and_of_a_repository_without_a_name() -> None:
    made = origin.job_origin("job")
    assert (made.location_name, made.job_name) == (origin.LOCATION_NAME, "job")
    assert made.repository_origin.repository_name == dg.Definitions().get_repository_def().name


@pytest.mark.parametrize(
    ("ours", "dagsters"), [(tags.MAX_RETRIES_TAG, "MAX_RETRIES_TAG"), (launcher.SERVER_TAG, "GRPC_INFO_TAG")]
)
def test_tags_are_named_as_dagster_names_them(ours: str, dagsters: str) -> None:
    assert ours == getattr(dagster_tags, dagsters)


def test_dagster_dev_logs_a_crash_in_these_words() -> None:
    """Fails: `etl-assets ui` ends with 0 and without a word after one of its processes was killed."""
    assert f'logger.exception("{dev._CRASHED}")' in inspect.getsource(dev_command_impl)


def test_dagster_dev_starts_its_webserver_in_this_way() -> None:
    """Fails: `etl-assets ui` serves the plain webserver, which obeys every web page that the operator visits."""
    words = json.dumps(dev._PLAIN_WEBSERVER)[1:-1]
    assert f"open_ipc_subprocess(\n                [sys.executable, {words}]" in inspect.getsource(dev_command_impl)


@pytest.mark.parametrize(
    "words", [["-m", "dagster_webserver.cli"], ["-I", "-m", "dagster_webserver"], ["/usr/bin/dagster-webserver"]]
)
def test_a_webserver_that_is_started_in_another_way_is_not_started(words: list[str]) -> None:
    with pytest.raises(RuntimeError, match="the guard"):
        dev._open_subprocess([sys.executable, *words, "--port", "0"])


def test_dagsters_webserver_looks_its_class_up_when_it_starts() -> None:
    """Fails: the guarded class is put into the module and the plain one serves."""
    source = inspect.getsource(dagster_webserver.app.create_app_from_workspace_process_context)
    assert "return DagsterWebserver(" in source


def test_the_log_manager_that_captures_nothing_can_be_made(tmp_path: Path) -> None:
    with opening.open_instance(tmp_path) as instance:
        assert type(instance.compute_log_manager).__name__ == "NoOpComputeLogManager"
