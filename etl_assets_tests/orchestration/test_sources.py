"""The source assets: what they report, and what they refuse."""

from collections import Counter
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine import duck
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.stage import Snapshot, StagingRequest
from etl_assets.project.contract import SOURCES, Source, source_named
from etl_assets_tests.dagster_runs import CodeLocation, failure_text, materializations, settings_for
from etl_assets_tests.factory import read_quarantine, read_slices, row, run_engine, write_csv


def test_every_source_reports_its_accounting_and_passes_its_check(project: CodeLocation) -> None:
    result = project.stage()
    assert result.success, failure_text(result)
    facts = project.materialized("crm").metadata
    assert [facts[name].value for name in ("rows_in", "rows_accepted", "rows_quarantined")] == [7, 6, 1]
    assert "missing_customer_id" in str(facts["rejected_by_reason"].value)
    checks = result.get_asset_check_evaluations()
    assert {(check.asset_key.to_user_string(), check.passed) for check in checks} == {
        (source.name, True) for source in SOURCES
    }


def test_the_data_version_changes_with_the_bytes_and_only_with_them(project: CodeLocation, sources: Path) -> None:
    """Fails: everything downstream is stale for nothing, or is not when it should be."""

    def version() -> str:
        assert project.stage().success
        return project.materialized("support").tags["dagster/data_version"]  # type: ignore[index]

    first = version()
    path = sources / "support.csv"
    content = path.read_bytes()
    path.write_bytes(content)
    assert version() == first
    path.write_bytes(content.replace(b"ada@", b"bob@"))
    assert version() != first


def test_one_source_can_be_materialized_alone_and_brings_its_check(project: CodeLocation) -> None:
    result = project.run("billing")
    assert result.success
    assert [check.asset_key.to_user_string() for check in result.get_asset_check_evaluations()] == ["billing"]
    assert not materializations(result, "crm")


def test_a_source_that_fails_does_not_stop_the_others_and_says_why(project: CodeLocation, sources: Path) -> None:
    """Fails: one broken export hides what is wrong with the rest, or lets a run with it succeed."""
    (sources / "crm.csv").unlink()
    write_csv(sources / "product.csv", source_named("product"), [], columns=["customer_id", "email"])
    result = project.stage()
    assert not result.success
    text = failure_text(result)
    assert "No export of source 'crm'" in text
    assert "lacks the columns signup_date" in text
    assert len(materializations(result, "billing")) == 1
    assert not materializations(result, "crm")
    assert not [event for event in result.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]


def test_too_many_rejects_fail_the_source_with_the_counts(project: CodeLocation) -> None:
    strict = CodeLocation(
        settings_for(project.settings.sources, project.settings.home, max_reject_ratio=0.1), project.instance
    )
    result = strict.run("billing")
    assert not result.success
    assert "25.0% of 4 rows broke the contract" in failure_text(result)
    assert "invalid:mrr 1" in failure_text(result)


def test_the_accounting_check_fails_when_a_slice_lost_rows(project: CodeLocation) -> None:
    """Fails: rows that vanish between staging and the shards are noticed by nobody."""
    assert project.run("crm").success
    home = project.settings.home
    snapshot = staging.current_snapshot(source_named("crm"), home)
    assert snapshot is not None
    part = next(part for part in snapshot.slices if part.record_count)
    path = home.snapshot("crm", snapshot.snapshot) / f"{part.shard_id}.parquet"
    with duck.duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE rows AS SELECT * FROM read_parquet('{path}') OFFSET 1")
        connection.execute(f"COPY rows TO '{path}' (FORMAT parquet)")
    result = project.run("crm")
    assert [check.passed for check in result.get_asset_check_evaluations()] == [False]


