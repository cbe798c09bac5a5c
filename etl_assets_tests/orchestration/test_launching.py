"""`etl_assets.run`: the pipeline from Python, without a word of the environment changed."""

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import etl_assets
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.status import Status
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import AccountingError, ConfigError, InputError
from etl_assets.orchestration import code_location
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets.orchestration.instance.tags import LAUNCHED_BY_TAG
from etl_assets.pipeline.events import StepEvent
from etl_assets_tests.dagster_runs import IMMEDIATELY
from etl_assets_tests.factory import PROJECT, PROJECT_FOLDER, row, write_exports
from etl_assets_tests.orchestration.breaking import ALWAYS, break_shards


def variables() -> dict[str, str]:
    """The environment, without what pytest changes in it."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run in an empty folder, while the environment names another home and a bad number of rejects."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("ETL_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("ETL_WORKERS", "2")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    # The exports of a test are younger than a second when they are staged.
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    monkeypatch.setattr(code_location, "shard_retry_policy", lambda: IMMEDIATELY)
    before = variables()
    yield
    assert variables() == before
    assert not (tmp_path / "elsewhere").exists()


def run(sources: Path, home: Home, **options: Any) -> etl_assets.Report:
    return etl_assets.run(PROJECT_FOLDER, sources=sources, home=home.root, **{"num_shards": 2, **options})


def history(folder: Path) -> list[dg.DagsterRun]:
    with open_instance(folder) as instance:
        return list(instance.get_runs())


def test_it_publishes_and_reports_as_the_command_does(sources: Path, home: Home, tmp_path: Path) -> None:
    write_exports(sources, crm=[row(name) for name in "abc"], billing=[row("d")])
    events: list[StepEvent] = []
    report = run(sources, home, on_event=events.append)
    assert report.ok
    assert report.publication is not None
    assert (report.publication.record_count, report.publication.shard_count) == (4, 2)
    assert [shard.status for shard in report.shards] == [Status.SUCCEEDED] * 2
    steps = {*PROJECT.contract.source_names, "shard_profiles", "merged_profiles"}
    assert {event.step for event in events} == steps
    # The instance of the command line, in the current folder, with its settings.
    assert (tmp_path / "here/.dagster/dagster.yaml").exists()
    assert {found.tags[LAUNCHED_BY_TAG] for found in history(tmp_path / "here/.dagster")} == {"etl_assets.run()"}
    again = run(sources, home)
    assert (again.ok, again.is_unchanged, again.publication) == (True, True, report.publication)
    assert len(history(tmp_path / "here/.dagster")) == 3


def test_the_instance_can_be_named(sources: Path, home: Home, tmp_path: Path) -> None:
    write_exports(sources, crm=[row("a")])
    assert run(sources, home, dagster_home=tmp_path / "instance").ok
    assert len(history(tmp_path / "instance")) == 3
    assert not (tmp_path / "here/.dagster").exists()


def test_two_projects_run_one_after_another_in_one_process(sources: Path, home: Home, tmp_path: Path) -> None:
    """Fails: the second one reads the contract, the exports or the home of the first."""
    other = tmp_path / "other"
    (other / "sql").mkdir(parents=True)
    (other / "etl_assets.yaml").write_text("name: shop\nentity: buyers\nsources: {orders: {columns: [item]}}\n")
    (other / "sql/profiles.sql").write_text(
        "SELECT base.customer_id, orders.item, base.sources, base.shard_id, base.idempotency_key FROM buyers\n"
    )
    write_exports(sources, crm=[row(name) for name in "abc"])
    (sources / "orders.csv").write_text("customer_id,item\nz,lamp\n")
    first = run(sources, home)
    second = etl_assets.run(other, sources=sources, home=tmp_path / "second", num_shards=3)
    assert first.ok
    assert second.ok
    assert [source.source for source in second.sources] == ["orders"]
    assert len(second.shards) == 3
    with etl_assets.open_warehouse(home.root) as one, etl_assets.open_warehouse(tmp_path / "second") as two:
        assert one.execute("SELECT count(*) FROM merged_profiles").fetchall() == [(3,)]
        assert two.execute("SELECT customer_id, item FROM merged_profiles").fetchall() == [("z", "lamp")]
    # And the first again: neither has made the other's work stale.
    assert run(sources, home).is_unchanged
    assert etl_assets.run(etl_assets.load_project(other), sources=sources, home=tmp_path / "second", num_shards=3).ok


@pytest.mark.parametrize(
    ("options", "kind", "finding"),
    [
        ({"num_shards": 0}, ConfigError, "num_shards must be a whole number from 1 to 1000, found 0."),
        ({"shards": ["shard_99"]}, ConfigError, "No such shard: shard_99."),
        ({"sources": "/nonexistent"}, InputError, "/nonexistent"),
    ],
)
def test_what_cannot_work_raises_before_anything_is_written(
    sources: Path, home: Home, tmp_path: Path, options: dict[str, Any], kind: type[Exception], finding: str
) -> None:
    write_exports(sources, crm=[row("a")])
    with pytest.raises(kind, match=finding):
        etl_assets.run(PROJECT_FOLDER, **{"sources": sources, "home": home.root, **options})
    assert not home.root.exists()
    assert not (tmp_path / "here/.dagster").exists()


def test_a_failure_of_the_run_is_in_the_report(sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    write_exports(sources, crm=[row(name) for name in "abcdef"])
    with monkeypatch.context() as patched:
        break_shards(patched, AccountingError("A customer too many."), {"shard_01": ALWAYS})
        report = run(sources, home)
    assert (report.ok, report.failed_shards, report.publication) == (False, ["shard_01"], None)
    assert str(report.merge_error) == "Not merged: shard_01 failed."
    repaired = run(sources, home, shards=["shard_01"])
    assert repaired.ok
    assert [(shard.shard_id, shard.status) for shard in repaired.shards] == [("shard_01", Status.SUCCEEDED)]


def test_ctrl_c_is_raised_and_finished_work_is_kept(sources: Path, home: Home) -> None:
    """Fails: the stop button of a notebook gives a report of a failed run, and the next cell goes on."""
    write_exports(sources, crm=[row(name) for name in "abcdef"])

    def press(event: StepEvent) -> None:
        if event.shard_id and event.status.is_done:
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(sources, home, on_event=press)
    assert signal.getsignal(signal.SIGINT) is before
    report = run(sources, home)
    assert report.ok
    assert Status.REUSED in [shard.status for shard in report.shards]


def test_it_runs_in_a_thread(sources: Path, home: Home) -> None:
    """Fails: a web server or a scheduler cannot call it."""
    write_exports(sources, crm=[row("a")])
    reports: list[etl_assets.Report] = []
    thread = threading.Thread(target=lambda: reports.append(run(sources, home)))
    thread.start()
    thread.join()
    assert [report.ok for report in reports] == [True]
