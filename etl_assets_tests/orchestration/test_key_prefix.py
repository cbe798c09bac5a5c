"""Several projects in one code location, kept apart by a key prefix."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.orchestration.code_location import build_defs
from etl_assets.pipeline.configuration import exports_of
from etl_assets_tests.dagster_runs import CodeLocation, failure_text, materializations, range_tags, settings_for
from etl_assets_tests.factory import PROJECT
from etl_assets_tests.orchestration.engine_runs import publish, stage

PREFIX = ["emea", "crm_360"]
SOURCES = PROJECT.contract.source_names
ASSETS = {*SOURCES, "shard_profiles", "merged_profiles"}


@pytest.fixture
def prefixed(location: CodeLocation) -> CodeLocation:
    """The same project and exports under a prefix."""
    return CodeLocation(location.settings, location.instance, key_prefix=PREFIX)


def test_the_prefix_is_before_every_key_and_in_every_name(prefixed: CodeLocation) -> None:
    graph = prefixed.defs.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {f"emea/crm_360/{name}" for name in ASSETS}
    assert graph.get(prefixed.key("merged_profiles")).parent_keys == {prefixed.key("shard_profiles")}
    assert graph.get(prefixed.key("shard_profiles")).parent_keys == {prefixed.key(name) for name in SOURCES}
    checks = {(key.asset_key, key.name) for key in graph.asset_check_keys}
    assert checks == (
        {(prefixed.key(name), "accounting_closed") for name in [*SOURCES, "shard_profiles"]}
        | {(prefixed.key("shard_profiles"), "profiles_as_declared")}
        | {(prefixed.key("merged_profiles"), check.name) for check in warehouse_checks(PROJECT)}
    )
    repository = prefixed.defs.get_repository_def()
    jobs = {job.name for job in repository.get_all_jobs() if not job.name.startswith("__")}
    assert jobs == {"emea_crm_360_refresh_sources", "emea_crm_360_rebuild_shards"}
    assert {sensor.name for sensor in repository.sensor_defs} == {
        "emea_crm_360_publish_when_complete",
        "emea_crm_360_rebuild_stale_shards",
        "emea_crm_360_refresh_when_exports_change",
    }
    (schedule,) = repository.schedule_defs
    assert (schedule.name, schedule.job_name) == ("emea_crm_360_daily_refresh", "emea_crm_360_refresh_sources")


def test_the_executor_can_be_left_to_other_definitions(location: CodeLocation) -> None:
    """Fails: definitions with an executor of their own cannot be merged with these, or all steps share one process."""
    defs = build_defs(PROJECT, settings=location.settings, executor=None)
    others = dg.Definitions(executor=dg.multiprocess_executor)
    assert dg.Definitions.merge(defs, others).executor is dg.multiprocess_executor
    for name in ("refresh_sources", "rebuild_shards"):
        assert defs.resolve_job_def(name).executor_def is dg.in_process_executor


def test_owners_are_those_of_every_asset(sources: Path, home: Home) -> None:
    owners = ["team:growth", "ada@alpine.example"]
    graph = build_defs(PROJECT, settings=settings_for(sources, home), owners=owners).resolve_asset_graph()
    assert {tuple(graph.get(key).owners) for key in graph.get_all_asset_keys()} == {tuple(owners)}
    unowned = build_defs(PROJECT, settings=settings_for(sources, home)).resolve_asset_graph()
    assert {tuple(unowned.get(key).owners) for key in unowned.get_all_asset_keys()} == {()}


def test_projects_with_and_without_a_prefix_share_a_code_location(
    location: CodeLocation, prefixed: CodeLocation, tmp_path: Path
) -> None:
    """Fails: a team's second project does not load, for a name that both have."""
    elsewhere = settings_for(exports_of(location.settings), Home(tmp_path / "elsewhere"), 5)
    third = CodeLocation(elsewhere, location.instance, key_prefix=["apac"])
    merged = dg.Definitions.merge(location.defs, prefixed.defs, third.defs)
    dg.Definitions.validate_loadable(merged)
    repository = merged.get_repository_def()
    names = [job.name for job in repository.get_all_jobs() if not job.name.startswith("__")]
    assert len(names) == len(set(names)) == 3 * 2
    assert len({sensor.name for sensor in repository.sensor_defs}) == 3 * 3
    graph = merged.resolve_asset_graph()
    assert len(graph.get_all_asset_keys()) == 3 * len(ASSETS)
    # Each keeps its own shards.
    partitions = {
        code.key_prefix[0]: graph.get(code.key("shard_profiles")).partitions_def for code in (prefixed, third)
    }
    assert {prefix: len(found.get_partition_keys()) for prefix, found in partitions.items() if found} == {
        "emea": 3,
        "apac": 5,
    }
    refresh = merged.resolve_job_def("apac_refresh_sources").asset_layer.executable_asset_keys
    assert refresh == {third.key(name) for name in SOURCES}


