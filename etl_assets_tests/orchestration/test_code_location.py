"""The code location: what it holds, and that it loads without a warning."""

import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

import etl_assets
from etl_assets.engine.files.layout import Home
from etl_assets.errors import ConfigError
from etl_assets.orchestration.code_location import build_defs
from etl_assets.orchestration.retry import shard_retry_policy
from etl_assets.project.settings import load_settings
from etl_assets_tests.command_line import environment
from etl_assets_tests.dagster_runs import settings_for
from etl_assets_tests.factory import PROJECT, site_at

CHECKOUT = Path(__file__).parents[2]
SOURCES = PROJECT.contract.source_names
ALL = {*SOURCES, "shard_profiles", "merged_profiles"}


@pytest.fixture
def defs(sources: Path, home: Home) -> dg.Definitions:
    return build_defs(PROJECT, settings=settings_for(sources, home, 10))


def test_every_asset_has_a_group_kinds_a_description_and_a_code_version(defs: dg.Definitions) -> None:
    """Fails: a person in the UI cannot tell what an asset is."""
    graph = defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.materializable_asset_keys} == ALL
    for name in ALL:
        node = graph.get(dg.AssetKey(name))
        assert node.group_name == ("profiles" if name.endswith("profiles") else "sources")
        assert node.kinds
        assert node.code_version
        assert len(node.description or "") > 100


