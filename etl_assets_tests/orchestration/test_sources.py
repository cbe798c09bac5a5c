"""The source assets: what they report, and what they refuse."""

from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import Slice, Snapshot, current_snapshot
from etl_assets.engine.published.status import Status
from etl_assets.engine.steps import sending
from etl_assets.engine.steps.stage import StagingRequest, stage
from etl_assets.errors import InputError, SourceChangedError
from etl_assets.orchestration.retry import MAX_RETRIES
from etl_assets.pipeline.configuration import exports_of
from etl_assets.pipeline.events import StepEvent
from etl_assets.project.contract import Source
from etl_assets_tests.dagster_runs import CodeLocation, facts, failure_text, materializations, settings_for, table
from etl_assets_tests.engine import mapped_sources
from etl_assets_tests.factory import PROJECT, SOURCES, read_quarantine, read_slices, row, run_engine, write_csv

NAMES = PROJECT.contract.source_names
CRM, PRODUCT = PROJECT.contract.source("crm"), PROJECT.contract.source("product")


def staged(location: CodeLocation, source: str) -> Snapshot:
    """The snapshot of a source, which must be staged."""
    snapshot = current_snapshot(location.site.home, source)
    assert snapshot is not None
    return snapshot


def slice_with_rows(location: CodeLocation, snapshot: Snapshot) -> tuple[Slice, Path]:
    """A slice that is not empty, and its file."""
    part = next(part for part in snapshot.slices if part.record_count)
    folder = location.site.home.snapshot(snapshot.source, snapshot.folder)
    return part, folder / f"{part.shard_id}.parquet"


def retries(result: dg.ExecuteInProcessResult) -> int:
    """How often the step was repeated."""
    return [event.event_type_value for event in result.all_events].count("STEP_UP_FOR_RETRY")


def test_every_source_reports_its_accounting_and_passes_its_check(location: CodeLocation) -> None:
    result = location.stage()
    assert result.success, failure_text(result)
    crm = location.materialized("crm").metadata
    assert [crm[name].value for name in ("rows_in", "rows_accepted", "rows_quarantined")] == [7, 6, 1]
    assert table(crm, "rejected_by_reason") == [{"reason": "missing_customer_id", "count": 1}]
    checks = result.get_asset_check_evaluations()
    assert {(check.asset_key.to_user_string(), check.passed) for check in checks} == {(name, True) for name in NAMES}


def test_the_data_version_changes_with_the_bytes_and_only_with_them(location: CodeLocation, sources: Path) -> None:
    """Fails: everything downstream is stale for nothing, or is not when it should be."""

    def version() -> str:
        assert location.stage().success
        return (location.materialized("support").tags or {})["dagster/data_version"]

    first = version()
    path = sources / "support.csv"
    content = path.read_bytes()
    path.write_bytes(content)
    assert version() == first
    path.write_bytes(content.replace(b"ada@", b"bob@"))
    assert version() != first


def test_one_source_can_be_materialized_alone_and_brings_its_check(location: CodeLocation) -> None:
    result = location.run("billing")
    assert result.success
    assert [check.asset_key.to_user_string() for check in result.get_asset_check_evaluations()] == ["billing"]
    assert not materializations(result, "crm")


def test_a_source_that_fails_does_not_stop_the_others_and_says_why(location: CodeLocation, sources: Path) -> None:
    """Fails: one broken export hides what is wrong with the rest, or lets a run with it succeed."""
    (sources / "crm.csv").unlink()
    write_csv(sources / "product.csv", PRODUCT, [], columns=["customer_id", "email"])
    result = location.stage()
    assert not result.success
    text = failure_text(result)
    assert "No export of source 'crm'" in text
    assert "lacks the columns signup_date" in text
    # What helps is something to do here, not a command of another program.
    assert "etl-assets" not in text
    assert len(materializations(result, "billing")) == 1
    assert not materializations(result, "crm")
    assert not retries(result)


def test_too_many_rejects_fail_the_source_with_the_counts(location: CodeLocation) -> None:
    strict = CodeLocation(
        settings_for(exports_of(location.settings), location.site.home, max_reject_ratio=0.1), location.instance
    )
    result = strict.run("billing")
    assert not result.success
    assert "25.0% of 4 rows broke the contract" in failure_text(result)
    assert "invalid:mrr 1" in failure_text(result)