def test_the_whole_pipeline_runs_under_a_prefix_with_the_same_result(
    location: CodeLocation, prefixed: CodeLocation, tmp_path: Path
) -> None:
    expected = publish(
        CodeLocation(settings_for(exports_of(location.settings), Home(tmp_path / "plain")), location.instance)
    )
    result = prefixed.publish()
    publication = read_publication(prefixed.site.home)
    assert publication is not None
    assert (publication.digest, publication.record_count) == (expected.digest, 6)
    assert {check.asset_key for check in result.get_asset_check_evaluations()} == {prefixed.key("merged_profiles")}
    assert all(check.passed for check in result.get_asset_check_evaluations())
    # Nothing is written under the names of a project without a prefix.
    known = {key.to_user_string() for key in prefixed.instance.all_asset_keys()}
    assert known == {f"emea/crm_360/{name}" for name in ASSETS}
    assert prefixed.instance.get_materialized_partitions(prefixed.key("shard_profiles")) == {
        *("shard_00", "shard_01", "shard_02")
    }


def test_a_shard_of_a_range_is_noted_as_dagster_notes_a_single_one(prefixed: CodeLocation) -> None:
    """Fails: the UI calls each shard of a range unsynced, as it was made from no known source."""
    assert prefixed.stage().success
    single = prefixed.run("shard_profiles", partition="shard_01")
    assert single.success, failure_text(single)
    ranged = prefixed.run("shard_profiles", tags=range_tags(["shard_01", "shard_02"]))
    (first,) = _tags(prefixed, single)
    assert first in _tags(prefixed, ranged)
    assert f"dagster/input_data_version/{prefixed.key('crm').to_user_string()}" in first


def _tags(location: CodeLocation, result: dg.ExecuteInProcessResult) -> list[dict[str, str]]:
    events = [event for event in result.all_events if event.is_step_materialization]
    made = [event.step_materialization_data.materialization for event in events]
    assert all(found.asset_key == location.key("shard_profiles") for found in made)
    return [dict(found.tags or {}) for found in made]


def test_the_merge_sensor_asks_for_the_merge_of_its_own_project(prefixed: CodeLocation) -> None:
    stage(prefixed)
    assert prefixed.build_all().success
    context = dg.build_sensor_context(instance=prefixed.instance)
    sensor: Any = prefixed.defs.get_repository_def().get_sensor_def("emea_crm_360_publish_when_complete")
    request = sensor(context)
    assert request.asset_selection == [prefixed.key("merged_profiles")]
    # A merge of another project that is under way is none of its business.
    other = dg.AssetKey("merged_profiles")
    job = dg.Definitions([dg.asset(name="merged_profiles")(lambda: None)]).resolve_implicit_global_asset_job_def()
    prefixed.instance.create_run_for_job(job, asset_selection={other}, status=dg.DagsterRunStatus.STARTED)
    assert sensor(dg.build_sensor_context(instance=prefixed.instance)).asset_selection == request.asset_selection


def test_merges_of_a_copy_with_the_same_shards_do_not_count(prefixed: CodeLocation) -> None:
    """Fails: of two instances with the same exports, one waits for the merge of the other, or counts its errors."""
    stage(prefixed)
    assert prefixed.build_all().success
    copy = CodeLocation(prefixed.settings, prefixed.instance, key_prefix=["copy"])
    first = _asked(copy, "copy")
    job = copy.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={copy.key("merged_profiles")})
    for status in [dg.DagsterRunStatus.FAILURE] * 3 + [dg.DagsterRunStatus.STARTED]:
        copy.instance.create_run_for_job(job, tags=dict(first.tags), status=status)
    request = _asked(prefixed, "emea_crm_360")
    assert request.asset_selection == [prefixed.key("merged_profiles")]
    assert request.tags != first.tags


def _asked(location: CodeLocation, prefix: str) -> dg.RunRequest:
    """What the sensor asks for."""
    sensor: Any = location.defs.get_repository_def().get_sensor_def(f"{prefix}_publish_when_complete")
    request = sensor(dg.build_sensor_context(instance=location.instance))
    assert isinstance(request, dg.RunRequest), request
    return request


def test_a_refresh_is_followed_by_the_job_of_its_own_project(prefixed: CodeLocation) -> None:
    sensor = prefixed.defs.get_repository_def().get_sensor_def("emea_crm_360_rebuild_stale_shards")
    result = prefixed.defs.resolve_job_def("emea_crm_360_refresh_sources").execute_in_process(
        instance=prefixed.instance
    )
    context = dg.build_run_status_sensor_context(
        sensor_name=sensor.name,
        dagster_event=result.get_run_success_event(),
        dagster_instance=prefixed.instance,
        dagster_run=result.dagster_run,
    )
    answers: list[Any] = list(sensor(context))  # type: ignore[arg-type]
    assert [answer.partition_key for answer in answers] == ["shard_00", "shard_01", "shard_02"]
    assert [target.job_name for target in sensor.targets] == ["emea_crm_360_rebuild_shards"]
    assert not materializations(result, "crm")
