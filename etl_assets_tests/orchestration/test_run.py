"""The whole pipeline in one process, as Dagster runs."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import warehouse
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import merge
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import AccountingError
from etl_assets.orchestration import code_location as build
from etl_assets.orchestration import run as launch
from etl_assets.pipeline.events import StepEvent
from etl_assets.project.contract import SOURCES, source_named
from etl_assets.project.settings import Settings
from etl_assets_tests.dagster_runs import IMMEDIATELY, settings_for
from etl_assets_tests.factory import alter, row, write_csv, write_exports

SOURCE_NAMES = {source.name for source in SOURCES}


@pytest.fixture
def settings(sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # The exports of a test are younger than a second when they are staged.
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    write_exports(sources, crm=[row(f"c{number}") for number in range(40)], billing=[row("c1"), row("z")])
    return settings_for(sources, home, 5)


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def run(settings: Settings, instance: dg.DagsterInstance, **options: Any) -> tuple[launch.Report, list[StepEvent]]:
    events: list[StepEvent] = []
    return launch.run_pipeline(settings, instance=instance, on_event=events.append, **options), events


def break_shard(monkeypatch: pytest.MonkeyPatch, shard_id: str) -> None:
    build = shard.build_shard

    def breaking(home: Home, given: shard.ShardInput, *args: Any, **options: Any) -> shard.Manifest:
        if given.shard_id == shard_id:
            raise AccountingError("a customer too many")
        return build(home, given, *args, **options)

    monkeypatch.setattr(shard, "build_shard", breaking)


def test_a_run_publishes_and_reports_every_source_and_shard(settings: Settings, instance: dg.DagsterInstance) -> None:
    report, events = run(settings, instance)
    assert report.ok
    assert [(source.source, source.rows_in) for source in report.sources] == [
        ("crm", 40),
        ("billing", 2),
        ("product", 0),
        ("support", 0),
    ]
    assert [found.status for found in report.shards] == ["published"] * 5
    assert sum(found.record_count or 0 for found in report.shards) == 41
    assert report.publication is not None
    assert report.publication["record_count"] == 41
    finished = [event.shard_id for event in events if event.step == "shard_profiles" and event.kind == "finished"]
    assert sorted(finished, key=str) == [found.shard_id for found in report.shards]
    # Real runs: the UI shows them later.
    assert {run.status for run in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}
    assert len(instance.get_materialized_partitions(dg.AssetKey("shard_profiles"))) == 5


def test_a_failed_shard_stops_neither_the_others_nor_the_last_warehouse(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch, sources: Path
) -> None:
    """Fails: one bad shard costs the day's work, or a result without its customers is published."""
    run(settings, instance)
    before = warehouse.read_publication(settings.home)
    write_exports(sources, crm=[row(f"c{number}", email="new@x.example") for number in range(40)])
    break_shard(monkeypatch, "shard_03")
    report, _ = run(settings, instance)
    assert not report.ok
    assert report.failed_shards == ["shard_03"]
    assert "a customer too many" in (report.shards[3].error or "")
    assert [found.status for found in report.shards].count("published") == 4
    assert report.merge_error == "Not merged: shard_03 failed."
    assert warehouse.read_publication(settings.home) == before


