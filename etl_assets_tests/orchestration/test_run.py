"""The whole pipeline in one process, as Dagster runs."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.checks import Finding
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps import merge
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.merge import Merged
from etl_assets.errors import AccountingError, RejectRatioError, ShardSetError, SourceChangedError
from etl_assets.orchestration import code_location
from etl_assets.orchestration.instance.tags import HOST_TAG, INVOCATION_TAG, LAUNCHED_BY_TAG
from etl_assets.orchestration.run import run_pipeline
from etl_assets.pipeline.configuration import site_of
from etl_assets.pipeline.events import StepEvent
from etl_assets.pipeline.report import Report
from etl_assets.project.settings import Settings
from etl_assets_tests.dagster_runs import IMMEDIATELY, settings_for
from etl_assets_tests.factory import PROJECT, alter, row, write_csv, write_exports
from etl_assets_tests.orchestration.breaking import ALWAYS, DISK_ERROR, break_shards

NAMES = PROJECT.contract.source_names
BILLING = PROJECT.contract.source("billing")
WRONG_ACCOUNTS = AccountingError("A customer too many.")


@pytest.fixture
def settings(sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # The exports of a test are younger than a second when they are staged.
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    monkeypatch.setattr(code_location, "shard_retry_policy", lambda: IMMEDIATELY)
    write_exports(sources, crm=[row(f"c{number}") for number in range(40)], billing=[row("c1"), row("z")])
    return settings_for(sources, home, 5)


@pytest.fixture
def site(settings: Settings) -> Site:
    return site_of(PROJECT, settings)


def run(settings: Settings, instance: dg.DagsterInstance, **options: Any) -> tuple[Report, list[StepEvent]]:
    """Run the pipeline; returns its report, and the events in their order."""
    events: list[StepEvent] = []
    site = site_of(PROJECT, settings)
    return run_pipeline(site, settings, instance=instance, on_event=events.append, **options), events


def runs_of(instance: dg.DagsterInstance, name: str) -> int:
    """How many runs materialized an asset."""
    return sum(dg.AssetKey(name) in (found.asset_selection or ()) for found in instance.get_runs())


def statuses(events: Sequence[StepEvent], name: str) -> list[tuple[str, int | None]]:
    """What was observed of a source or a shard: status and attempt."""
    return [(event.status.value, event.attempt) for event in events if name in (event.step, event.shard_id)]


def test_a_run_publishes_and_reports_every_source_and_shard(settings: Settings, instance: dg.DagsterInstance) -> None:
    report, events = run(settings, instance)
    assert report.ok
    assert [(source.source, source.rows_in) for source in report.sources] == [
        ("crm", 40),
        ("billing", 2),
        ("product", 0),
        ("support", 0),
    ]
    assert [found.status for found in report.shards] == [Status.SUCCEEDED] * 5
    assert sum(found.record_count or 0 for found in report.shards) == 41
    assert report.publication is not None
    assert report.publication.record_count == 41
    assert (report.is_unchanged, report.is_warehouse_replaced) == (False, True)
    ended = [event.shard_id for event in events if event.step == "shard_profiles" and event.status.is_done]
    assert sorted(ended, key=str) == [found.shard_id for found in report.shards]
    # Real runs: the UI shows them later.
    assert {found.status for found in instance.get_runs()} == {dg.DagsterRunStatus.SUCCESS}
    assert len(instance.get_materialized_partitions(dg.AssetKey("shard_profiles"))) == 5


def test_the_runs_of_one_invocation_share_its_tags(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Fails: no one can tell which runs in the UI were one `etl-assets run`."""
    run(settings, instance)
    first = [found.tags for found in instance.get_runs()]
    assert len(first) == 3
    for name in (INVOCATION_TAG, HOST_TAG, LAUNCHED_BY_TAG):
        assert len({tags[name] for tags in first}) == 1
    run(settings, instance, force=True)
    assert len({found.tags[INVOCATION_TAG] for found in instance.get_runs()}) == 2


def test_a_failed_shard_stops_neither_the_others_nor_the_last_warehouse(
    settings: Settings, instance: dg.DagsterInstance, site: Site, monkeypatch: pytest.MonkeyPatch, sources: Path
) -> None:
    """Fails: one bad shard costs the day's work, or a result without its customers is published."""
    run(settings, instance)
    before = read_publication(site.home)
    write_exports(sources, crm=[row(f"c{number}", email="new@x.example") for number in range(40)])
    break_shards(monkeypatch, WRONG_ACCOUNTS, {"shard_03": ALWAYS})
    report, events = run(settings, instance)
    assert not report.ok
    assert report.failed_shards == ["shard_03"]
    assert report.shards[3].error == "AccountingError: A customer too many."
    assert [found.status for found in report.shards].count(Status.SUCCEEDED) == 4
    assert str(report.merge_error) == "Not merged: shard_03 failed."
    assert report.publication is None
    assert not report.is_warehouse_replaced
    assert read_publication(site.home) == before
    (failed,) = [event for event in events if event.error]
    assert (failed.shard_id, failed.status, failed.error) == ("shard_03", Status.FAILED, WRONG_ACCOUNTS)


