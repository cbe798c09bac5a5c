"""The sensor `publish_when_complete`: when it asks for the merge, and when it does not."""

import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine.published import attempts
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.engine.published.restored import release
from etl_assets.engine.published.shards import inspect_shards
from etl_assets.engine.published.status import Status
from etl_assets.engine.steps import merge
from etl_assets.engine.steps.merge import Merged
from etl_assets.engine.steps.restoring import restore
from etl_assets.project.loading import Project
from etl_assets_tests.dagster_runs import CodeLocation, failure_text
from etl_assets_tests.factory import LIMITS, PROJECT, row, write_exports
from etl_assets_tests.orchestration.engine_runs import rebuild, stage

MERGED = dg.AssetKey("merged_profiles")


@pytest.fixture
def complete(location: CodeLocation) -> CodeLocation:
    """All shards are published, by the engine; the merge is not."""
    stage(location)
    for shard_id in location.site.shard_ids:
        rebuild(location, shard_id)
    return location


def tick(location: CodeLocation, cursor: str | None = None) -> tuple[dg.RunRequest | None, str, str | None]:
    """One look of the sensor: the request, or why there is none, and the cursor after it."""
    context = dg.build_sensor_context(instance=location.instance, cursor=cursor)
    sensor = location.defs.get_repository_def().get_sensor_def("publish_when_complete")
    answer: Any = sensor(context)
    if isinstance(answer, dg.SkipReason):
        return None, answer.skip_message or "", context.cursor
    assert isinstance(answer, dg.RunRequest)
    return answer, "", context.cursor


def asked(location: CodeLocation, cursor: str | None = None) -> dg.RunRequest:
    """The request of a look that asks for the merge."""
    request, reason, _ = tick(location, cursor)
    assert request is not None, reason
    return request


def refused(location: CodeLocation, cursor: str | None = None) -> str:
    """Why a look does not ask for it."""
    request, reason, _ = tick(location, cursor)
    assert request is None
    return reason


def test_over_a_restored_warehouse_it_is_not_asked_for_until_that_is_released(
    complete: CodeLocation, sources: Path
) -> None:
    """Fails: five seconds after a bad publication was undone, it is published again."""
    site = complete.site
    merge.merge_shards(site, LIMITS, run_id="good", keep_count=3)
    write_exports(sources, crm=[row("only")])
    stage(complete)
    for shard_id in site.shard_ids:
        rebuild(complete, shard_id)
    merge.merge_shards(site, LIMITS, run_id="bad", keep_count=3)
    restore(site.home, LIMITS, None, 3)
    assert "was restored at " in refused(complete)
    result = complete.run("merged_profiles")
    assert not result.success
    assert "is held. Nothing is merged over it." in failure_text(result)
    release(site.home)
    assert asked(complete).asset_selection == [MERGED]


def merge_job(location: CodeLocation) -> dg.JobDefinition:
    """The job of the sensor, made of its target."""
    repository = location.defs.get_repository_def()
    name = repository.get_sensor_def("publish_when_complete").job_name
    assert name is not None
    return repository.get_job(name)


