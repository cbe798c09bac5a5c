"""The checks of the warehouse in the UI: executed on the published file alone, with the figures a person needs."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.engine.published.preview import MASK
from etl_assets.project.loading import Project
from etl_assets.project.severity import CheckRule
from etl_assets_tests.dagster_runs import CodeLocation, facts, failure_text, table
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
    "INSERT INTO publication_notices VALUES ('rows', 'crm', 'crm has few rows.', '{}', true), "
    "('note', 'crm', 'crm has rows.', '{}', false)",
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
    warned = found["nothing_unusual"]
    assert warned.severity is dg.AssetCheckSeverity.WARN
    assert {other.severity for other in found.values() if other is not warned} == {dg.AssetCheckSeverity.ERROR}
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
    assert figures["nothing_unusual"]["failing_rows"] == 1
    (shown,) = table(warned.metadata, "first_rows")
    assert (shown["kind"], shown["subject"], shown["finding"]) == ("rows", "crm", "crm has few rows.")


def with_check(location: CodeLocation, statement: str, **rule: Any) -> CodeLocation:
    """The same project with a check of its own, and what is declared of it."""
    rules = (CheckRule(name="customers_have_company", **rule),)
    contract = PROJECT.contract.model_copy(update={"checks": rules})
    own: Project = replace(PROJECT, contract=contract, checks={"customers_have_company": statement})
    return CodeLocation(location.settings, location.instance, project=own)


def test_a_check_of_the_projects_own_is_one_like_the_others(location: CodeLocation) -> None:
    publish(location)
    statement = "-- Every customer is of a known company.\nSELECT * FROM merged_profiles WHERE company_name IS NULL"
    own = with_check(location, statement)
    (found,) = evaluations(run_checks(own, "customers_have_company")).values()
    assert (found.passed, facts(found.metadata)) == (True, {"failing_rows": 0})
    key = dg.AssetCheckKey(MERGED, "customers_have_company")
    assert own.defs.resolve_asset_graph().get_check_spec(key).description == "Every customer is of a known company."


@pytest.mark.parametrize("severity", ["warn", "error"])
def test_a_check_that_fails_shows_its_first_rows_with_personal_data_masked(
    location: CodeLocation, severity: str
) -> None:
    """Fails: a red check says neither how many rows it found nor which."""
    publish(location)
    figures = "1.50 AS total, DATE '2026-05-01' AS latest, NULL::INTEGER AS nothing, sources, 0.5::DOUBLE AS share"
    statement = f"SELECT customer_id, email, {figures} FROM merged_profiles WHERE customer_id < 'c'"
    own = with_check(location, statement, severity=severity)
    (found,) = evaluations(run_checks(own, "customers_have_company")).values()
    assert (found.passed, found.severity.value) == (False, severity.upper())
    assert found.metadata["failing_rows"].value == 2
    table = found.metadata["first_rows"]
    assert isinstance(table, dg.TableMetadataValue)
    assert [record.data for record in table.records] == [
        {
            "customer_id": name,
            "email": MASK,
            "total": "1.50",
            "latest": "2026-05-01",
            "nothing": None,
            "sources": sources,
            "share": 0.5,
        }
        for name, sources in (("a", "crm, billing, support"), ("b", "crm, billing"))
    ]


def test_a_check_that_cannot_be_run_is_red_and_keeps_the_others(location: CodeLocation) -> None:
    """Fails: one bad file in `sql/checks/` ends the step, and no check has a result."""
    publish(location)
    found = evaluations(run_checks(with_check(location, "SELECT nothing FROM merged_profiles", severity="warn")))
    assert [name for name, one in found.items() if not one.passed] == ["customers_have_company"]
    broken = found["customers_have_company"]
    assert broken.severity is dg.AssetCheckSeverity.ERROR
    assert "DuckDB refuses sql/checks/customers_have_company.sql" in str(broken.metadata["error"].value)


def test_a_blocking_check_that_fails_ends_the_merge_at_once(location: CodeLocation) -> None:
    """A permanent failure: repeating it would only delay its message."""
    publish(location)
    before = location.site.home.warehouse.read_bytes()
    own = with_check(location, "SELECT customer_id FROM merged_profiles", blocking=True)
    result = own.run("merged_profiles")
    assert not result.success
    assert "customers_have_company: 6 failing rows, such as customer_id = a" in failure_text(result)
    assert not [event for event in result.all_events if event.is_step_up_for_retry]
    assert location.site.home.warehouse.read_bytes() == before
    spec = own.defs.resolve_asset_graph().get_check_spec(dg.AssetCheckKey(MERGED, "customers_have_company"))
    assert spec.blocking


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