def test_an_export_that_shrank_is_refused_once_and_accepted_by_run_configuration(
    location: CodeLocation, sources: Path
) -> None:
    """Fails: the UI publishes an export that was cut, retries it in vain, or has no way to accept it."""
    careful = CodeLocation(
        settings_for(exports_of(location.settings), location.site.home, min_rows_ratio=0.5), location.instance
    )
    assert careful.stage().success
    write_csv(sources / "product.csv", PRODUCT, [])
    result = careful.stage()
    assert not result.success
    assert "Source 'product': its export has shrunk. 0 rows accepted now" in failure_text(result)
    assert "If it is right, materialize it with accept_shrunk set in its configuration." in failure_text(result)
    assert not retries(result)
    assert careful.run("product", config={"stage_sources": {"accept_shrunk": True}}).success
    assert careful.stage().success


def test_the_accounting_check_fails_when_a_slice_lost_rows(location: CodeLocation) -> None:
    """Fails: rows vanish between staging and the shards, and no one notices."""
    assert location.run("crm").success
    _, path = slice_with_rows(location, staged(location, "crm"))
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE rows AS SELECT * FROM read_parquet('{path}') OFFSET 1")
        connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")
    result = location.run("crm")
    assert [check.passed for check in result.get_asset_check_evaluations()] == [False]


def test_a_failed_check_of_a_source_shows_the_numbers_that_do_not_add_up(location: CodeLocation) -> None:
    assert location.run("crm").success
    part, path = slice_with_rows(location, staged(location, "crm"))
    path.unlink()
    (check,) = location.run("crm").get_asset_check_evaluations()
    assert not check.passed
    counts = {"rows_in": 7, "rows_accepted": 6 - part.record_count, "rows_quarantined": 1, "cells_quarantined": 0}
    assert facts(check.metadata) == counts


def test_a_snapshot_whose_files_cannot_be_counted_is_read_again_from_the_export(location: CodeLocation) -> None:
    """Fails: a damaged file fails every run until a person deletes it."""
    assert location.run("crm").success
    before = staged(location, "crm")
    _, path = slice_with_rows(location, before)
    path.write_bytes(b"torn")
    result = location.run("crm")
    assert result.success, failure_text(result)
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]
    after = staged(location, "crm")
    assert (after.id, after.slices) == (before.id, before.slices)
    assert after.folder != before.folder