def run_merge(location: CodeLocation, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """Do what the daemon does: run the selected part of the sensor's own job with the request's tags."""
    job = merge_job(location).get_subset(
        asset_selection=set(request.asset_selection or ()),
        asset_check_selection=None if request.asset_check_keys is None else set(request.asset_check_keys),
    )
    return job.execute_in_process(
        instance=location.instance,
        tags={**request.tags, "dagster/run_key": str(request.run_key)},
        raise_on_error=False,
    )


def fail(location: CodeLocation, shard_id: str, status: Status = Status.FAILED) -> Attempt:
    """Put an attempt without a result on record."""
    begun = attempts.start(location.site.home, shard_id, "run", 1)
    return attempts.finish(location.site.home, begun, status, error="no")


def test_what_it_asks_for_brings_the_checks_and_builds_nothing_else(complete: CodeLocation) -> None:
    """Fails: what the sensor publishes was never checked, or every source and shard is made a second time."""
    request = asked(complete)
    assert request.run_key == f"{inspect_shards(complete.site).set_hash}:0"
    # By name, so that the page of runs shows what the run makes.
    assert request.asset_selection == [MERGED]
    result = run_merge(complete, request)
    assert result.success, failure_text(result)
    assert [event.asset_key for event in result.all_events if event.is_step_materialization] == [MERGED]
    checked = {check.check_name for check in result.get_asset_check_evaluations()}
    assert checked == {check.name for check in warehouse_checks(PROJECT)}
    _, reason, cursor = tick(complete)
    assert "already holds this set of 3 shards" in reason
    assert refused(complete, cursor) == "Nothing has been published since the last poll."


class TestIsNotAskedFor:
    def test_before_the_sources_are_staged(self, location: CodeLocation) -> None:
        reason = refused(location)
        assert "not staged" in reason
        # Fails: of two folders that a relative path may mean, no one knows which were looked at.
        site = location.site
        assert f"in ETL_HOME, {site.home.root}; their exports are read from ETL_SOURCES, {site.exports}." in reason
        assert site.exports is not None
        assert reason.endswith("Materialize the assets of the group 'sources' first.")

    def test_while_a_shard_is_missing(self, complete: CodeLocation) -> None:
        complete.site.home.shard_file("shard_01").unlink()
        assert refused(complete) == "1 of 3 shards are not ready: shard_01 missing"

    def test_while_a_shard_has_no_manifest_yet(self, complete: CodeLocation) -> None:
        """Fails: a shard whose process was killed between its file and its manifest is merged."""
        complete.site.home.manifest("shard_01").unlink()
        assert refused(complete) == "1 of 3 shards are not ready: shard_01 missing"

    def test_while_shards_are_of_another_version_and_it_says_what_to_click(self, complete: CodeLocation) -> None:
        """Fails: after an edit of a score while the UI runs all shards are built and none is merged, without a reason.

        The process of the code location keeps the project that it loaded, while runs load it again.
        """
        edited = Project(PROJECT.contract, PROJECT.profiles_sql + " WHERE true", PROJECT.macros)
        reason = refused(CodeLocation(complete.settings, complete.instance, project=edited))
        assert "shard_00 built by another version of the project" in reason
        assert reason.endswith("If you have changed the project: Reload definitions")

    def test_while_a_shard_is_damaged(self, complete: CodeLocation) -> None:
        complete.site.home.shard_file("shard_01").write_bytes(b"nonsense")
        assert "shard_01 damaged" in refused(complete)

    def test_while_shards_are_of_older_sources(self, complete: CodeLocation, sources: Path) -> None:
        """Fails: a warehouse in which some customers are of today and some of yesterday."""
        write_exports(sources, crm=[row(name, email="new@x.example") for name in "abcdef"], billing=[row("a")])
        stage(complete)
        reason = refused(complete)
        assert "built from other source data" in reason
        assert "Reload" not in reason

    def test_while_a_shard_is_being_built(self, complete: CodeLocation) -> None:
        attempts.start(complete.site.home, "shard_02", "run", 1)
        assert refused(complete) == "Being built right now: shard_02"

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    def test_after_a_failed_attempt(self, complete: CodeLocation, status: Status) -> None:
        fail(complete, "shard_02", status)
        assert f"shard_02 {status}" in refused(complete)

    def test_after_an_attempt_that_was_killed(self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fails: the shard before the kill is merged as if it were the one that was asked for."""
        with monkeypatch.context() as patch:
            patch.setattr(attempts, "this_process", lambda: (socket.gethostname(), _ended_pid(), "0"))
            attempts.start(complete.site.home, "shard_02", "run", 1)
        assert "shard_02 killed" in refused(complete)
        rebuild(complete, "shard_02", "healed")
        asked(complete)

    def test_while_it_is_under_way(self, complete: CodeLocation) -> None:
        job = complete.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={MERGED})
        run = complete.instance.create_run_for_job(job, asset_selection={MERGED}, status=dg.DagsterRunStatus.STARTED)
        assert run.run_id in refused(complete)

    @pytest.mark.parametrize("status", [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTED])
    def test_while_the_run_it_was_asked_for_is_under_way(
        self, complete: CodeLocation, status: dg.DagsterRunStatus
    ) -> None:
        """Fails: a merge that takes longer than the few seconds to the next look is started again and again."""
        tags = dict(asked(complete).tags)
        run = complete.instance.create_run_for_job(merge_job(complete), tags=tags, status=status)
        assert refused(complete) == f"Run {run.run_id} is merging."

    def test_after_three_failures_of_the_same_set(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: a merge that cannot succeed is started every few seconds for ever."""

        def no_space(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        keys = []
        with monkeypatch.context() as patch:
            patch.setattr(merge, "merge_shards", no_space)
            for _ in range(3):
                request = asked(complete)
                keys.append(request.run_key)
                assert not run_merge(complete, request).success
        assert len(set(keys)) == 3
        assert "failed 3 times" in refused(complete)


def _ended_pid() -> int:
    """The id of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


class NextYear(datetime):
    """A clock that is wrong."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "NextYear":
        return cls.fromtimestamp(time.time(), tz) + timedelta(days=365)


class TestIsAskedFor:
    def test_although_this_set_failed_three_times_before_it_was_merged(self, complete: CodeLocation) -> None:
        """Fails: the exports of an earlier day come back, and failures of that day hold their merge for ever."""
        status = dg.DagsterRunStatus
        for was in (*[status.FAILURE] * 2, status.SUCCESS, status.FAILURE, status.CANCELED):
            complete.instance.create_run_for_job(merge_job(complete), tags=dict(asked(complete).tags), status=was)
        request = asked(complete)
        complete.instance.create_run_for_job(merge_job(complete), tags=dict(request.tags), status=status.FAILURE)
        assert "failed 3 times" in refused(complete)

    def test_when_an_obstacle_is_gone_and_nothing_was_published(self, complete: CodeLocation) -> None:
        """Fails: after an attempt that ends by reusing the shard, which publishes nothing, the merge never comes."""
        begun = attempts.start(complete.site.home, "shard_02", "run", 1)
        request, _, cursor = tick(complete)
        assert request is None
        attempts.finish(complete.site.home, begun, Status.REUSED)
        asked(complete, cursor)

    def test_although_an_earlier_attempt_failed(self, complete: CodeLocation) -> None:
        fail(complete, "shard_02")
        rebuild(complete, "shard_02", "later")
        asked(complete)

    def test_although_an_earlier_attempt_that_failed_is_dated_in_the_future(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: after the clock was wrong for a moment, nothing is merged until that day."""
        with monkeypatch.context() as patch:
            patch.setattr(attempts, "datetime", NextYear)
            assert fail(complete, "shard_02").started_at > datetime.now(UTC).isoformat()
        assert "shard_02 failed" in refused(complete)
        rebuild(complete, "shard_02", "later")
        asked(complete)

    def test_after_a_partial_one_when_the_set_is_complete(self, complete: CodeLocation) -> None:
        """Fails: a partial warehouse, published by hand, stays although the rest has arrived."""
        complete.site.home.shard_file("shard_01").unlink()
        merge.merge_shards(complete.site, LIMITS, run_id="by hand", allow_partial=True)
        _, reason, cursor = tick(complete)
        assert "shard_01 missing" in reason
        rebuild(complete, "shard_01")
        asked(complete, cursor)

    def test_when_someone_removed_the_warehouse_however_often(self, complete: CodeLocation) -> None:
        """Fails: after the third removal the sensor says that the merge failed, and nothing is published any more."""
        keys, cursor = set(), None
        for _ in range(4):
            request = asked(complete, cursor)
            keys.add(request.run_key)
            assert run_merge(complete, request).success
            _, _, cursor = tick(complete)
            assert cursor is not None
            complete.site.home.warehouse.unlink()
        assert len(keys) == 4

    def test_again_when_a_shard_was_rebuilt(self, complete: CodeLocation) -> None:
        first = asked(complete)
        assert run_merge(complete, first).success
        _, _, cursor = tick(complete)
        rebuild(complete, "shard_01", "later")
        assert asked(complete, cursor).run_key != first.run_key

    def test_again_when_a_shard_overtook_it(self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fails: a shard that is published during a merge is missing until a person notices (dagster#33587)."""
        merge_shards = merge.merge_shards

        def overtaken(*args: Any, **options: Any) -> Merged:
            merged = merge_shards(*args, **options)
            rebuild(complete, "shard_01", "meanwhile")
            return merged

        first, _, cursor = tick(complete)
        assert first is not None
        with monkeypatch.context() as patch:
            patch.setattr(merge, "merge_shards", overtaken)
            assert run_merge(complete, first).success
        second = asked(complete, cursor)
        assert second.run_key != first.run_key
        assert run_merge(complete, second).success
        assert "already holds" in refused(complete)


class TestWhileShardsAreBuilt:
    """The last one may be done before the daemon asks again."""

    def test_the_merge_is_asked_for_in_the_same_look(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: the merge comes up to 5 s later."""
        home = complete.site.home
        begun = [attempts.start(home, shard_id, "a-run", 1) for shard_id in ("shard_01", "shard_02")]
        pauses: list[float] = []

        def build(seconds: float) -> None:
            pauses.append(seconds)
            attempts.finish(home, begun.pop(), Status.SUCCEEDED)

        monkeypatch.setattr(time, "sleep", build)
        asked(complete)
        assert len(pauses) == 2

    def test_a_look_between_two_runs_of_a_backfill_waits_too(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: no shard is being built at this very moment, others are queued, and the merge comes 5 s late."""
        key = dg.AssetKey("shard_profiles")
        job = complete.defs.resolve_implicit_global_asset_job_def().get_subset(asset_selection={key})
        run = complete.instance.create_run_for_job(
            job,
            asset_selection=frozenset({key}),
            status=dg.DagsterRunStatus.STARTED,
        )
        complete.site.home.shard_file("shard_01").unlink()

        def build(_: float) -> None:
            rebuild(complete, "shard_01")
            complete.instance.report_run_canceled(run)

        monkeypatch.setattr(time, "sleep", build)
        asked(complete)

    def test_the_look_ends_before_the_next_one(self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fails: the daemon waits for a shard that takes hours, and gives the sensor up."""
        attempts.start(complete.site.home, "shard_01", "a-run", 1)
        clock = iter(range(0, 1000, 1))
        monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
        monkeypatch.setattr(time, "sleep", lambda _: None)
        assert "Being built right now: shard_01" in refused(complete)
        assert next(clock) < 10

    def test_a_look_at_shards_at_rest_does_not_wait(
        self, complete: CodeLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: every look of an idle daemon takes four seconds of a thread."""
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited"))
        rebuild(complete, "shard_01")
        asked(complete)
        complete.site.home.shard_file("shard_01").unlink()
        assert "shard_01 missing" in refused(complete)
