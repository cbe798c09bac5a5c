"""The merge asset: what it reports, and what it refuses."""

from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.steps import merge
from etl_assets.engine.steps.merge import Merged
from etl_assets.pipeline.configuration import exports_of
from etl_assets.pipeline.events import StepEvent
from etl_assets_tests.dagster_runs import CodeLocation, facts, failure_text, range_tags, settings_for, table
from etl_assets_tests.factory import PROJECT, query, row, write_csv
from etl_assets_tests.orchestration.engine_runs import publish


def test_the_merge_reports_counts_digest_values_and_the_shards_timings(location: CodeLocation) -> None:
    result = location.publish()
    made = location.materialized("merged_profiles")
    publication = read_publication(location.site.home)
    assert publication is not None
    found = facts(made.metadata)
    assert (found["record_count"], found["quarantined_count"]) == (6, 3)
    assert found["digest"] == publication.digest
    counts = {entry["value"]: entry["profiles"] for entry in table(made.metadata, "value_distribution")}
    assert counts.keys() == {
        f"{column} {value}" for column in ("churn_risk", "expansion_potential") for value in ("LOW", "MEDIUM", "HIGH")
    }
    (by_hand,) = query(
        location.site.home.warehouse, "SELECT count(*) FILTER (churn_risk = 'LOW') AS low FROM merged_profiles"
    )
    assert counts["churn_risk LOW"] == by_hand[0]
    assert sum(counts.values()) == 2 * 6
    assert {entry["shard"] for entry in table(made.metadata, "shard_timings")} == set(location.site.shard_ids)
    assert (made.tags or {})["dagster/data_version"] == publication.digest
    passed = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    assert passed == {check.name: True for check in warehouse_checks(PROJECT)}


def test_an_incomplete_set_is_refused_once_and_the_last_warehouse_stays(location: CodeLocation) -> None:
    """Fails: a merge without some customers replaces a good one, or is retried in vain."""
    publish(location)
    before = location.site.home.warehouse.read_bytes()
    location.site.home.shard_file("shard_01").unlink()
    result = location.run("merged_profiles")
    assert not result.success
    assert failure_text(result) == (
        "1 shard is not fit to merge (shard_01: missing). The last published warehouse stays as it is. Materialize "
        "these partitions of shard_profiles: shard_01; the merge follows."
    )
    assert location.site.home.warehouse.read_bytes() == before
    assert "STEP_UP_FOR_RETRY" not in [event.event_type_value for event in result.all_events]


def test_a_partial_merge_needs_to_be_asked_for_and_is_marked(location: CodeLocation) -> None:
    publish(location)
    location.site.home.shard_file("shard_01").unlink()
    result = location.run("merged_profiles", config={"merged_profiles": {"allow_partial": True}})
    assert result.success, failure_text(result)
    found = facts(location.materialized("merged_profiles").metadata)
    assert (found["is_partial"], found["missing_shards"]) == (True, ["shard_01"])
    warnings = [
        entry.user_message
        for entry in location.instance.all_logs(result.run_id)
        if entry.level == 30  # WARNING
    ]
    assert warnings == ["Partial merge, without shard_01."]


def test_a_result_that_shrank_is_refused_once_and_accepted_by_run_configuration(
    location: CodeLocation, sources: Path
) -> None:
    """Fails: the sensor's merge publishes customers without a column that all of them had."""
    publish(location)
    careful = CodeLocation(
        settings_for(exports_of(location.settings), location.site.home, min_rows_ratio=0.5), location.instance
    )
    path = sources / "crm.csv"
    path.write_text(path.read_text().replace("Alpine Labs", ""))
    assert careful.stage().success
    assert careful.build_all().success
    before = careful.site.home.warehouse.read_bytes()
    result = careful.run("merged_profiles")
    assert "Columns have lost all of their values: company_name (" in failure_text(result)
    assert careful.site.home.warehouse.read_bytes() == before
    assert careful.run("merged_profiles", config={"merged_profiles": {"accept_shrunk": True}}).success


