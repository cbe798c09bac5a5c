"""The checks of the warehouse in the UI: executed on the published file alone, with the figures a person needs."""

from collections.abc import Mapping
from dataclasses import replace

import dagster as dg
import pytest

from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.project.loading import Project
from etl_assets_tests.dagster_runs import CodeLocation, facts, failure_text
from etl_assets_tests.factory import PROJECT, alter
from etl_assets_tests.orchestration.engine_runs import publish

MERGED = dg.AssetKey("merged_profiles")
CHECKS = {check.name: check for check in warehouse_checks(PROJECT)}
# Together they break every promise.
BREAKAGE = (
    "UPDATE merged_profiles SET idempotency_key = NULL WHERE customer_id = 'a'",
    "UPDATE merged_profiles SET customer_id = 'd', health_score = 101 WHERE customer_id = 'c'",
    "DELETE FROM merged_profiles WHERE customer_id = 'b'",
    "DELETE FROM quarantine WHERE source = 'crm'",
)


def run_checks(location: CodeLocation, *names: str) -> dg.ExecuteInProcessResult:
    """Execute these checks of the warehouse, or all of them, and nothing else."""
    selection: dg.AssetSelection = dg.AssetSelection.checks_for_assets("merged_profiles")
    if names:
        selection = dg.AssetSelection.checks(*(dg.AssetCheckKey(MERGED, name) for name in names))
    jobs = dg.Definitions(jobs=[dg.define_asset_job("only_checks", selection=selection)])
    job = dg.Definitions.merge(location.defs, jobs).resolve_job_def("only_checks")
    return job.execute_in_process(instance=location.instance, raise_on_error=False)


def evaluations(result: dg.ExecuteInProcessResult) -> Mapping[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def test_the_checks_run_without_the_merge_and_all_pass_on_a_sound_warehouse(location: CodeLocation) -> None:
    """Fails: a person cannot ask again whether yesterday's warehouse is still sound."""
    publish(location)
    result = run_checks(location)
    assert result.success, failure_text(result)
    assert {name: found.passed for name, found in evaluations(result).items()} == dict.fromkeys(CHECKS, True)
    assert location.instance.get_latest_materialization_event(MERGED) is None


@pytest.mark.parametrize("name", CHECKS)
def test_each_check_can_be_executed_alone(location: CodeLocation, name: str) -> None:
    """Fails: the UI's "Execute" of one check is refused, or costs all of them."""
    publish(location)
    result = run_checks(location, name)
    assert result.success, failure_text(result)
    assert list(evaluations(result)) == [name]


def test_some_checks_can_be_executed_together(location: CodeLocation) -> None:
    publish(location)
    some = {"accounting_closed", "customers_unique"}
    assert evaluations(run_checks(location, *some)).keys() == some


def test_every_check_is_red_on_a_warehouse_that_breaks_every_promise(location: CodeLocation) -> None:
    """Fails: a broken result stays green in the UI, or red without a number that says how bad it is."""
    publish(location)
    alter(location.site.home.warehouse, *BREAKAGE)
    found = evaluations(run_checks(location))
    assert {name: evaluation.passed for name, evaluation in found.items()} == dict.fromkeys(CHECKS, False)
    assert {evaluation.severity for evaluation in found.values()} == {dg.AssetCheckSeverity.ERROR}
    assert {evaluation.asset_key for evaluation in found.values()} == {MERGED}
    figures = {name: facts(evaluation.metadata) for name, evaluation in found.items()}
    assert figures["keys_unique_and_not_null"] == {"record_count": 5, "key_count": 4, "null_count": 1}
    assert figures["customers_unique"] == {"record_count": 5, "distinct_count": 4}
    assert figures["count_equals_shards"] == {"record_count": 5, "shard_record_count": 6, "duplicates_dropped": 0}
    assert figures["profiles_as_declared"] == {
        "bad_health_score": 1,
        "bad_churn_risk": 0,
        "bad_expansion_potential": 0,
    }
    assert figures["accounting_closed"]["sources_not_closed"] == 1


def with_check(location: CodeLocation, statement: str) -> CodeLocation:
    """The same project with a check of its own."""
    own: Project = replace(PROJECT, checks={"customers_have_company": statement})
    return CodeLocation(location.settings, location.instance, project=own)


def test_a_check_of_the_projects_own_is_one_like_the_others(location: CodeLocation) -> None:
    publish(location)
    statement = (
        "-- Every customer is of a known company.\n"
        "SELECT count(*) FILTER (company_name IS NULL) AS without, without = 0 AS passed FROM merged_profiles"
    )
    own = with_check(location, statement)
    (found,) = evaluations(run_checks(own, "customers_have_company")).values()
    assert (found.passed, facts(found.metadata)) == (True, {"without": 0})
    key = dg.AssetCheckKey(MERGED, "customers_have_company")
    assert own.defs.resolve_asset_graph().get_check_spec(key).description == "Every customer is of a known company."


def test_figures_of_any_type_are_shown(location: CodeLocation) -> None:
    """Fails: a check that counts in decimals ends in an error of Dagster's that names no check."""
    publish(location)
    figures = "1.50 AS total, DATE '2026-05-01' AS latest, NULL AS nothing, ['a', 'b'] AS names, 0.5::DOUBLE AS share"
    own = with_check(location, f"SELECT {figures}, true AS passed")
    result = run_checks(own, "customers_have_company")
    assert result.success, failure_text(result)
    (found,) = evaluations(result).values()
    assert facts(found.metadata) == {
        "total": "1.50",
        "latest": "2026-05-01",
        "nothing": None,
        "names": "a, b",
        "share": 0.5,
    }


def test_without_a_warehouse_the_checks_fail_and_name_the_file(location: CodeLocation) -> None:
    result = run_checks(location)
    assert not result.success
    assert not evaluations(result)
    assert "warehouse.duckdb" in failure_text(result)


def test_every_check_says_in_the_ui_what_it_promises(location: CodeLocation) -> None:
    graph = location.defs.resolve_asset_graph()
    specs = {key.name: graph.get_check_spec(key) for key in graph.get_check_keys_for_assets({MERGED})}
    assert {name: spec.description for name, spec in specs.items()} == {
        name: check.description for name, check in CHECKS.items()
    }
    assert all(check.description for check in CHECKS.values())
