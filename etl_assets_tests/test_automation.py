"""What starts runs by itself: when the merge is asked for, and when it is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine import attempts, merge
from etl_assets.engine.attempts import Status
from etl_assets.engine.storage import Home
from etl_assets_tests.dagster_runs import Project, failure_text, settings_for
from etl_assets_tests.factory import row, write_exports


@pytest.fixture
def project(sources: Path, home: Home) -> Iterator[Project]:
    write_exports(sources, crm=[row(name) for name in "abcdefgh"], billing=[row("a"), row("z")])
    with dg.instance_for_test() as instance:
        yield Project(settings_for(sources, home), instance)


@pytest.fixture
def complete(project: Project) -> Project:
    """All shards are published, the merge is not."""
    assert project.stage().success
    assert project.build_all().success
    return project


def tick(project: Project, cursor: str | None = None) -> tuple[dg.RunRequest | None, str, str | None]:
    """One look of `publish_when_complete`: the request, or why there is none, and the cursor after it."""
    context = dg.build_sensor_context(instance=project.instance, cursor=cursor)
    sensor = project.defs.get_repository_def().get_sensor_def("publish_when_complete")
    answer: Any = sensor(context)
    if isinstance(answer, dg.SkipReason):
        return None, answer.skip_message or "", context.cursor
    assert isinstance(answer, dg.RunRequest)
    return answer, "", context.cursor


def run_merge(project: Project, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    return project.run("merged_profiles", tags=dict(request.tags))


class TestTheMerge:
    def test_is_not_asked_for_before_the_sources_are_staged(self, project: Project) -> None:
        request, reason, _ = tick(project)
        assert request is None
        assert "not staged" in reason

    def test_is_not_asked_for_while_a_shard_is_missing(self, complete: Project) -> None:
        complete.settings.home.shard_file("shard_01").unlink()
        request, reason, _ = tick(complete)
        assert request is None
        assert "1 of 3 shards are not ready: shard_01 missing" in reason

    def test_is_not_asked_for_while_a_shard_is_damaged(self, complete: Project) -> None:
        complete.settings.home.shard_file("shard_01").write_bytes(b"nonsense")
        request, reason, _ = tick(complete)
        assert request is None
        assert "shard_01 damaged" in reason

    def test_is_not_asked_for_while_shards_are_of_older_sources(self, complete: Project, sources: Path) -> None:
        """Fails: a warehouse in which some customers are of today and some of yesterday."""
        write_exports(sources, crm=[row(name, email="new@x.example") for name in "abcdefgh"], billing=[row("a")])
        assert complete.stage().success
        request, reason, _ = tick(complete)
        assert request is None
        assert "built from other source data" in reason

    def test_is_not_asked_for_while_a_shard_is_being_built(self, complete: Project) -> None:
        attempts.start(complete.settings.home, "shard_02", "run", 1)
        request, reason, _ = tick(complete)
        assert request is None
        assert "Being built right now: shard_02" in reason

    @pytest.mark.parametrize("status", [Status.FAILED, Status.CANCELLED])
    def test_is_not_asked_for_after_a_failed_attempt(self, complete: Project, status: Status) -> None:
        begun = attempts.start(complete.settings.home, "shard_02", "run", 1)
        attempts.finish(complete.settings.home, begun, status, error="no")
        request, reason, _ = tick(complete)
        assert request is None
        assert f"shard_02 {status}" in reason

    def test_is_asked_for_once_with_its_checks_when_the_set_is_complete(self, complete: Project) -> None:
        request, _, _ = tick(complete)
        assert request is not None
        found = merge.inspect_shards(complete.settings.home, 3)
        assert request.run_key == f"{found.set_hash}:0"
        result = run_merge(complete, request)
        assert result.success, failure_text(result)
        assert len(result.get_asset_check_evaluations()) == 5
        after, reason, cursor = tick(complete)
        assert after is None
        assert "already holds this set of 3 shards" in reason
        again, reason, _ = tick(complete, cursor)
        assert again is None
        assert reason == "Nothing has been published since the last look."

    def test_is_asked_for_again_when_a_shard_was_built_anew(self, complete: Project) -> None:
        first, _, _ = tick(complete)
        assert first is not None
        assert run_merge(complete, first).success
        _, _, cursor = tick(complete)
        built = complete.run("shard_profiles", partition="shard_01", config={"shard_profiles": {"force": True}})
        assert built.success
        second, _, _ = tick(complete, cursor)
        assert second is not None
        assert second.run_key != first.run_key

    def test_is_not_asked_for_while_it_is_under_way(self, complete: Project) -> None:
        job = complete.defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection={dg.AssetKey("merged_profiles")}
        )
        run = complete.instance.create_run_for_job(
            job, asset_selection={dg.AssetKey("merged_profiles")}, status=dg.DagsterRunStatus.STARTED
        )
        request, reason, _ = tick(complete)
        assert request is None
        assert run.run_id in reason

    def test_is_given_up_after_three_failures_of_the_same_set(
        self, complete: Project, monkeypatch: pytest.MonkeyPatch
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


def test_after_a_refresh_only_the_shards_whose_data_changed_are_rebuilt(complete: Project, sources: Path) -> None:
    """Fails: a change of one customer rebuilds everything, or nothing."""
    write_exports(
        sources,
        crm=[row(name, **({"email": "new@x.example"} if name == "a" else {})) for name in "abcdefgh"],
        billing=[row("a"), row("z")],
    )
    assert complete.stage().success
    repository = complete.defs.get_repository_def()
    job = repository.get_job("refresh_sources")
    result = job.execute_in_process(instance=complete.instance)
    assert result.success
    context = dg.build_run_status_sensor_context(
        sensor_name="rebuild_stale_shards",
        dagster_event=result.get_run_success_event(),
        dagster_instance=complete.instance,
        dagster_run=result.dagster_run,
    )
    requests = list(repository.get_sensor_def("rebuild_stale_shards")(context))  # type: ignore[call-overload]
    stale = list(merge.inspect_shards(complete.settings.home, 3).problems)
    assert len(stale) == 1
    assert [request.partition_key for request in requests] == stale


class TestChangedExports:
    def look(self, project: Project, cursor: str | None) -> tuple[Any, str | None]:
        context = dg.build_sensor_context(instance=project.instance, cursor=cursor)
        sensor = project.defs.get_repository_def().get_sensor_def("refresh_when_exports_change")
        return sensor(context), context.cursor

    def test_are_refreshed_once_they_are_left_alone(self, project: Project, sources: Path) -> None:
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

    def test_that_are_missing_are_told(self, project: Project, sources: Path) -> None:
        (sources / "crm.csv").unlink()
        answer, _ = self.look(project, None)
        assert "No export of source 'crm'" in answer.skip_message
