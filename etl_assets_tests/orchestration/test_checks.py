"""The checks in the UI: run by themselves on the published warehouse, with the figures a person needs."""

import dagster as dg

from etl_assets.engine.published import checks
from etl_assets_tests.dagster_runs import CodeLocation, failure_text
from etl_assets_tests.factory import alter, run_engine

MERGED = dg.AssetKey("merged_profiles")
# Together they break every promise.
BREAKAGE = (
    "UPDATE merged_profiles SET idempotency_key = NULL WHERE customer_id = 'a'",
    "UPDATE merged_profiles SET customer_id = 'd', health_score = 101 WHERE customer_id = 'c'",
    "DELETE FROM merged_profiles WHERE customer_id = 'b'",
    "DELETE FROM quarantine WHERE source = 'crm'",
)


def publish(project: CodeLocation) -> None:
    """Publish by the engine alone: here only the checks run in Dagster."""
    run_engine(project.settings.sources, project.settings.home)


def run_checks(project: CodeLocation) -> dg.ExecuteInProcessResult:
    """Run the checks of the warehouse, and nothing else."""
    checks_only = dg.AssetSelection.checks_for_assets("merged_profiles")
    defs = dg.Definitions.merge(
        project.defs, dg.Definitions(jobs=[dg.define_asset_job("only_checks", selection=checks_only)])
    )
    return defs.resolve_job_def("only_checks").execute_in_process(instance=project.instance, raise_on_error=False)


def evaluations(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_the_checks_run_without_the_merge_and_all_pass_on_a_sound_warehouse(project: CodeLocation) -> None:
    """A person could not ask again whether yesterday's warehouse is still sound."""
    publish(project)
    result = run_checks(project)
    assert result.success, failure_text(result)
    assert {name: found.passed for name, found in evaluations(result).items()} == {
        check.name: True for check in checks.WAREHOUSE_CHECKS
    }
    assert project.instance.get_latest_materialization_event(MERGED) is None


def test_every_check_is_red_on_a_warehouse_that_breaks_every_promise(project: CodeLocation) -> None:
    """A broken result stays green in the UI, or red without a number that says how bad it is."""
    publish(project)
    alter(project.settings.home.warehouse, *BREAKAGE)
    found = evaluations(run_checks(project))
    assert {name: evaluation.passed for name, evaluation in found.items()} == {
        check.name: False for check in checks.WAREHOUSE_CHECKS
    }
    assert {evaluation.severity for evaluation in found.values()} == {dg.AssetCheckSeverity.ERROR}
    assert {evaluation.asset_key for evaluation in found.values()} == {MERGED}
    facts = {name: {fact: value.value for fact, value in e.metadata.items()} for name, e in found.items()}
    assert facts["keys_unique_and_not_null"] == {"record_count": 5, "key_count": 4, "null_count": 1}
    assert facts["customers_unique"] == {"record_count": 5, "customer_count": 4}
    assert facts["count_equals_shards"] == {"record_count": 5, "shard_record_count": 6, "duplicates_dropped": 0}
    assert facts["scores_in_range"]["bad_health_scores"] == 1
    assert facts["accounting_closed"]["sources_not_closed"] == 1


def test_without_a_warehouse_the_checks_fail_and_name_the_file(project: CodeLocation) -> None:
    result = run_checks(project)
    assert not result.success
    assert not evaluations(result)
    assert "warehouse.duckdb" in failure_text(result)


def test_every_check_says_in_the_ui_what_it_promises(project: CodeLocation) -> None:
    graph = project.defs.resolve_asset_graph()
    specs = {key.name: graph.get_check_spec(key) for key in graph.get_check_keys_for_assets({MERGED})}
    assert {name: spec.description for name, spec in specs.items()} == {
        check.name: check.description for check in checks.WAREHOUSE_CHECKS
    }