def test_the_merge_depends_on_the_shards_and_they_on_every_source(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    parents = {name: {key.to_user_string() for key in graph.get(dg.AssetKey(name)).parent_keys} for name in ALL}
    assert parents["merged_profiles"] == {"shard_profiles"}
    assert parents["shard_profiles"] == set(SOURCES)


def test_the_project_is_the_folder_that_the_settings_name(sources: Path, home: Home, tmp_path: Path) -> None:
    """Fails: a project of one's own is set, and the shipped one is loaded."""
    (tmp_path / "own/sql").mkdir(parents=True)
    (tmp_path / "own/etl_assets.yaml").write_text("name: shop\nsources: {orders: {columns: [item]}}\n")
    (tmp_path / "own/sql/profiles.sql").write_text(
        "SELECT base.customer_id, orders.item, base.sources, base.shard_id, base.idempotency_key FROM customers\n"
    )
    environment_variables = {"ETL_PROJECT": str(tmp_path / "own"), "ETL_HOME": str(home.root)}
    own = build_defs(settings=load_settings(environment_variables)).resolve_asset_graph()
    assert {key.to_user_string() for key in own.get_all_asset_keys()} == {"orders", "shard_profiles", "merged_profiles"}


@pytest.mark.parametrize(("count", "last"), [(1, "shard_00"), (10, "shard_09"), (100, "shard_99"), (101, "shard_100")])
def test_partition_keys_follow_the_shard_count(sources: Path, home: Home, count: int, last: str) -> None:
    graph = build_defs(PROJECT, settings=settings_for(sources, home, count)).resolve_asset_graph()
    partitions = graph.get(dg.AssetKey("shard_profiles")).partitions_def
    assert partitions is not None
    keys = partitions.get_partition_keys()
    assert (len(keys), keys[-1]) == (count, last)
    assert keys == sorted(keys)


def test_checks_are_the_ones_a_person_expects(defs: dg.Definitions) -> None:
    keys = {(key.asset_key.to_user_string(), key.name) for key in defs.resolve_asset_graph().asset_check_keys}
    merged = (
        "accounting_closed",
        "count_equals_shards",
        "customers_unique",
        "keys_unique_and_not_null",
        "nothing_unusual",
        "profiles_as_declared",
    )
    assert keys == (
        {(source, "accounting_closed") for source in SOURCES}
        | {("shard_profiles", "accounting_closed"), ("shard_profiles", "profiles_as_declared")}
        | {("merged_profiles", name) for name in merged}
    )


def test_only_the_sensors_that_follow_a_persons_own_action_are_on(defs: dg.Definitions) -> None:
    """Fails: a fresh installation starts to read exports that no one asked for."""
    repository = defs.get_repository_def()
    sensors = {sensor.name: sensor.default_status.value for sensor in repository.sensor_defs}
    assert sensors == {
        "publish_when_complete": "RUNNING",
        "rebuild_stale_shards": "RUNNING",
        "refresh_when_exports_change": "STOPPED",
    }
    (schedule,) = repository.schedule_defs
    assert (schedule.name, schedule.default_status.value) == ("daily_refresh", "STOPPED")
    assert all(sensor.description for sensor in repository.sensor_defs)


def test_it_loads_without_a_warning_of_any_kind(tmp_path: Path) -> None:
    """Fails: the next release of a dependency breaks the pipeline, although a warning had announced it."""
    code = "import dagster as dg; from etl_assets.definitions import defs; dg.Definitions.validate_loadable(defs)"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:dagster", "-c", code],
        env=environment(ETL_HOME=str(tmp_path)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bad_setting_is_the_load_error_and_names_what_is_expected() -> None:
    with pytest.raises(ConfigError, match=r"ETL_NUM_SHARDS must be a whole number from 1 to 1000, found 'abc'"):
        build_defs(settings=load_settings({"ETL_NUM_SHARDS": "abc"}))


def test_a_bad_project_is_the_load_error_and_names_the_file(sources: Path, home: Home, tmp_path: Path) -> None:
    settings = settings_for(sources, home).model_copy(update={"project": tmp_path})
    with pytest.raises(ConfigError, match=r"etl_assets.yaml cannot be read"):
        build_defs(settings=settings)


def test_the_checkout_starts_what_the_package_ships() -> None:
    """Fails: a bare `dagster dev` in the checkout loads something else than `etl-assets ui`."""
    shipped = Path(etl_assets.__file__).parent / "orchestration/instance/dagster.yaml"
    assert (CHECKOUT / "dagster.yaml").samefile(shipped)
    workspace = yaml.safe_load((CHECKOUT / "workspace.yaml").read_text())
    assert workspace["load_from"] == [
        {
            "python_module": {
                "module_name": "etl_assets.definitions",
                "working_directory": ".",
                "location_name": "etl_assets",
            }
        }
    ]


def test_the_shipped_instance_settings_are_accepted_and_hold_what_the_guarantees_need(tmp_path: Path) -> None:
    shipped = Path(etl_assets.__file__).parent / "orchestration/instance/dagster.yaml"
    (tmp_path / "dagster.yaml").write_text(shipped.read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.run_retries_enabled
        assert instance.get_settings("run_retries")["retry_on_asset_or_op_failure"] is False
        assert instance.run_monitoring_enabled
        assert instance.run_monitoring_settings["max_runtime_seconds"] > 0
        assert instance.run_monitoring_settings["free_slots_after_run_end_seconds"] > 0
        assert instance.get_settings("run_retries")["max_retries"] == 3
        assert instance.run_coordinator.dequeue_interval_seconds == 0.25  # type: ignore[attr-defined]
        # Until a code server that was killed is back.
        assert instance.run_coordinator.inst_data.config_dict["max_user_code_failure_retries"] > 0  # type: ignore[attr-defined]


def test_shards_and_sources_are_retried_by_the_given_policy_and_the_merge_is_not(sources: Path, home: Home) -> None:
    """Fails: the merge waits ten seconds to say what it knew at once, or a shard gives up at the first hiccup."""
    policy = dg.RetryPolicy(max_retries=2, delay=7)
    own = build_defs(PROJECT, settings=settings_for(sources, home), retry_policy=policy)
    assert _policies(own) == {
        "shard_profiles": policy,
        "stage_sources": policy,
        "merged_profiles": None,
        "warehouse_checks": None,
    }
    shipped = _policies(build_defs(PROJECT, settings=settings_for(sources, home)))
    assert shipped["shard_profiles"] == shipped["stage_sources"] == shard_retry_policy()


def _policies(defs: dg.Definitions) -> dict[str, dg.RetryPolicy | None]:
    nodes = defs.resolve_implicit_global_asset_job_def().all_node_defs
    return {node.name: node.retry_policy for node in nodes if isinstance(node, dg.OpDefinition)}


def test_the_jobs_are_those_that_the_documents_name(defs: dg.Definitions) -> None:
    names = {job.name for job in defs.get_repository_def().get_all_jobs() if not job.name.startswith("__")}
    assert names == {"refresh_sources", "rebuild_shards"}
    sources_only = defs.resolve_job_def("refresh_sources").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in sources_only} == set(SOURCES)
    shards_only = defs.resolve_job_def("rebuild_shards").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in shards_only} == {"shard_profiles"}


def test_code_versions_are_those_of_the_engine(defs: dg.Definitions, home: Home) -> None:
    """Fails: after a change of a score every shard is "fresh" in the UI."""
    graph, site = defs.resolve_asset_graph(), site_at(home, 10)
    versions = {name: graph.get(dg.AssetKey(name)).code_version for name in ALL}
    assert versions.pop("shard_profiles") == versions.pop("merged_profiles") == site.profile_version
    assert versions == {source.name: site.staging_version(source) for source in PROJECT.contract.sources}


def test_a_shard_runs_in_the_process_of_its_run(defs: dg.Definitions) -> None:
    """Fails: a process for each step takes four times as long (docs/adr/0003), and multiplies the threads."""
    assert defs.resolve_job_def("rebuild_shards").executor_def is dg.in_process_executor


def _validated(**variables: str) -> subprocess.CompletedProcess[str]:
    """What Dagster itself says of this checkout's workspace."""
    return subprocess.run(
        [sys.executable, "-m", "dagster", "definitions", "validate", "-w", "workspace.yaml"],
        cwd=CHECKOUT,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.slow
def test_dagster_loads_the_workspace(tmp_path: Path) -> None:
    done = _validated(DAGSTER_HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "Validation successful for code location etl_assets" in done.stderr + done.stdout


@pytest.mark.slow
def test_dagster_shows_a_bad_setting_in_the_words_of_the_setting(tmp_path: Path) -> None:
    """Fails: a person sees a stack trace, and not which variable to fix."""
    done = _validated(DAGSTER_HOME=str(tmp_path), ETL_NUM_SHARDS="abc")
    assert done.returncode != 0
    assert "ConfigError: ETL_NUM_SHARDS must be a whole number from 1 to 1000, found 'abc'" in done.stderr + done.stdout