def test_an_export_that_changes_while_it_is_read_is_read_again(
    project: CodeLocation, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, calls = staging.stage, []

    def changed_once(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 1:
            raise staging.SourceChangedError("changed")
        return stage(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(staging, "stage", changed_once)
    result = project.run("crm")
    assert result.success
    assert [event.event_type_value for event in result.all_events].count("STEP_UP_FOR_RETRY") == 1


def test_a_home_of_another_shard_count_is_refused_unless_forced(project: CodeLocation) -> None:
    run_engine(project.settings.sources, project.settings.home)
    other = CodeLocation(settings_for(project.settings.sources, project.settings.home, 5), project.instance)
    assert "was published from 3 shards" in failure_text(other.stage())
    names = [source.name for source in SOURCES]
    assert other.run(*names, config={"stage_sources": {"force": True}}).success


def test_each_source_says_what_it_is(project: CodeLocation) -> None:
    graph = project.defs.resolve_asset_graph()
    for source in SOURCES:
        node = graph.get(dg.AssetKey(source.name))
        assert (node.group_name, node.owners) == ("sources", ["team:data-engineering"])
        assert source.title in (node.description or "")
        assert node.kinds == {"csv", "parquet"}
        assert [column.name for column in node.metadata["dagster/column_schema"].columns] == list(source.required)


def test_the_numbers_of_a_source_are_those_of_its_quarantine_on_disk(project: CodeLocation) -> None:
    """The UI would show other numbers than a query over the rejected rows."""
    assert project.run("support").success
    snapshot = staging.current_snapshot(source_named("support"), project.settings.home)
    assert snapshot is not None
    rejected = read_quarantine(project.settings.home, snapshot)
    made = project.materialized("support")
    facts = made.metadata
    assert facts["rows_quarantined"].value == len(rejected) == 1
    assert [found["reason"] for found in rejected] == ["superseded"]
    assert str(facts["rejected_by_reason"].value).splitlines()[2:] == ["| superseded | 1 |"]
    assert facts["rows_accepted"].value == facts["dagster/row_count"].value
    assert facts["rows_accepted"].value == sum(map(len, read_slices(project.settings.home, snapshot)))
    # A superseded row is sound: a later one took its place.
    assert facts["reject_ratio"].value == 0.0
    assert facts["files"].value == ["support.csv"]
    assert facts["snapshot"].value == snapshot.snapshot
    assert made.tags is not None
    assert made.tags["dagster/data_version"] == snapshot.data_hash
    assert made.tags["dagster/code_version"] == staging.staging_version()


def test_an_unchanged_export_is_reused_and_force_reads_it_again(project: CodeLocation) -> None:
    assert project.run("crm").success
    assert project.run("crm").success
    assert project.materialized("crm").metadata["reused"].value is True
    assert project.run("crm", config={"stage_sources": {"force": True}}).success
    assert project.materialized("crm").metadata["reused"].value is False


def test_extra_columns_are_named(project: CodeLocation, sources: Path) -> None:
    """A column that somebody added, or misspelt, is dropped without a word."""
    source = source_named("crm")
    write_csv(sources / "crm.csv", source, [row("a") | {"region": "EU"}], columns=[*source.required, "region"])
    assert project.run("crm").success
    assert project.materialized("crm").metadata["extra_columns_ignored"].value == ["region"]


def test_a_transient_fault_of_one_source_is_retried_and_does_not_lose_the_others(
    project: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hiccup of the share with the exports fails the nightly refresh."""
    stage, calls = staging.stage, Counter[str]()

    def flaky(source: Source, request: StagingRequest, **options: bool) -> tuple[Snapshot, bool]:
        calls[source.name] += 1
        if source.name == "billing" and calls[source.name] < 3:
            raise OSError(5, "the share said no")
        return stage(source, request, **options)

    monkeypatch.setattr(staging, "stage", flaky)
    result = project.stage()
    assert result.success, failure_text(result)
    assert [event.event_type_value for event in result.all_events].count("STEP_UP_FOR_RETRY") == 2
    for source in SOURCES:
        assert staging.current_snapshot(source, project.settings.home) is not None


def test_a_failed_check_of_a_source_shows_the_numbers_that_do_not_add_up(project: CodeLocation) -> None:
    assert project.run("crm").success
    snapshot = staging.current_snapshot(source_named("crm"), project.settings.home)
    assert snapshot is not None
    empty = next(part for part in snapshot.slices if part.record_count)
    (project.settings.home.snapshot("crm", snapshot.snapshot) / f"{empty.shard_id}.parquet").unlink()
    (check,) = project.run("crm").get_asset_check_evaluations()
    facts = {name: value.value for name, value in check.metadata.items()}
    assert not check.passed
    assert facts == {"rows_in": 7, "rows_accepted": 6 - empty.record_count, "rows_quarantined": 1}