def test_an_export_that_changes_while_it_is_read_is_read_again(
    location: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fail_first(monkeypatch, "crm", SourceChangedError("changed"), 1)
    result = location.run("crm")
    assert result.success, failure_text(result)
    assert (retries(result), calls["crm"]) == (1, 2)


def fail_first(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception, times: int) -> Counter[str]:
    """Make the first readings of a source fail; returns the count of readings by source."""
    calls = Counter[str]()

    def flaky(source: Source, request: StagingRequest, **options: Any) -> tuple[Snapshot, bool]:
        calls[source.name] += 1
        if source.name == name and calls[name] <= times:
            raise error
        return stage(source, request, **options)

    monkeypatch.setattr(sending, "stage", flaky)
    return calls


def test_a_transient_fault_of_one_source_is_retried_and_does_not_lose_the_others(
    location: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a hiccup of the share with the exports fails the nightly refresh."""
    fail_first(monkeypatch, "billing", OSError(5, "the share said no"), 2)
    result = location.stage()
    assert result.success, failure_text(result)
    assert retries(result) == 2
    assert all(current_snapshot(location.site.home, name) for name in NAMES)


class TestEvents:
    """What an observer in the same process hears."""

    def observed(self, location: CodeLocation, *names: str) -> list[StepEvent]:
        events: list[StepEvent] = []
        observing = CodeLocation(location.settings, location.instance, observe=events.append)
        observing.run(*names)
        return events

    def test_each_source_runs_before_it_ends(self, location: CodeLocation) -> None:
        """Fails: sources are shown as waiting until they are done, which is half of a long run."""
        events = self.observed(location, *NAMES)
        for name in NAMES:
            assert [event.status for event in events if event.step == name] == [Status.RUNNING, Status.SUCCEEDED]
        ends = {event.step: event for event in events if event.status is Status.SUCCEEDED}
        assert (ends["crm"].record_count, ends["support"].record_count) == (6, 1)
        assert all(event.elapsed_ms is not None and event.shard_id is None for event in ends.values())
        again = self.observed(location, "crm")
        assert [event.status for event in again] == [Status.RUNNING, Status.REUSED]

    def test_a_failure_carries_its_error(self, location: CodeLocation, sources: Path) -> None:
        (sources / "crm.csv").unlink()
        events = self.observed(location, "crm", "billing")
        (failed,) = [event for event in events if event.error]
        assert (failed.step, failed.status) == ("crm", Status.FAILED)
        assert isinstance(failed.error, InputError)
        assert failed.error.advice

    def test_the_last_attempt_is_not_called_a_retry(
        self, location: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: a program that reads the events waits for an attempt that never comes."""
        error = OSError(5, "the share said no")
        calls = fail_first(monkeypatch, "crm", error, 99)
        events = self.observed(location, "crm")
        ends = [event for event in events if event.status is not Status.RUNNING]
        assert [event.status for event in ends] == [Status.RETRYING] * MAX_RETRIES + [Status.FAILED]
        assert [event.attempt for event in ends] == [1, 2, 3, 4]
        assert all(event.error is error for event in ends)
        assert calls["crm"] == 1 + MAX_RETRIES


def test_a_home_of_another_shard_count_is_refused_unless_forced(location: CodeLocation) -> None:
    run_engine(exports_of(location.settings), location.site)
    other = CodeLocation(settings_for(exports_of(location.settings), location.site.home, 5), location.instance)
    text = failure_text(other.stage())
    assert "was published from 3 shards" in text
    assert "Set ETL_NUM_SHARDS to 3." in text
    assert "Materialize the sources with force set in their configuration, then all partitions." in text
    assert other.run(*NAMES, config={"stage_sources": {"force": True}}).success


def test_each_source_says_what_it_is(location: CodeLocation) -> None:
    graph = location.defs.resolve_asset_graph()
    for source in SOURCES:
        node = graph.get(dg.AssetKey(source.name))
        assert node.group_name == "sources"
        assert source.label in (node.description or "")
        assert node.kinds == {"csv", "parquet"}
        columns = node.metadata["dagster/column_schema"].columns
        assert [column.name for column in columns] == list(source.required)
        assert [column.description for column in columns[1:]] == [column.meaning for column in source.columns]


def test_the_numbers_of_a_source_are_those_of_its_quarantine_on_disk(location: CodeLocation) -> None:
    """Fails: the UI shows other numbers than a query over the rejected rows."""
    assert location.run("support").success
    snapshot = staged(location, "support")
    rejected = read_quarantine(location.site.home, snapshot)
    made = location.materialized("support")
    found = facts(made.metadata)
    assert found["rows_quarantined"] == len(rejected) == 1
    assert [entry["reason"] for entry in rejected] == ["superseded"]
    assert table(made.metadata, "rejected_by_reason") == [{"reason": "superseded", "count": 1}]
    assert found["rows_accepted"] == found["dagster/row_count"]
    assert found["rows_accepted"] == sum(map(len, read_slices(location.site.home, snapshot)))
    # A superseded row is sound: a later one took its place.
    assert found["reject_ratio"] == 0.0
    assert found["files"] == ["support.csv"]
    assert found["snapshot"] == snapshot.id
    assert made.tags is not None
    assert made.tags["dagster/data_version"] == snapshot.data_hash
    source = location.site.contract.source("support")
    assert made.tags["dagster/code_version"] == location.site.staging_version(source)


def test_an_unchanged_export_is_reused_and_force_reads_it_again(location: CodeLocation) -> None:
    assert location.run("crm").success
    assert location.run("crm").success
    assert location.materialized("crm").metadata["reused"].value is True
    assert location.run("crm", config={"stage_sources": {"force": True}}).success
    assert location.materialized("crm").metadata["reused"].value is False


def test_extra_columns_are_named(location: CodeLocation, sources: Path) -> None:
    """Fails: a column that someone added, or misspelt, is dropped without a word."""
    write_csv(sources / "crm.csv", CRM, [row("a") | {"region": "EU"}], columns=[*CRM.required, "region"])
    assert location.run("crm").success
    assert location.materialized("crm").metadata["extra_columns_ignored"].value == ["region"]


def test_a_source_reports_what_its_key_map_did(tmp_path: Path, home: Home, instance: dg.DagsterInstance) -> None:
    """Fails: records are missing, and the page of the asset does not say which ids to look for."""
    folder = mapped_sources.exports(tmp_path / "x", "1,t1,1\n8,t2,1\n9,t3,1\n")
    project = mapped_sources.site_at(home.root).project
    mapped = CodeLocation(settings_for(folder, home), instance, project=project)
    result = mapped.stage()
    assert result.success, failure_text(result)
    found = mapped.materialized("tickets").metadata
    assert found["key_map"].value == {
        "files": ["ids/desk.csv"],
        "rows_in": 3,
        "rows_ignored": 0,
        "id_count": 3,
        "unmatched": [
            {
                "reason": "unmapped_client",
                "is_ambiguous": False,
                "row_count": 2,
                "id_count": 2,
                "examples": ["8", "9"],
            }
        ],
    }
    text = "The key_map of tickets (ids/desk.csv; 3 ids) lacks 2 ids of 2 rows, such as 8, 9."
    assert found["key_map_findings"].value == text
    assert "key_map" not in mapped.materialized("crm").metadata
    assert "key_map_findings" not in mapped.materialized("payments").metadata
