"""What starts runs by itself: when the merge is asked for, and when it is not."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

# Where Dagster works out when a schedule ticks has no public name.
from dagster._utils.schedules import cron_string_iterator

from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts, checks
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published.attempts import Status
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import merge
from etl_assets.engine.steps import stage as staging
from etl_assets_tests.dagster_runs import CodeLocation, failure_text, settings_for
from etl_assets_tests.factory import LIMITS, build_shard, row, stage_all, write_exports


@pytest.fixture
def project(sources: Path, home: Home) -> Iterator[CodeLocation]:
    write_exports(sources, crm=[row(name) for name in "abcdefgh"], billing=[row("a"), row("z")])
    with dg.DagsterInstance.ephemeral() as instance:
        yield CodeLocation(settings_for(sources, home), instance)


@pytest.fixture
def complete(project: CodeLocation) -> CodeLocation:
    """All shards are published, the merge is not: by the engine, for the sensors look at what is published."""
    stage(project)
    for shard_id in shard_keys(3):
        rebuild(project, shard_id)
    return project


def stage(project: CodeLocation) -> None:
    stage_all(project.settings.staging_request())


def rebuild(project: CodeLocation, shard_id: str, run_id: str = "built") -> None:
    """Publish a shard anew, as an attempt that is on record."""
    home = project.settings.home
    begun = attempts.start(home, shard_id, run_id, 1)
    made = build_shard(home, shard.shard_input(home, shard_id, 3), run_id=run_id, attempt=1)
    attempts.finish(home, begun, Status.SUCCEEDED, record_count=made.record_count)


def tick(project: CodeLocation, cursor: str | None = None) -> tuple[dg.RunRequest | None, str, str | None]:
    """One look of `publish_when_complete`: the request, or why there is none, and the cursor after it."""
    context = dg.build_sensor_context(instance=project.instance, cursor=cursor)
    sensor = project.defs.get_repository_def().get_sensor_def("publish_when_complete")
    answer: Any = sensor(context)
    if isinstance(answer, dg.SkipReason):
        return None, answer.skip_message or "", context.cursor
    assert isinstance(answer, dg.RunRequest)
    return answer, "", context.cursor


def _ended_pid() -> int:
    """A process id that nobody has any more."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


def merge_job(project: CodeLocation) -> dg.JobDefinition:
    """The job of the sensor, made of its target."""
    repository = project.defs.get_repository_def()
    return repository.get_job(repository.get_sensor_def("publish_when_complete").job_name)