def test_some_shards_can_be_asked_for_and_need_not_be_neighbours(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    report, _ = run(settings, instance, shards=["shard_04", "shard_00", "shard_01"])
    assert [found.shard_id for found in report.shards] == ["shard_00", "shard_01", "shard_04"]
    assert not report.ok
    # The error itself, with what helps.
    assert isinstance(report.merge_error, ShardSetError)
    assert "shard_02: missing" in report.merge_error.finding
    assert report.merge_error.advice[0].shards == ("shard_02", "shard_03")
    done, _ = run(settings, instance, shards=["shard_02", "shard_03"])
    assert done.ok


def test_a_second_run_reuses_everything_and_force_nothing(settings: Settings, instance: dg.DagsterInstance) -> None:
    first, _ = run(settings, instance)
    second, _ = run(settings, instance)
    forced, _ = run(settings, instance, force=True)
    assert {found.status for found in second.shards} == {Status.REUSED}
    assert {found.status for found in forced.shards} == {Status.SUCCEEDED}
    digests = {report.publication.digest for report in (first, second, forced) if report.publication}
    assert len(digests) == 1
    assert [report.is_warehouse_replaced for report in (first, second, forced)] == [True, False, True]
    assert runs_of(instance, "merged_profiles") == 2


def test_a_forced_run_of_some_shards_reads_no_export_again(settings: Settings, instance: dg.DagsterInstance) -> None:
    """Fails: one shard of a hundred costs nearly as much as all of them."""
    run(settings, instance)
    report, _ = run(settings, instance, shards=["shard_03"], force=True)
    assert [(found.shard_id, found.status) for found in report.shards] == [("shard_03", Status.SUCCEEDED)]
    assert all(source.reused for source in report.sources)
    assert runs_of(instance, "crm") == 1


def test_sources_that_are_current_are_run_again_where_the_instance_does_not_know_them(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Fails: the UI of another instance shows sources that were never materialized, or those of other files."""
    run(settings, instance)
    with dg.DagsterInstance.ephemeral() as other:
        report, events = run(settings, other, shards=["shard_03"], force=True)
        assert report.ok
        assert runs_of(other, "crm") == 1
        assert all(source.reused for source in report.sources)
        _, events = run(settings, other, shards=["shard_03"], force=True)
        assert runs_of(other, "crm") == 1
    reused = [event.step for event in events if event.status is Status.REUSED and event.shard_id is None]
    assert reused == list(NAMES)


def test_a_damaged_snapshot_is_repaired_within_the_run(
    settings: Settings, instance: dg.DagsterInstance, site: Site
) -> None:
    """Fails: sources are taken for current by their stats, and every shard fails."""
    run(settings, instance)
    snapshot = current_snapshots(site)["billing"]
    (site.home.snapshot("billing", snapshot.folder) / "shard_03.parquet").write_bytes(b"torn")
    report, _ = run(settings, instance, shards=["shard_03"], force=True)
    assert report.ok
    assert runs_of(instance, "crm") == 2


def test_a_lower_reject_ratio_applies_to_what_is_staged(
    settings: Settings, instance: dg.DagsterInstance, sources: Path
) -> None:
    """Fails: what was accepted under a higher ratio stays accepted as long as nothing else changes."""
    write_csv(sources / "billing.csv", BILLING, [row("a", mrr="many"), row("b")])
    report, _ = run(settings, instance)
    assert report.ok
    report, _ = run(settings.model_copy(update={"max_reject_ratio": 0.1}), instance, shards=["shard_03"])
    assert isinstance(report.sources[1].error, RejectRatioError)


def test_a_failed_source_ends_the_run_before_the_shards(
    settings: Settings, instance: dg.DagsterInstance, sources: Path
) -> None:
    write_csv(sources / "billing.csv", BILLING, [row("a", mrr="many"), row("b")])
    report, events = run(settings.model_copy(update={"max_reject_ratio": 0.1}), instance)
    assert not report.ok
    assert report.failed_sources == ["billing"]
    # The error that was raised, not a text of it.
    error = report.sources[1].error
    assert isinstance(error, RejectRatioError)
    assert "50.0% of 2 rows broke the contract" in error.finding
    assert [event.error for event in events if event.error] == [error]
    assert report.shards == []


def test_a_partial_merge_is_published_when_it_is_asked_for(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_shards(monkeypatch, WRONG_ACCOUNTS, {"shard_03": ALWAYS})
    report, _ = run(settings, instance, allow_partial=True)
    assert report.publication is not None
    assert report.publication.missing_shards == ("shard_03",)
    assert not report.ok


def test_a_shard_that_heals_is_reported_with_its_attempts_and_each_is_observed_in_order(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the board shows a failed shard that is published, or hides that it needed three attempts."""
    break_shards(monkeypatch, DISK_ERROR, {"shard_03": 2})
    report, events = run(settings, instance)
    assert report.ok
    healed = report.shards[3]
    assert (healed.status, healed.attempts, healed.error) == (Status.SUCCEEDED, 3, None)
    assert [found.attempts for found in report.shards] == [1, 1, 1, 3, 1]
    assert statuses(events, "shard_03") == [
        ("running", 1),
        ("retrying", 1),
        ("running", 2),
        ("retrying", 2),
        ("running", 3),
        ("succeeded", 3),
    ]
    assert [event.error for event in events if event.error] == [DISK_ERROR] * 2
    # No other shard was built twice.
    starts = Counter(event.shard_id for event in events if event.status is Status.RUNNING and event.shard_id)
    assert {name: count for name, count in starts.items() if count > 1} == {"shard_03": 3}


def test_a_shard_that_stays_broken_is_given_up_after_four_attempts(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_shards(monkeypatch, DISK_ERROR, {"shard_03": ALWAYS})
    report, events = run(settings, instance)
    assert report.failed_shards == ["shard_03"]
    assert report.shards[3].attempts == 4
    assert "the disk said no" in (report.shards[3].error or "")
    ends = [status for status, _ in statuses(events, "shard_03") if status != "running"]
    assert ends == ["retrying", "retrying", "retrying", "failed"]


def test_events_come_in_the_order_of_the_pipeline(settings: Settings, instance: dg.DagsterInstance) -> None:
    _, events = run(settings, instance)
    steps = [event.step for event in events]
    of_sources, of_merge = 2 * len(NAMES), 2
    assert Counter(steps[:of_sources]) == dict.fromkeys(NAMES, 2)
    assert set(steps[of_sources:-of_merge]) == {"shard_profiles"}
    assert steps[-of_merge:] == ["merged_profiles"] * 2
    assert events[-1].record_count == 41
    for name in [*NAMES, *(f"shard_{number:02d}" for number in range(5))]:
        assert statuses(events, name) == [("running", 1), ("succeeded", 1)]
    assert statuses(events, "merged_profiles") == [("running", None), ("succeeded", None)]


def test_a_failed_merge_is_reported_with_its_error(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(28, "No space left on device")

    def no_space(*_: object, **__: object) -> Merged:
        raise error

    monkeypatch.setattr(merge, "merge_shards", no_space)
    report, events = run(settings, instance)
    assert report.merge_error is error
    assert (report.publication, report.is_warehouse_replaced) == (None, False)
    assert (events[-1].step, events[-1].status) == ("merged_profiles", Status.FAILED)


def break_warehouse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a merge publish a score that is out of its range."""
    merge_shards = merge.merge_shards

    def broken(site: Site, *args: Any, **options: Any) -> Merged:
        merged = merge_shards(site, *args, **options)
        alter(site.home.warehouse, "UPDATE merged_profiles SET health_score = 101 WHERE customer_id = 'c1'")
        return merged

    monkeypatch.setattr(merge, "merge_shards", broken)


def test_a_source_that_is_staged_during_the_checks_is_merged_again(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: another run that stages its exports ends this one, which had nothing left to do, in an error."""
    run(settings, instance)

    def staged_meanwhile(*_: object) -> list[Finding]:
        raise SourceChangedError("Source 'crm' was staged again meanwhile.", subject="crm")

    report, _ = run(settings, instance)
    assert report.is_unchanged
    monkeypatch.setattr("etl_assets.orchestration.run.check_warehouse", staged_meanwhile)
    report, _ = run(settings, instance)
    assert (report.ok, report.is_unchanged) == (True, False)


def test_what_was_refused_is_gone_when_the_exports_of_before_are_there_again(
    settings: Settings, instance: dg.DagsterInstance, sources: Path, tmp_path: Path, site: Site
) -> None:
    """Fails: rejected rows with their raw text stay, although the run ended with exit code 0."""
    settings = settings.model_copy(update={"max_reject_ratio": 0.1})
    folder, others = site.home.staged / "billing", tmp_path / "others"
    others.mkdir()
    for name in ("crm", "product", "support"):
        # The same files, so that only billing is another export there.
        (others / f"{name}.csv").hardlink_to(sources / f"{name}.csv")
    run(settings, instance)
    (good,) = (one for one in folder.iterdir() if one.is_dir())
    write_csv(others / "billing.csv", BILLING, [row("a", mrr="many"), row("b")])
    report, _ = run(settings.model_copy(update={"sources": others}), instance)
    assert report.failed_sources == ["billing"]
    refused = {one.name for one in folder.iterdir()} - {good.name, "current.json", "refused.json"}
    assert len(refused) == 1
    before = runs_of(instance, "billing")
    report, _ = run(settings, instance)
    assert (report.ok, runs_of(instance, "billing")) == (True, before)
    assert {one.name for one in folder.iterdir()} == {good.name, "current.json"}


def test_a_warehouse_that_fails_a_check_is_no_success(
    settings: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the exit code says 0 while the UI shows a red check."""
    break_warehouse(monkeypatch)
    report, _ = run(settings, instance)
    assert not report.ok
    assert report.failed_checks == ("profiles_as_declared",)
    assert report.publication is not None
