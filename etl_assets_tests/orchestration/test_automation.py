"""Rebuilds after a refresh, and what starts a refresh. The merge sensor is in `test_publish_sensor`."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

# Where Dagster works out when a schedule ticks has no public name.
from dagster._utils.schedules import cron_string_iterator

from etl_assets.engine.published.shards import inspect_shards
from etl_assets.engine.steps import stage as staging
from etl_assets_tests.dagster_runs import CodeLocation
from etl_assets_tests.orchestration.engine_runs import rebuild, stage


def answers(location: CodeLocation, result: dg.ExecuteInProcessResult) -> list[Any]:
    """What `rebuild_stale_shards` answers to the success of a run."""
    context = dg.build_run_status_sensor_context(
        sensor_name="rebuild_stale_shards",
        dagster_event=result.get_run_success_event(),
        dagster_instance=location.instance,
        dagster_run=result.dagster_run,
    )
    sensor: Any = location.defs.get_repository_def().get_sensor_def("rebuild_stale_shards")
    return list(sensor(context))


class TestAfterARefresh:
    def refresh(self, location: CodeLocation) -> list[Any]:
        """Run the job `refresh_sources`; what follows from it."""
        result = location.defs.resolve_job_def("refresh_sources").execute_in_process(instance=location.instance)
        assert result.success
        return answers(location, result)

    @pytest.fixture
    def complete(self, location: CodeLocation) -> CodeLocation:
        """All shards are published."""
        stage(location)
        for shard_id in location.site.shard_ids:
            rebuild(location, shard_id)
        return location

    def test_only_the_shards_whose_data_changed_are_rebuilt(self, complete: CodeLocation, sources: Path) -> None:
        """Fails: a change of one customer rebuilds everything, or nothing."""
        path = sources / "crm.csv"
        lines = path.read_text().splitlines()
        path.write_text("\n".join([lines[0], lines[1].replace("ada@alpine", "ada@alps"), *lines[2:]]) + "\n")
        requests = self.refresh(complete)
        stale = list(inspect_shards(complete.site).obstacles)
        assert len(stale) == 1
        assert [request.partition_key for request in requests] == stale
        # The same refresh, noticed twice, asks with the same key: Dagster starts one run for it.
        assert requests[0].run_key.endswith(f":{stale[0]}")

    def test_that_changed_nothing_nothing_is_rebuilt(self, complete: CodeLocation) -> None:
        """Fails: the daily refresh costs a whole rebuild a day."""
        (answer,) = self.refresh(complete)
        assert isinstance(answer, dg.SkipReason)
        assert answer.skip_message == "Every shard is current."

    def test_that_was_the_first_every_shard_is_asked_for_once(self, location: CodeLocation) -> None:
        requests = self.refresh(location)
        assert [request.partition_key for request in requests] == list(location.site.shard_ids)
        assert len({request.run_key for request in requests}) == 3

    def test_of_some_sources_while_others_were_never_staged_nothing_is_asked_for(self, location: CodeLocation) -> None:
        """Fails: a red sensor in the UI for what is only not complete yet."""
        result = location.run("crm")
        assert result.success
        (answer,) = answers(location, result)
        assert isinstance(answer, dg.SkipReason)
        assert "billing, product, support not staged" in (answer.skip_message or "")
        assert (answer.skip_message or "").endswith("Materialize the assets of the group 'sources' first.")


class TestChangedExports:
    def look(self, location: CodeLocation, cursor: str | None = None) -> tuple[Any, str | None]:
        context = dg.build_sensor_context(instance=location.instance, cursor=cursor)
        sensor = location.defs.get_repository_def().get_sensor_def("refresh_when_exports_change")
        return sensor(context), context.cursor

    @pytest.fixture
    def staged(self, location: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> CodeLocation:
        """The sources are staged, and the time stamps of files that young are trusted."""
        monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
        stage(location)
        return location

    def test_that_are_not_changed_are_left_alone(self, staged: CodeLocation) -> None:
        answer, cursor = self.look(staged)
        assert answer.skip_message == "The exports have not changed since they were staged."
        assert cursor is None

    def test_are_named(self, staged: CodeLocation, sources: Path) -> None:
        (sources / "support.csv").touch()
        answer, _ = self.look(staged)
        assert answer.skip_message == "Changed: support. Waiting until the files are left alone."

    def test_are_refreshed_once_they_are_left_alone(self, location: CodeLocation, sources: Path) -> None:
        """Fails: an export is read while it is still being written."""
        first, cursor = self.look(location)
        assert "Waiting until the files are left alone" in first.skip_message
        (sources / "crm.csv").write_text((sources / "crm.csv").read_text() + "x")
        still, cursor = self.look(location, cursor)
        assert "Waiting" in still.skip_message
        quiet, cursor = self.look(location, cursor)
        assert isinstance(quiet, dg.RunRequest)
        again, _ = self.look(location, cursor)
        # Dagster starts one run a key.
        assert again.run_key == quiet.run_key

    def test_that_are_missing_are_named(self, location: CodeLocation, sources: Path) -> None:
        (sources / "crm.csv").unlink()
        answer, _ = self.look(location)
        assert "No export of source 'crm'" in answer.skip_message


def test_the_daily_refresh_runs_the_refresh_at_five(location: CodeLocation) -> None:
    (schedule,) = location.defs.get_repository_def().schedule_defs
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == "refresh_sources"
    after = datetime(2026, 11, 1, 12, tzinfo=UTC).timestamp()
    ticks = cron_string_iterator(after, str(schedule.cron_schedule), schedule.execution_timezone)
    assert next(ticks) == datetime(2026, 11, 2, 5, tzinfo=UTC)
