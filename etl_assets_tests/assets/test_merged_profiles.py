"""The merge and the checks on it."""

import dagster as dg
import duckdb
import pytest

from etl_assets.engine import checks, merge
from etl_assets_tests.dagster_runs import Project, failure_text


def alter(project: Project, statement: str) -> None:
    """Change the published warehouse behind the pipeline's back."""
    with duckdb.connect(str(project.settings.home.warehouse)) as connection:
        connection.execute(statement)


def test_the_merge_reports_counts_digest_scores_and_the_shards_timings(project: Project) -> None:
    result = project.publish()
    facts = project.materialized("merged_profiles").metadata
    publication = merge.read_publication(project.settings.home)
    assert publication is not None
    assert (facts["record_count"].value, facts["quarantined_count"].value) == (6, 3)
    assert facts["digest"].value == publication["digest"]
    assert "churn_risk LOW" in str(facts["score_distribution"].value)
    timings = str(facts["shard_timings"].value)
    assert all(name in timings for name in ("shard_00", "shard_01", "shard_02", "elapsed_ms"))
    assert (project.materialized("merged_profiles").tags or {})["dagster/data_version"] == publication["digest"]
    passed = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert passed == {
        "accounting_closed": True,
        "count_equals_shards": True,
        "customers_unique": True,
        "keys_unique_and_not_null": True,
        "scores_in_range": True,
    }


def test_an_incomplete_set_is_refused_once_and_the_last_warehouse_stays(project: Project) -> None:
    """Fails: a merge without some customers replaces a good one, or is retried in vain."""
    project.publish()
    before = project.settings.home.warehouse.read_bytes()
    project.settings.home.shard_file("shard_01").unlink()
    result = project.run("merged_profiles")
    assert not result.success
    assert "shard_01: missing" in failure_text(result)
    assert "etl-assets run --shards shard_01" in failure_text(result)
    assert project.settings.home.warehouse.read_bytes() == before
    assert "STEP_UP_FOR_RETRY" not in [event.event_type_value for event in result.all_events]


def test_a_partial_merge_needs_to_be_asked_for_and_is_marked(project: Project) -> None:
    project.publish()
    project.settings.home.shard_file("shard_01").unlink()
    result = project.run("merged_profiles", config={"merged_profiles": {"allow_partial": True}})
    assert result.success, failure_text(result)
    facts = project.materialized("merged_profiles").metadata
    assert (facts["is_partial"].value, facts["missing_shards"].value) == (True, ["shard_01"])


def test_the_merge_has_no_retry_policy_and_the_shards_and_sources_have(project: Project) -> None:
    policies = {
        definition.node_def.name: definition.node_def.retry_policy
        for definition in project.defs.resolve_asset_graph().assets_defs
        if isinstance(definition.node_def, dg.OpDefinition)
    }
    assert policies["merged_profiles"] is None
    assert policies["shard_profiles"] is not None
    assert policies["stage_sources"] is not None


@pytest.mark.parametrize(
    ("check", "statement"),
    [
        ("keys_unique_and_not_null", "UPDATE merged_profiles SET idempotency_key = NULL WHERE customer_id = 'a'"),
        ("keys_unique_and_not_null", "UPDATE merged_profiles SET idempotency_key = 'k' WHERE customer_id < 'c'"),
        ("customers_unique", "UPDATE merged_profiles SET customer_id = 'a' WHERE customer_id = 'b'"),
        ("scores_in_range", "UPDATE merged_profiles SET health_score = 101 WHERE customer_id = 'a'"),
        ("scores_in_range", "UPDATE merged_profiles SET churn_risk = NULL WHERE customer_id = 'a'"),
        ("scores_in_range", "UPDATE merged_profiles SET expansion_potential = 'huge' WHERE customer_id = 'a'"),
        ("count_equals_shards", "DELETE FROM merged_profiles WHERE customer_id = 'a'"),
        ("accounting_closed", "DELETE FROM quarantine WHERE source = 'crm'"),
        ("accounting_closed", "UPDATE source_snapshots SET rows_in = rows_in + 1 WHERE source = 'product'"),
        ("accounting_closed", "DELETE FROM source_snapshots"),
    ],
)
def test_each_check_fails_on_the_defect_it_is_there_for(project: Project, check: str, statement: str) -> None:
    """Fails: the check is decoration."""
    project.publish()
    alter(project, statement)
    failed = {finding.name for finding in checks.check_warehouse(project.settings.home) if not finding.passed}
    assert check in failed
