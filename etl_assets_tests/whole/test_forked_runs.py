"""Runs that are forked from the preloaded process: they do what others do, for a fraction of their time."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import psutil
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from etl_assets.engine.files.layout import Home
from etl_assets.orchestration.code_location import build_defs
from etl_assets.orchestration.instance.origin import job_origin
from etl_assets.orchestration.instance.starting import RunStarter
from etl_assets.orchestration.instance.warm_launcher import order_of
from etl_assets.project.settings import load_settings
from etl_assets.samples.writing import generate
from etl_assets_tests.orchestration.test_code_location import CHECKOUT

pytestmark = pytest.mark.slow

RUNS = 4
# Seen: 0.2 to 0.3.
MAX_TIME_RATIO = 0.6


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with the shipped settings, beside the exports of a few customers, all in one folder."""
    generate(tmp_path / "sources", rows=50, dirty=0.0)
    for name, folder in {"ETL_SOURCES": "sources", "ETL_HOME": "home", "DAGSTER_HOME": "dagster"}.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as shipped:
        yield shipped


@pytest.fixture
def starter() -> Iterator[RunStarter]:
    made = RunStarter(sys.executable)
    yield made
    made.close()


def created(instance: dg.DagsterInstance, *names: str) -> dg.DagsterRun:
    """A run of some assets, as the daemon makes it."""
    job = build_defs(settings=load_settings()).resolve_implicit_global_asset_job_def()
    pointer = ModuleCodePointer("etl_assets.definitions", "defs", working_directory=None)
    return instance.create_run_for_job(
        job.get_subset(asset_selection={dg.AssetKey(name) for name in names}),
        asset_selection=frozenset(dg.AssetKey(name) for name in names),
        job_code_origin=JobPythonOrigin(job.name, RepositoryPythonOrigin(sys.executable, pointer)),
        remote_job_origin=job_origin(job.name),
    )


def seconds_of(run: Callable[[str], None], orders: list[str]) -> float:
    """How long it takes to do runs one after another."""
    started_s = time.monotonic()
    for order in orders:
        run(order)
    return time.monotonic() - started_s


def test_a_forked_run_takes_a_fraction_of_the_time_of_a_new_process(
    instance: dg.DagsterInstance, starter: RunStarter, tmp_path: Path
) -> None:
    """Fails: each shard in the UI imports Dagster and the definitions again."""

    def by_fork(order: str) -> None:
        forked = starter.start(order)
        while psutil.pid_exists(forked.pid):
            time.sleep(0.01)

    def by_new_process(order: str) -> None:
        subprocess.run([sys.executable, "-m", "dagster", "api", "execute_run", order], check=True, capture_output=True)

    runs = [created(instance, "crm") for _ in range(2 * RUNS + 1)]
    first, *orders = [order_of(run, instance) for run in runs]
    # The first one waits until the process is there.
    by_fork(first)
    forked_s = seconds_of(by_fork, orders[:RUNS])
    others_s = seconds_of(by_new_process, orders[RUNS:])
    statuses = {found.status for run in runs if (found := instance.get_run_by_id(run.run_id))}
    assert statuses == {dg.DagsterRunStatus.SUCCESS}
    assert Home(tmp_path / "home").source_pointer("crm").exists()
    assert forked_s / others_s < MAX_TIME_RATIO, f"{forked_s:.1f} s and {others_s:.1f} s"


def test_a_changed_project_counts_for_the_next_forked_run(
    instance: dg.DagsterInstance, starter: RunStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: after an edit of the project, runs go on with what was declared when the daemon was started."""
    project = tmp_path / "project"
    (project / "sql").mkdir(parents=True)
    (project / "sql" / "profiles.sql").write_text("SELECT base.customer_id, base.sources FROM customers\n")
    text = "name: own\nentity: customers\nkey: {name: customer_id}\nsources:\n  crm: {columns: {email: {}}}\n"
    (project / "etl_assets.yaml").write_text(text)
    monkeypatch.setenv("ETL_PROJECT", str(project))

    def run(name: str) -> dg.DagsterRun | None:
        made = created(instance, name)
        forked = starter.start(order_of(made, instance))
        while psutil.pid_exists(forked.pid):
            time.sleep(0.01)
        return instance.get_run_by_id(made.run_id)

    first = run("crm")
    assert first is not None
    assert first.is_success
    (project / "etl_assets.yaml").write_text(text + "  billing: {columns: {email: {}}}\n")
    second = run("billing")
    assert second is not None
    assert second.is_success
