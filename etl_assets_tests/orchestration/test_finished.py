"""Which shards a run of everything leaves out, and in which ranges it runs the others."""

from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts
from etl_assets.engine.published.status import Status
from etl_assets.engine.steps import stage as staging
from etl_assets.orchestration.finished import ranges
from etl_assets.orchestration.run import run_pipeline
from etl_assets.pipeline.configuration import site_of
from etl_assets.pipeline.events import StepEvent
from etl_assets.pipeline.report import Report
from etl_assets.project.settings import Settings
from etl_assets_tests.dagster_runs import settings_for
from etl_assets_tests.factory import PROJECT, row, write_exports

KNOWN = [f"shard_{number:02d}" for number in range(40)]


def names(*numbers: int) -> list[str]:
    return [KNOWN[number] for number in numbers]


@pytest.mark.parametrize(
    ("wanted", "between", "expected"),
    [
        ([], [], []),
        ([3], [], [[3]]),
        ([0, 1, 2], [], [[0, 1, 2]]),
        ([0, 2], [], [[0], [2]]),
        # A run for each would take longer than to report the finished ones between them.
        ([0, 2], [1], [[0, 1, 2]]),
        ([0, 11], range(1, 11), [list(range(12))]),
        ([0, 12], range(1, 12), [[0], [12]]),
        # What is not finished and was not asked for is not built.
        ([0, 3], [1], [[0], [3]]),
        ([5, 39], range(6, 39), [[5], [39]]),
    ],
)
def test_shards_are_run_in_as_few_ranges_as_pays(
    wanted: list[int], between: list[int], expected: list[list[int]]
) -> None:
    """Fails: a run of two shards starts a run for each, or builds shards that nobody asked for."""
    assert ranges(names(*wanted), KNOWN, names(*between)) == [names(*part) for part in expected]


@pytest.fixture
def settings(sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # The exports of a test are younger than a second when they are staged.
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    write_exports(sources, crm=[row(f"c{number}") for number in range(40)], billing=[row("c1"), row("z")])
    return settings_for(sources, home, 5)


def run(settings: Settings, instance: dg.DagsterInstance) -> tuple[Report, dict[str, StepEvent]]:
    """Run the pipeline; returns its report, and the last event of each shard."""
    events: dict[str, StepEvent] = {}

    def note(event: StepEvent) -> None:
        if event.shard_id:
            events[event.shard_id] = event

    report = run_pipeline(site_of(PROJECT, settings), settings, instance=instance, on_event=note)
    return report, events


def asked_for(instance: dg.DagsterInstance) -> Sequence[str]:
    """The first and the last shard of the latest run of shards."""
    tags = next(
        found.tags for found in instance.get_runs() if dg.AssetKey("shard_profiles") in (found.asset_selection or ())
    )
    return [tags["dagster/asset_partition_range_start"], tags["dagster/asset_partition_range_end"]]


def test_a_run_after_the_loss_of_one_shard_runs_that_shard_and_tells_of_all(
    settings: Settings, instance: dg.DagsterInstance, home: Home
) -> None:
    """Fails: the repair of one shard of a thousand reports a thousand, which takes half a minute."""
    first, _ = run(settings, instance)
    home.shard_file("shard_02").unlink()
    report, events = run(settings, instance)
    assert asked_for(instance) == ["shard_02", "shard_02"]
    expected = dict.fromkeys(site_of(PROJECT, settings).shard_ids, Status.REUSED) | {"shard_02": Status.SUCCEEDED}
    assert {found.shard_id: found.status for found in report.shards} == expected
    assert {name: event.status for name, event in events.items()} == expected
    assert [found.record_count for found in report.shards] == [found.record_count for found in first.shards]
    assert report.publication is not None
    assert first.publication is not None
    assert report.publication.digest == first.publication.digest


def test_a_shard_whose_rows_are_not_those_of_its_manifest_is_built_again(
    settings: Settings, instance: dg.DagsterInstance, home: Home
) -> None:
    """Fails: a bad disk has changed a shard, its size is the same, and the run takes it for finished."""
    run(settings, instance)
    path = home.shard_file("shard_01")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
    path.write_bytes(content)
    report, _ = run(settings, instance)
    assert [found.shard_id for found in report.shards if found.status is Status.SUCCEEDED] == ["shard_01"]


def test_a_shard_that_the_instance_does_not_know_is_reported_again(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Fails: after `dagster asset wipe` the UI shows shards that were never materialized, for ever."""
    run(settings, instance)
    with dg.DagsterInstance.ephemeral() as other:
        report, _ = run(settings, other)
        assert report.ok
        known = other.get_materialized_partitions(dg.AssetKey("shard_profiles"))
    assert known == set(site_of(PROJECT, settings).shard_ids)


def test_a_shard_whose_latest_attempt_was_killed_gets_one_that_succeeds(
    settings: Settings, instance: dg.DagsterInstance, home: Home
) -> None:
    """Fails: the sensor waits for ever for the shard, which is published, to be materialized again."""
    run(settings, instance)
    begun = attempts.start(home, "shard_03", "a-run", 1)
    attempts.finish(home, begun, Status.FAILED, error="a full disk")
    run(settings, instance)
    assert asked_for(instance) == ["shard_03", "shard_03"]
    latest = attempts.latest_attempts(home, ["shard_03"])
    assert [attempt.status for attempt in latest] == [Status.REUSED]
