"""The merge and the checks on it."""

from pathlib import Path

import dagster as dg

from etl_assets.engine.published import warehouse
from etl_assets.engine.steps import build as shard
from etl_assets.project.contract import source_named
from etl_assets_tests.dagster_runs import CodeLocation, failure_text
from etl_assets_tests.factory import query, row, run_engine, write_csv


def publish_by_engine(project: CodeLocation) -> dict[str, object] | None:
    """A complete set of shards and a warehouse, without the runs of Dagster that are not looked at here."""
    run_engine(project.settings.sources, project.settings.home)
    return warehouse.read_publication(project.settings.home)


def test_the_merge_reports_counts_digest_scores_and_the_shards_timings(project: CodeLocation) -> None:
    result = project.publish()
    facts = project.materialized("merged_profiles").metadata
    publication = warehouse.read_publication(project.settings.home)
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


def test_an_incomplete_set_is_refused_once_and_the_last_warehouse_stays(project: CodeLocation) -> None:
    """Fails: a merge without some customers replaces a good one, or is retried in vain."""
    publish_by_engine(project)
    before = project.settings.home.warehouse.read_bytes()
    project.settings.home.shard_file("shard_01").unlink()
    result = project.run("merged_profiles")
    assert not result.success
    assert "shard_01: missing" in failure_text(result)
    assert "etl-assets run --shards shard_01" in failure_text(result)
    assert project.settings.home.warehouse.read_bytes() == before
    assert "STEP_UP_FOR_RETRY" not in [event.event_type_value for event in result.all_events]


def test_a_partial_merge_needs_to_be_asked_for_and_is_marked(project: CodeLocation) -> None:
    publish_by_engine(project)
    project.settings.home.shard_file("shard_01").unlink()
    result = project.run("merged_profiles", config={"merged_profiles": {"allow_partial": True}})
    assert result.success, failure_text(result)
    facts = project.materialized("merged_profiles").metadata
    assert (facts["is_partial"].value, facts["missing_shards"].value) == (True, ["shard_01"])


def test_the_merge_has_no_retry_policy_and_the_shards_and_sources_have(project: CodeLocation) -> None:
    policies = {
        definition.node_def.name: definition.node_def.retry_policy
        for definition in project.defs.resolve_asset_graph().assets_defs
        if isinstance(definition.node_def, dg.OpDefinition)
    }
    assert policies["merged_profiles"] is None
    assert policies["shard_profiles"] is not None
    assert policies["stage_sources"] is not None


def test_a_stale_set_is_refused_with_the_shards_and_the_command(project: CodeLocation, sources: Path) -> None:
    """Some customers of today and some of yesterday would stand in one result."""
    published = publish_by_engine(project)
    write_csv(sources / "crm.csv", source_named("crm"), [row(name, email=f"{name}@new.example") for name in "abcdef"])
    assert project.stage().success
    assert project.run("shard_profiles", partition="shard_00").success
    result = project.run("merged_profiles")
    assert not result.success
    text = failure_text(result)
    assert "shard_00" not in text
    assert "shard_01: built from other source data; shard_02: built from other source data" in text
    assert "etl-assets run --shards shard_01,shard_02" in text
    assert warehouse.read_publication(project.settings.home) == published


def test_a_merge_reports_what_the_catalog_and_a_person_look_for(project: CodeLocation) -> None:
    publish_by_engine(project)
    result = project.run("merged_profiles")
    assert result.success, failure_text(result)
    made = project.materialized("merged_profiles")
    facts = made.metadata
    assert facts["dagster/row_count"].value == 6
    assert facts["dagster/table_name"].value == "warehouse.merged_profiles"
    assert facts["path"].value == str(project.settings.home.warehouse)
    assert facts["size_bytes"].value == project.settings.home.warehouse.stat().st_size
    assert (facts["is_partial"].value, facts["missing_shards"].value, facts["duplicates_dropped"].value) == (
        False,
        [],
        0,
    )
    columns = facts["dagster/column_schema"].value.columns  # type: ignore[union-attr]
    assert ("idempotency_key", "VARCHAR") in [(column.name, column.type) for column in columns]
    assert all(column.description for column in columns)
    (mean,) = query(project.settings.home.warehouse, "SELECT round(avg(health_score), 2) FROM merged_profiles")
    assert facts["mean_health_score"].value == mean[0]
    assert (made.tags or {})["dagster/code_version"] == shard.code_version()
    rows = query(
        project.settings.home.warehouse,
        "SELECT shard_id, record_count, elapsed_ms FROM shard_manifest ORDER BY elapsed_ms DESC, shard_id",
    )
    table = str(facts["shard_timings"].value).splitlines()
    assert [line.strip("| ").split(" | ")[:3] for line in table[2:]] == [
        [str(cell) for cell in found] for found in rows
    ]