def test_a_stale_set_is_refused_with_the_shards_and_what_to_click(location: CodeLocation, sources: Path) -> None:
    """Fails: some customers of today and some of yesterday are in one result."""
    published = publish(location)
    changed = [row(name, email=f"{name}@new.example") for name in "abcdef"]
    write_csv(sources / "crm.csv", PROJECT.contract.source("crm"), changed)
    assert location.stage().success
    assert location.run("shard_profiles", partition="shard_00").success
    result = location.run("merged_profiles")
    assert not result.success
    text = failure_text(result)
    assert "shard_00" not in text
    assert "shard_01: built from other source data; shard_02: built from other source data" in text
    assert "Materialize these partitions of shard_profiles: shard_01, shard_02; the merge follows." in text
    assert read_publication(location.site.home) == published


def test_a_merge_reports_what_the_catalog_and_a_person_look_for(location: CodeLocation) -> None:
    publish(location)
    result = location.run("merged_profiles")
    assert result.success, failure_text(result)
    made = location.materialized("merged_profiles")
    found, warehouse = facts(made.metadata), location.site.home.warehouse
    assert found["dagster/row_count"] == 6
    assert found["dagster/table_name"] == "warehouse.merged_profiles"
    assert found["path"] == str(warehouse)
    assert found["size_bytes"] == warehouse.stat().st_size
    assert (found["is_partial"], found["missing_shards"], found["duplicates_dropped"]) == (False, [], 0)
    columns = found["dagster/column_schema"].columns
    assert ("idempotency_key", "VARCHAR") in [(column.name, column.type) for column in columns]
    assert all(column.description for column in columns)
    (mean,) = query(warehouse, "SELECT round(avg(health_score), 2) FROM merged_profiles")
    assert found["mean_health_score"] == mean[0]
    assert (made.tags or {})["dagster/code_version"] == location.site.profile_version


def test_the_timings_are_those_of_the_builds_the_slowest_first_with_short_run_ids(location: CodeLocation) -> None:
    """Fails: ids of 36 characters push the last columns off a screen of 1400 pixels."""
    assert location.stage().success
    first = location.run("shard_profiles", partition="shard_00")
    rest = location.run("shard_profiles", tags=range_tags(["shard_01", "shard_02"]))
    assert location.run("merged_profiles").success
    shown = table(location.materialized("merged_profiles").metadata, "shard_timings")
    rows = query(
        location.site.home.warehouse,
        "SELECT shard_id, record_count, elapsed_ms, attempt FROM shard_manifest ORDER BY elapsed_ms DESC, shard_id",
    )
    assert [tuple(entry.values())[:-1] for entry in shown] == rows
    assert list(shown[0]) == ["shard", "records", "elapsed_ms", "attempt", "run"]
    runs = {entry["shard"]: entry["run"] for entry in shown}
    assert runs == {"shard_00": first.run_id[:8], "shard_01": rest.run_id[:8], "shard_02": rest.run_id[:8]}


def test_a_failed_merge_is_observed_with_its_error(location: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the display of a run shows the merge as running until the end, and never why it failed."""
    publish(location)
    events: list[StepEvent] = []
    observing = CodeLocation(location.settings, location.instance, observe=events.append)
    error = OSError(28, "No space left on device")

    def no_space(*_: object, **__: object) -> Merged:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(merge, "merge_shards", no_space)
        assert not observing.run("merged_profiles").success
    assert events == [
        StepEvent(Status.RUNNING, "merged_profiles"),
        StepEvent(Status.FAILED, "merged_profiles", error=error),
    ]


def test_the_merge_has_no_retry_policy_and_the_shards_and_sources_have(location: CodeLocation) -> None:
    policies = {
        definition.node_def.name: definition.node_def.retry_policy
        for definition in location.defs.resolve_asset_graph().assets_defs
        if isinstance(definition.node_def, dg.OpDefinition)
    }
    assert policies["merged_profiles"] is None
    assert policies["shard_profiles"] is not None
    assert policies["stage_sources"] is not None