def test_some_shards_can_be_asked_for_and_need_not_be_neighbours(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    report, _ = run(settings, instance, shards=["shard_04", "shard_00", "shard_01"])
    assert [found.shard_id for found in report.shards] == ["shard_00", "shard_01", "shard_04"]
    assert "shard_02: missing" in (report.merge_error or "")
    assert not report.ok
    done, _ = run(settings, instance, shards=["shard_02", "shard_03"])
    assert done.ok


def test_a_second_run_reuses_everything_and_force_nothing(settings: Settings, instance: dg.DagsterInstance) -> None:
    first, _ = run(settings, instance)
    second, _ = run(settings, instance)
    forced, _ = run(settings, instance, force=True)
    assert {found.status for found in second.shards} == {"reused"}
    assert {found.status for found in forced.shards} == {"published"}
    digests = {(report.publication or {})["digest"] for report in (first, second, forced)}
    assert len(digests) == 1


def test_a_forced_run_of_some_shards_reads_no_export_again(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Fails: one shard of a hundred costs nearly as much as all of them."""
    run(settings, instance)
    report, _ = run(settings, instance, shards=["shard_03"], force=True)
    assert [(shard.shard_id, shard.status) for shard in report.shards] == [("shard_03", "published")]
    assert all(source.reused for source in report.sources)
    assert source_runs(instance) == 1


def source_runs(instance: dg.DagsterInstance) -> int:
    """How many runs materialized sources."""
    return sum(dg.AssetKey("crm") in (found.asset_selection or ()) for found in instance.get_runs())


def test_sources_that_are_current_are_run_again_where_the_instance_does_not_know_them(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Fails: the UI of another instance shows sources that were never materialized, or those of other files."""
    run(settings, instance)
    with dg.DagsterInstance.ephemeral() as other:
        report, events = run(settings, other, shards=["shard_03"], force=True)
        assert report.ok
        assert source_runs(other) == 1
        assert all(source.reused for source in report.sources)
        _, events = run(settings, other, shards=["shard_03"], force=True)
        assert source_runs(other) == 1
    reused = [event.step for event in events if event.reused and event.shard_id is None]
    assert reused == [source.name for source in SOURCES]


def test_a_damaged_snapshot_is_mended_within_the_run(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Fails: sources are taken for current by their stats, and every shard fails."""
    run(settings, instance)
    snapshot = staging.current_snapshots(settings.home, settings.shard_count)["billing"]
    (settings.home.snapshot("billing", snapshot.snapshot) / "shard_03.parquet").write_bytes(b"torn")
    report, _ = run(settings, instance, shards=["shard_03"], force=True)
    assert report.ok
    assert source_runs(instance) == 2


def test_a_lower_reject_ratio_applies_to_what_is_staged(
    settings: Settings, instance: dg.DagsterInstance, sources: Path
) -> None:
    """Fails: what was accepted under a higher ratio stays accepted as long as nothing else changes."""
    write_csv(sources / "billing.csv", source_named("billing"), [row("a", mrr="n/a"), row("b")])
    report, _ = run(replace(settings, max_reject_ratio=1.0), instance)
    assert report.ok
    report, _ = run(replace(settings, max_reject_ratio=0.1), instance, shards=["shard_03"])
    assert "50.0% of 2 rows broke the contract" in (report.sources[1].error or "")


def test_a_failed_source_ends_the_run_before_the_shards(
    settings: Settings, instance: dg.DagsterInstance, sources: Path
) -> None:
    write_csv(sources / "billing.csv", source_named("billing"), [row("a", mrr="n/a"), row("b")])
    report, _ = run(replace(settings, max_reject_ratio=0.1), instance)
    assert not report.ok
    assert [source.source for source in report.sources if source.error] == ["billing"]
    assert "50.0% of 2 rows broke the contract" in (report.sources[1].error or "")
    assert report.shards == []


def test_a_partial_merge_is_published_when_it_is_asked_for(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_shard(monkeypatch, "shard_03")
    report, _ = run(settings, instance, allow_partial=True)
    assert report.publication is not None
    assert report.publication["missing_shards"] == ["shard_03"]
    assert not report.ok


def fail_first(monkeypatch: pytest.MonkeyPatch, shard_id: str, times: int) -> None:
    """Make the first builds of a shard fail as a disk does; retries do not wait."""
    build_shard, left = shard.build_shard, [times]

    def flaky(home: Home, given: shard.ShardInput, *args: Any, **options: Any) -> shard.Manifest:
        if given.shard_id == shard_id and left[0]:
            left[0] -= 1
            raise OSError(5, "the disk said no")
        return build_shard(home, given, *args, **options)

    monkeypatch.setattr(shard, "build_shard", flaky)
    monkeypatch.setattr(build, "shard_retry_policy", lambda: IMMEDIATELY)


def test_a_shard_that_heals_is_reported_with_its_attempts_and_each_is_told_in_order(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board would show a failed shard that is published, or hide that it needed three attempts."""
    fail_first(monkeypatch, "shard_03", 2)
    report, events = run(settings, instance)
    assert report.ok
    healed = report.shards[3]
    assert (healed.status, healed.attempts, healed.error) == ("published", 3, None)
    assert [found.attempts for found in report.shards] == [1, 1, 1, 3, 1]
    told = [(event.kind, event.attempt) for event in events if event.shard_id == "shard_03"]
    assert told == [
        ("started", 1),
        ("retrying", 1),
        ("started", 2),
        ("retrying", 2),
        ("started", 3),
        ("finished", 3),
    ]
    # Nobody else was built twice.
    others = Counter(event.shard_id for event in events if event.kind == "started" and event.shard_id)
    assert {name: count for name, count in others.items() if count > 1} == {"shard_03": 3}


def test_a_shard_that_stays_broken_is_given_up_after_four_attempts(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_first(monkeypatch, "shard_03", 99)
    report, events = run(settings, instance)
    assert report.failed_shards == ["shard_03"]
    assert report.shards[3].attempts == 4
    assert "the disk said no" in (report.shards[3].error or "")
    ends = [event.kind for event in events if event.shard_id == "shard_03" and event.kind != "started"]
    assert ends == ["retrying", "retrying", "retrying", "failed"]


def test_news_come_in_the_order_of_the_pipeline(settings: Settings, instance: dg.DagsterInstance) -> None:
    _, events = run(settings, instance)
    steps = [event.step for event in events]
    sources_told, merge_told = [step for step in steps if step in SOURCE_NAMES], steps[-2:]
    assert steps[:4] == sources_told
    assert set(sources_told) == SOURCE_NAMES
    assert merge_told == ["merged_profiles", "merged_profiles"]
    assert [event.kind for event in events[-2:]] == ["started", "finished"]
    assert events[-1].record_count == 41
    assert set(steps[4:-2]) == {"shard_profiles"}
    for shard_id in {event.shard_id for event in events if event.shard_id}:
        assert [event.kind for event in events if event.shard_id == shard_id] == ["started", "finished"]


def test_a_warehouse_that_fails_a_check_is_no_success(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exit code says 0 while the UI shows a red check."""
    merge_shards = merge.merge_shards

    def broken(home: Home, *args: Any, **options: Any) -> merge.Publication:
        published = merge_shards(home, *args, **options)
        alter(home.warehouse, "UPDATE merged_profiles SET health_score = 101 WHERE customer_id = 'c1'")
        return published

    monkeypatch.setattr(merge, "merge_shards", broken)
    report, _ = run(settings, instance)
    assert not report.ok
    assert report.merge_error == "Checks failed on the published warehouse: scores_in_range."
