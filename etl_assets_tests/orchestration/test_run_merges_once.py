"""When `run` merges: never where that would publish the same set again, always where Dagster does not know of it."""

import dataclasses
import socket
import subprocess
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.sweeping import leftovers
from etl_assets.engine.files.temporary import TEMPORARY_PREFIX
from etl_assets.engine.published import attempts
from etl_assets.engine.published.preview import MASK
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import CheckError
from etl_assets.orchestration.run import run_pipeline
from etl_assets.pipeline.configuration import site_of
from etl_assets.pipeline.events import StepEvent
from etl_assets.pipeline.overview import collect
from etl_assets.pipeline.report import Report
from etl_assets.project.loading import Project
from etl_assets.project.settings import Settings
from etl_assets.project.severity import CheckRule
from etl_assets_tests.dagster_runs import CodeLocation, settings_for
from etl_assets_tests.factory import PROJECT, alter, row, write_exports
from etl_assets_tests.orchestration.engine_runs import rebuild

MERGED = dg.AssetKey("merged_profiles")


@pytest.fixture
def settings(sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> Settings:
    # The exports of a test are younger than a second when they are staged.
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    write_exports(sources, crm=[row(f"c{number}") for number in range(20)], billing=[row("c1"), row("z")])
    return settings_for(sources, home)


@pytest.fixture
def site(settings: Settings) -> Site:
    return site_of(PROJECT, settings)


@pytest.fixture
def in_ui(settings: Settings, instance: dg.DagsterInstance) -> CodeLocation:
    """A publication by runs of the UI: other processes, the same instance."""
    location = CodeLocation(settings, instance)
    location.publish()
    return location


def run(
    settings: Settings, instance: dg.DagsterInstance, *, project: Project = PROJECT, force: bool = False
) -> tuple[Report, list[StepEvent]]:
    """`etl-assets run`, and its events of the merge."""
    events: list[StepEvent] = []
    site = site_of(project, settings)
    report = run_pipeline(site, settings, instance=instance, force=force, on_event=events.append)
    return report, [event for event in events if event.step == "merged_profiles"]


def merges(instance: dg.DagsterInstance) -> int:
    """How many runs merged."""
    return sum(MERGED in (found.asset_selection or ()) for found in instance.get_runs())


class TestSkipsTheMerge:
    def test_after_a_publication_by_the_ui(
        self, settings: Settings, instance: dg.DagsterInstance, site: Site, in_ui: CodeLocation
    ) -> None:
        """Fails: `run` publishes the same again although `status` says that there is nothing to do."""
        published = read_publication(site.home)
        assert collect(site, settings).next_step is None
        report, events = run(settings, instance)
        assert report.ok, report
        assert (report.is_unchanged, report.is_warehouse_replaced) == (True, False)
        assert report.publication == published
        assert merges(instance) == 1
        assert published is not None
        assert events == [StepEvent(Status.REUSED, "merged_profiles", record_count=published.record_count)]

    def test_after_ctrl_c_of_a_forced_run_that_published_nothing(
        self, settings: Settings, instance: dg.DagsterInstance, site: Site
    ) -> None:
        """Fails: so does a run after one that was interrupted before its first shard."""
        run(settings, instance)
        begun = attempts.start(site.home, "shard_01", "interrupted", 1)
        attempts.finish(site.home, begun, Status.CANCELLED, error="StoppedError: Stopped on request.")
        report, _ = run(settings, instance)
        assert (report.ok, report.is_unchanged) == (True, True), report
        assert merges(instance) == 1

    def test_and_sweeps_what_a_killed_run_has_left(
        self, settings: Settings, instance: dg.DagsterInstance, site: Site
    ) -> None:
        """Fails: a forced run that is killed while it reads leaves its files in ETL_HOME until something changes."""
        run(settings, instance)
        left = site.home.scratch / f"{TEMPORARY_PREFIX}work-{socket.gethostname()}-{_dead_pid()}-1.00-abcdef00"
        left.mkdir()
        (left / "sound_0.csv").write_text("rows")
        report, _ = run(settings, instance)
        assert (report.ok, report.is_unchanged) == (True, True), report
        assert leftovers(site.home) == []


def _dead_pid() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


class TestMerges:
    def test_after_a_forced_run_that_had_published_some_shards(
        self, settings: Settings, instance: dg.DagsterInstance, in_ui: CodeLocation
    ) -> None:
        rebuild(in_ui, "shard_01", "interrupted")
        report, _ = run(settings, instance)
        assert (report.ok, report.is_unchanged, report.is_warehouse_replaced) == (True, False, True), report
        assert merges(instance) == 2

    def test_when_it_is_forced(self, settings: Settings, instance: dg.DagsterInstance, in_ui: CodeLocation) -> None:
        report, _ = run(settings, instance, force=True)
        assert (report.ok, report.is_unchanged) == (True, False), report
        assert merges(instance) == 2

    def test_after_a_wipe(self, settings: Settings, instance: dg.DagsterInstance, in_ui: CodeLocation) -> None:
        """Fails: after `dagster asset wipe` the UI shows no merged profiles for as long as the exports stay."""
        instance.wipe_assets([MERGED])
        assert instance.get_latest_materialization_event(MERGED) is None
        report, _ = run(settings, instance)
        assert report.ok, report
        assert merges(instance) == 2
        assert instance.get_latest_materialization_event(MERGED) is not None
        run(settings, instance)
        assert merges(instance) == 2

    def test_where_another_instance_knows_of_the_publication(self, settings: Settings, in_ui: CodeLocation) -> None:
        with dg.DagsterInstance.ephemeral() as other:
            assert run(settings, other)[0].ok
            assert merges(other) == 1

    def test_where_the_instance_knows_of_another_home_since(
        self, settings: Settings, instance: dg.DagsterInstance, in_ui: CodeLocation, tmp_path: Path
    ) -> None:
        """Fails: two homes take turns on one instance, and the UI shows the result of the other one."""
        write_exports(tmp_path / "others", crm=[row("another")])
        CodeLocation(settings_for(tmp_path / "others", Home(tmp_path / "elsewhere")), instance).publish()
        report, _ = run(settings, instance)
        assert (report.ok, report.is_unchanged) == (True, False), report
        assert merges(instance) == 3

    def test_when_the_warehouse_is_damaged(
        self, settings: Settings, instance: dg.DagsterInstance, site: Site, in_ui: CodeLocation
    ) -> None:
        """Fails: a value that no check looks at has changed on the disk, and the run says "Unchanged"."""
        alter(site.home.warehouse, "UPDATE merged_profiles SET company_name = 'x' WHERE customer_id = 'c1'")
        report, _ = run(settings, instance)
        assert (report.ok, report.is_warehouse_replaced) == (True, True), report
        assert merges(instance) == 2

    def test_after_a_partial_publication(
        self, settings: Settings, instance: dg.DagsterInstance, site: Site, in_ui: CodeLocation
    ) -> None:
        site.home.shard_file("shard_01").unlink()
        assert in_ui.run("merged_profiles", config={"merged_profiles": {"allow_partial": True}}).success
        report, _ = run(settings, instance)
        assert report.ok, report
        assert report.publication is not None
        assert not report.publication.is_partial


def with_check(statement: str, **rule: Any) -> Project:
    """The project with a check of its own, and what is declared of it."""
    contract = PROJECT.contract.model_copy(update={"checks": (CheckRule(name="customers_enough", **rule),)})
    return dataclasses.replace(PROJECT, contract=contract, checks={"customers_enough": statement})


BROKEN_CHECK = with_check("SELECT count(*) AS customers FROM merged_profiles HAVING customers < 1000")


class TestRedChecks:
    def test_stay_red_in_the_next_run(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        """Fails: the first run ends with exit code 1, the second with 0, and nothing was repaired in between."""
        first, _ = run(settings, instance, project=BROKEN_CHECK)
        assert first.failed_checks == ("customers_enough",)
        second, _ = run(settings, instance, project=BROKEN_CHECK)
        assert not second.ok
        assert second.failed_checks == ("customers_enough",)

    def test_of_runs_of_the_ui_are_red_here(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        CodeLocation(settings, instance, project=BROKEN_CHECK).publish()
        report, _ = run(settings, instance, project=BROKEN_CHECK)
        assert report.failed_checks == ("customers_enough",)

    def test_that_were_changed_are_executed_again(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        easy = with_check("SELECT count(*) AS customers FROM merged_profiles HAVING customers < 1")
        assert run(settings, instance, project=easy)[0].ok
        assert run(settings, instance, project=BROKEN_CHECK)[0].failed_checks == ("customers_enough",)
        # And again: now it is right.
        assert run(settings, instance, project=easy)[0].ok
        assert run(settings, instance, project=easy)[0].is_unchanged

    def test_that_were_never_executed_are(
        self, settings: Settings, instance: dg.DagsterInstance, in_ui: CodeLocation
    ) -> None:
        """Fails: a merge whose process was killed before its checks is never checked."""
        job = in_ui.defs.resolve_implicit_global_asset_job_def().get_subset(
            asset_selection={MERGED}, asset_check_selection=set()
        )
        assert job.execute_in_process(instance=instance).success
        report, _ = run(settings, instance)
        assert (report.ok, report.is_unchanged) == (True, False), report

    def test_that_are_new_are_executed_though_nothing_else_changed(
        self, settings: Settings, instance: dg.DagsterInstance, in_ui: CodeLocation
    ) -> None:
        """Fails: a check that someone wrote today is not executed before the next change of the exports."""
        report, _ = run(settings, instance, project=BROKEN_CHECK)
        assert report.failed_checks == ("customers_enough",)


class TestWarnings:
    def test_are_no_failure_and_are_shown_by_every_run(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        """Fails: a warning ends the run with 1, or is forgotten by the next run, which finds nothing to do."""
        warned = with_check("SELECT customer_id, email FROM merged_profiles", severity="warn")
        first, _ = run(settings, instance, project=warned)
        second, _ = run(settings, instance, project=warned)
        for report in (first, second):
            assert report.ok
            assert (report.warned_checks, report.failed_checks) == (("customers_enough",), ())
            (broken,) = report.broken_checks
            assert (broken.failing_count, broken.columns) == (21, ("customer_id", "email"))
            assert broken.rows[0] == ("c0", MASK)
        assert (first.is_unchanged, second.is_unchanged) == (False, True)

    def test_that_became_errors_are_failures(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        statement = "SELECT customer_id FROM merged_profiles"
        assert run(settings, instance, project=with_check(statement, severity="warn"))[0].ok
        assert run(settings, instance, project=with_check(statement))[0].failed_checks == ("customers_enough",)

    def test_that_block_from_now_on_keep_the_published_warehouse(
        self, settings: Settings, instance: dg.DagsterInstance, site: Site
    ) -> None:
        statement = "SELECT customer_id FROM merged_profiles"
        assert run(settings, instance, project=with_check(statement, severity="warn"))[0].ok
        before = site.home.warehouse.read_bytes()
        report, _ = run(settings, instance, project=with_check(statement, blocking=True))
        assert not report.ok
        assert isinstance(report.merge_error, CheckError)
        assert site.home.warehouse.read_bytes() == before