def run_merge(project: CodeLocation, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """Do what the daemon does with a request of the sensor: run the sensor's own job with the request's tags."""
    return merge_job(project).execute_in_process(
        instance=project.instance, tags={**request.tags, "dagster/run_key": str(request.run_key)}, raise_on_error=False
    )


class TestTheMerge:
    def test_is_not_asked_for_before_the_sources_are_staged(self, project: CodeLocation) -> None:
        request, reason, _ = tick(project)
        assert request is None
        assert "not staged" in reason

    def test_is_not_asked_for_while_a_shard_is_missing(self, complete: CodeLocation) -> None:
        complete.settings.home.shard_file("shard_01").unlink()
        request, reason, _ = tick(complete)
        assert request is None
        assert "1 of 3 shards are not ready: shard_01 missing" in reason
        assert "Reload" not in reason

    def test_is_not_asked_for_while_shards_are_of_other_code_and_it_says_what_to_click(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: who edits a score while the UI runs builds all shards anew, and never learns why nothing is merged."""
        monkeypatch.setattr("etl_assets.engine.steps.build.code_version", lambda: "edited")
        request, reason, _ = tick(complete)
        assert request is None
        assert "shard_00 built by another code version" in reason
        assert reason.endswith("If you have changed it: Reload definitions")

    def test_is_not_asked_for_while_a_shard_is_damaged(self, complete: CodeLocation) -> None:
        complete.settings.home.shard_file("shard_01").write_bytes(b"nonsense")
        request, reason, _ = tick(complete)
        assert request is None
        assert "shard_01 damaged" in reason

    def test_is_not_asked_for_while_shards_are_of_older_sources(self, complete: CodeLocation, sources: Path) -> None:
        """Fails: a warehouse in which some customers are of today and some of yesterday."""
        write_exports(sources, crm=[row(name, email="new@x.example") for name in "abcdefgh"], billing=[row("a")])
        stage(complete)
        request, reason, _ = tick(complete)
        assert request is None
        assert "built from other source data" in reason

    def test_is_not_asked_for_while_a_shard_is_being_built(self, complete: CodeLocation) -> None:
        attempts.start(complete.settings.home, "shard_02", "run", 1)
        request, reason, _ = tick(complete)
        assert request is None
        assert "Being built right now: shard_02" in reason

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    def test_is_not_asked_for_after_a_failed_attempt(self, complete: CodeLocation, status: Status) -> None:
        begun = attempts.start(complete.settings.home, "shard_02", "run", 1)
        attempts.finish(complete.settings.home, begun, status, error="no")
        request, reason, _ = tick(complete)
        assert request is None
        assert f"shard_02 {status}" in reason

    def test_is_not_asked_for_after_an_attempt_that_was_killed(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The shard before the kill would be merged as if it were the one that was asked for."""
        with monkeypatch.context() as patch:
            patch.setattr(storage, "this_process", lambda: (socket.gethostname(), _ended_pid(), "0"))
            attempts.start(complete.settings.home, "shard_02", "run", 1)
        request, reason, _ = tick(complete)
        assert request is None
        assert "shard_02 killed" in reason
        rebuild(complete, "shard_02", "healed")
        request, _, _ = tick(complete)
        assert request is not None

    def test_is_asked_for_when_what_stood_in_the_way_is_gone_and_nothing_was_published(
        self, complete: CodeLocation
    ) -> None:
        """An attempt that ends by reusing the shard publishes nothing: the merge would be waited for in vain."""
        begun = attempts.start(complete.settings.home, "shard_02", "run", 1)
        request, _, cursor = tick(complete)
        assert request is None
        attempts.finish(complete.settings.home, begun, Status.REUSED)
        request, _, _ = tick(complete, cursor)
        assert request is not None

    def test_is_asked_for_although_an_earlier_attempt_failed(self, complete: CodeLocation) -> None:
        begun = attempts.start(complete.settings.home, "shard_02", "run", 1)
        attempts.finish(complete.settings.home, begun, Status.FAILED, error="no")
        rebuild(complete, "shard_02", "later")
        request, _, _ = tick(complete)
        assert request is not None

    def test_is_asked_for_after_a_partial_one_when_the_set_is_complete(self, complete: CodeLocation) -> None:
        """A partial warehouse, published by hand, would stay although the rest has arrived."""
        home = complete.settings.home
        home.shard_file("shard_01").unlink()
        merge.merge_shards(home, 3, LIMITS, run_id="by hand", allow_partial=True)
        request, reason, cursor = tick(complete)
        assert request is None
        assert "shard_01 missing" in reason
        rebuild(complete, "shard_01")
        request, _, _ = tick(complete, cursor)
        assert request is not None

    def test_is_asked_for_when_somebody_removed_the_warehouse(self, complete: CodeLocation) -> None:
        request, _, _ = tick(complete)
        assert request is not None
        assert run_merge(complete, request).success
        _, _, cursor = tick(complete)
        complete.settings.home.warehouse.unlink()
        again, _, _ = tick(complete, cursor)
        assert again is not None
        assert again.run_key != request.run_key

    def test_that_was_overtaken_by_a_shard_is_asked_for_again(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What lands during a merge is lost until somebody notices (dagster#33587)."""
        merge_shards = merge.merge_shards

        def overtaken(*args: Any, **options: Any) -> merge.Publication:
            published = merge_shards(*args, **options)
            rebuild(complete, "shard_01", "meanwhile")
            return published

        first, _, cursor = tick(complete)
        assert first is not None
        with monkeypatch.context() as patch:
            patch.setattr(merge, "merge_shards", overtaken)
            assert run_merge(complete, first).success
        second, _, _ = tick(complete, cursor)
        assert second is not None
        assert second.run_key != first.run_key
        assert run_merge(complete, second).success
        third, reason, _ = tick(complete)
        assert third is None
        assert "already holds" in reason

    def test_is_asked_for_once_with_its_checks_when_the_set_is_complete(self, complete: CodeLocation) -> None:
        request, _, _ = tick(complete)
        assert request is not None
        found = shardset.inspect_shards(complete.settings.home, 3)
        assert request.run_key == f"{found.set_hash}:0"
        result = run_merge(complete, request)
        assert result.success, failure_text(result)
        # The merge with its checks, and not one shard or source built again.
        made = [event.asset_key for event in result.all_events if event.is_step_materialization]
        assert made == [dg.AssetKey("merged_profiles")]
        assert {check.check_name for check in result.get_asset_check_evaluations()} == {
            check.name for check in checks.WAREHOUSE_CHECKS
        }
        after, reason, cursor = tick(complete)
        assert after is None
        assert "already holds this set of 3 shards" in reason
        again, reason, _ = tick(complete, cursor)
        assert again is None
        assert reason == "Nothing has been published since the last look."

    def test_is_asked_for_again_when_a_shard_was_built_anew(self, complete: CodeLocation) -> None:
        first, _, _ = tick(complete)
        assert first is not None
        assert run_merge(complete, first).success
        _, _, cursor = tick(complete)
        rebuild(complete, "shard_01", "later")
        second, _, _ = tick(complete, cursor)
        assert second is not None
        assert second.run_key != first.run_key

    def test_is_not_asked_for_while_it_is_under_way(self, complete: CodeLocation) -> None:
        job = complete.defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection={dg.AssetKey("merged_profiles")}
        )
        run = complete.instance.create_run_for_job(
            job, asset_selection={dg.AssetKey("merged_profiles")}, status=dg.DagsterRunStatus.STARTED
        )
        request, reason, _ = tick(complete)
        assert request is None
        assert run.run_id in reason

    @pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
    def test_is_not_asked_for_while_the_run_it_was_asked_for_is_under_way(
        self, complete: CodeLocation, status: dg.DagsterRunStatus
    ) -> None:
        """A merge that takes longer than the ten seconds to the next look is started again and again."""
        first, _, _ = tick(complete)
        assert first is not None
        # By name, so that the page of runs shows what it makes.
        assert first.asset_selection == [dg.AssetKey("merged_profiles")]
        run = complete.instance.create_run_for_job(merge_job(complete), tags=dict(first.tags), status=status)
        request, reason, _ = tick(complete)
        assert request is None
        assert reason == f"Run {run.run_id} is merging."

    def test_is_given_up_after_three_failures_of_the_same_set(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: a merge that cannot succeed is started every ten seconds for ever."""

        def no_space(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        keys = []
        with monkeypatch.context() as patch:
            patch.setattr(merge, "merge_shards", no_space)
            for _ in range(3):
                request, _, _ = tick(complete)
                assert request is not None
                keys.append(request.run_key)
                assert not run_merge(complete, request).success
        assert len(set(keys)) == 3
        request, reason, _ = tick(complete)
        assert request is None
        assert "failed 3 times" in reason


def test_a_warehouse_that_was_removed_is_merged_again_however_often(complete: CodeLocation) -> None:
    """Fails: after the third removal the sensor says that the merge failed, and nothing is published any more."""
    for _ in range(4):
        request, reason, _ = tick(complete)
        assert request is not None, reason
        assert run_merge(complete, request).success
        complete.settings.home.warehouse.unlink()


def test_after_a_refresh_only_the_shards_whose_data_changed_are_rebuilt(complete: CodeLocation, sources: Path) -> None:
    """Fails: a change of one customer rebuilds everything, or nothing."""
    write_exports(
        sources,
        crm=[row(name, **({"email": "new@x.example"} if name == "a" else {})) for name in "abcdefgh"],
        billing=[row("a"), row("z")],
    )
    requests = after_refresh(complete)
    stale = list(shardset.inspect_shards(complete.settings.home, 3).problems)
    assert len(stale) == 1
    assert [request.partition_key for request in requests] == stale
    # Heard of twice, the refresh still causes one run a shard.
    assert [request.run_key.endswith(f":{shard_id}") for request, shard_id in zip(requests, stale, strict=True)] == [
        True
    ]


def after_refresh(project: CodeLocation) -> list[Any]:
    """Run the job `refresh_sources`; what `rebuild_stale_shards` answers to its success."""
    result = project.defs.resolve_job_def("refresh_sources").execute_in_process(instance=project.instance)
    assert result.success
    context = dg.build_run_status_sensor_context(
        sensor_name="rebuild_stale_shards",
        dagster_event=result.get_run_success_event(),
        dagster_instance=project.instance,
        dagster_run=result.dagster_run,
    )
    sensor: Any = project.defs.get_repository_def().get_sensor_def("rebuild_stale_shards")
    return list(sensor(context))


def test_a_refresh_that_changed_nothing_rebuilds_nothing(complete: CodeLocation) -> None:
    """The daily refresh costs a whole rebuild a day."""
    (answer,) = after_refresh(complete)
    assert isinstance(answer, dg.SkipReason)
    assert answer.skip_message == "Every shard is current."


def test_the_first_refresh_asks_for_every_shard_once(project: CodeLocation) -> None:
    requests = after_refresh(project)
    assert [request.partition_key for request in requests] == shard_keys(3)
    assert len({request.run_key for request in requests}) == 3


def test_a_refresh_of_some_sources_while_others_were_never_staged_is_told_and_asks_for_nothing(
    project: CodeLocation,
) -> None:
    """A red sensor in the UI for what is only not complete yet."""
    result = project.run("crm")
    assert result.success
    context = dg.build_run_status_sensor_context(
        sensor_name="rebuild_stale_shards",
        dagster_event=result.get_run_success_event(),
        dagster_instance=project.instance,
        dagster_run=result.dagster_run,
    )
    sensor: Any = project.defs.get_repository_def().get_sensor_def("rebuild_stale_shards")
    (answer,) = sensor(context)
    assert isinstance(answer, dg.SkipReason)
    assert "billing, product, support not staged" in (answer.skip_message or "")


class TestChangedExports:
    def look(self, project: CodeLocation, cursor: str | None) -> tuple[Any, str | None]:
        context = dg.build_sensor_context(instance=project.instance, cursor=cursor)
        sensor = project.defs.get_repository_def().get_sensor_def("refresh_when_exports_change")
        return sensor(context), context.cursor

    def test_that_are_not_changed_are_left_alone(self, project: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
        stage(project)
        answer, cursor = self.look(project, None)
        assert answer.skip_message == "The exports are as they were when they were staged."
        assert cursor is None

    def test_are_named(self, project: CodeLocation, sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
        stage(project)
        (sources / "support.csv").touch()
        answer, _ = self.look(project, None)
        assert answer.skip_message == "Changed: support. Waiting until the files are left alone."

    def test_are_refreshed_once_they_are_left_alone(self, project: CodeLocation, sources: Path) -> None:
        """Fails: an export is read while it is still being written."""
        first, cursor = self.look(project, None)
        assert "Waiting until the files are left alone" in first.skip_message
        (sources / "crm.csv").write_text((sources / "crm.csv").read_text() + "x")
        still, cursor = self.look(project, cursor)
        assert "Waiting" in still.skip_message
        quiet, cursor = self.look(project, cursor)
        assert isinstance(quiet, dg.RunRequest)
        again, _ = self.look(project, cursor)
        # Dagster starts one run a key.
        assert again.run_key == quiet.run_key

    def test_that_are_missing_are_told(self, project: CodeLocation, sources: Path) -> None:
        (sources / "crm.csv").unlink()
        answer, _ = self.look(project, None)
        assert "No export of source 'crm'" in answer.skip_message


def test_the_daily_refresh_runs_the_refresh_at_five(project: CodeLocation) -> None:
    (schedule,) = project.defs.get_repository_def().schedule_defs
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == "refresh_sources"
    after = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()
    ticks = cron_string_iterator(after, str(schedule.cron_schedule), schedule.execution_timezone)
    assert next(ticks) == datetime(2026, 11, 2, 5, tzinfo=UTC)
