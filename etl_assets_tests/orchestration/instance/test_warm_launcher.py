"""Which runs are forked, how a killed one is reported, how one is terminated."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.events import EngineEventData
from dagster._core.launcher import DefaultRunLauncher, LaunchRunContext, WorkerStatus
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from etl_assets.engine.files.processes import process_start
from etl_assets.orchestration.instance import starting, warm_launcher
from etl_assets.orchestration.instance.launcher import SERVER_TAG, SERVER_VARIABLE
from etl_assets.orchestration.instance.origin import job_origin
from etl_assets.orchestration.instance.run_watch import RunWatch
from etl_assets.orchestration.instance.starting import Forked, NotForkedError
from etl_assets.orchestration.instance.tags import FORKED_TAG, command_tags
from etl_assets.orchestration.instance.warm_launcher import WarmRunLauncher
from etl_assets_tests.orchestration.test_code_location import CHECKOUT

PYTHON = "/the/python/of/the/code"
# A shell starts background jobs, such as these tests, with SIGINT ignored.
SLEEPER = (
    "import signal, time; signal.signal(signal.SIGINT, signal.default_int_handler); print('ready', flush=True); "
    "time.sleep(600)"
)


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with the shipped settings."""
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)
    monkeypatch.setattr(warm_launcher, "can_fork", lambda: None)
    (tmp_path / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as shipped:
        yield shipped


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    """The process of a run."""
    started = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True, stdout=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stdout.readline() == b"ready\n"
    yield started
    started.kill()
    started.communicate()


@pytest.fixture
def by_dagster(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs that Dagster's launcher is given."""
    given: list[str] = []
    monkeypatch.setattr(DefaultRunLauncher, "launch_run", lambda _, context: given.append(context.dagster_run.run_id))
    return given


class _Starter:
    """Answers with a process, or with a reason."""

    def __init__(self, answer: Forked | NotForkedError) -> None:
        self.answer = answer
        self.orders: list[str] = []

    def start(self, order: str) -> Forked:
        self.orders.append(order)
        if isinstance(self.answer, NotForkedError):
            raise self.answer
        return self.answer


def created(instance: dg.DagsterInstance, tags: dict[str, str] | None = None) -> dg.DagsterRun:
    """A run as the daemon makes it."""
    pointer = ModuleCodePointer("etl_assets.definitions", "defs", working_directory=None)
    origin = JobPythonOrigin("work", RepositoryPythonOrigin(PYTHON, pointer))
    return instance.create_run_for_job(
        dg.job(name="work")(lambda: None), tags=tags, job_code_origin=origin, remote_job_origin=job_origin("work")
    )


def context(run: dg.DagsterRun, **client: Any) -> LaunchRunContext:
    """What the daemon launches a run with; `client` is the connection to the code server."""
    connection = SimpleNamespace(**{"host": "localhost", "socket": "/a/socket", **client})
    location = SimpleNamespace(client=connection)
    workspace: Any = SimpleNamespace(get_code_location=lambda _: location)
    return LaunchRunContext(run, workspace=workspace)


def launcher_of(instance: dg.DagsterInstance) -> WarmRunLauncher:
    found = instance.run_launcher
    assert isinstance(found, WarmRunLauncher)
    return found


def launch(
    instance: dg.DagsterInstance, answer: Forked | NotForkedError, monkeypatch: pytest.MonkeyPatch, **client: Any
) -> tuple[dg.DagsterRun, _Starter, list[str]]:
    """Launch a run; returns it, the starter, and for which Python that was."""
    starter, pythons = _Starter(answer), list[str]()

    def starter_of(python: str) -> _Starter:
        pythons.append(python)
        return starter

    monkeypatch.setattr(warm_launcher, "starter_of", starter_of)
    run = created(instance)
    launcher_of(instance).launch_run(context(run, **client))
    launched = instance.get_run_by_id(run.run_id)
    assert launched is not None
    return launched, starter, pythons


def forked(process: "subprocess.Popen[bytes]") -> Forked:
    return Forked(process.pid, process_start(process.pid))


def wait_for_status(instance: dg.DagsterInstance, run_id: str, status: dg.DagsterRunStatus) -> None:
    deadline_s = time.monotonic() + 60
    while (run := instance.get_run_by_id(run_id)) is None or run.status is not status:
        assert time.monotonic() < deadline_s, run
        time.sleep(0.05)


def wait_for_tag(instance: dg.DagsterInstance, run_id: str, name: str, value: str) -> None:
    deadline_s = time.monotonic() + 60
    while (run := instance.get_run_by_id(run_id)) is None or run.tags.get(name) != value:
        assert time.monotonic() < deadline_s, run
        time.sleep(0.05)


def test_a_run_is_forked_by_the_python_of_its_code(
    instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    run, starter, pythons = launch(instance, forked(process), monkeypatch)
    assert pythons == [PYTHON]
    assert len(starter.orders) == 1
    assert run.run_id in starter.orders[0]
    assert run.tags[FORKED_TAG] == "true"
    # By it run monitoring knows that the process is on this machine.
    assert '"/a/socket"' in run.tags[SERVER_TAG]


def test_a_killed_run_is_reported_and_will_be_repeated(
    instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a killed run stays "in progress" until run monitoring has looked twice, 20 s later."""
    run, _, _ = launch(instance, forked(process), monkeypatch)
    process.kill()
    process.wait()
    wait_for_status(instance, run.run_id, dg.DagsterRunStatus.FAILURE)
    wait_for_tag(instance, run.run_id, "dagster/will_retry", "true")
    messages = [str(entry.dagster_event and entry.dagster_event.message) for entry in instance.all_logs(run.run_id)]
    assert any(f"Process {process.pid} of this run is gone" in message for message in messages)


def test_a_run_that_ended_by_itself_is_left_as_it_is(
    instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    monkeypatch.setattr(WarmRunLauncher, "_report_gone", lambda self, run_id, pid: ended.append(run_id))
    run, _, _ = launch(instance, forked(process), monkeypatch)
    instance.report_run_canceled(run)
    process.kill()
    process.wait()
    deadline_s = time.monotonic() + 60
    while not ended:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    monkeypatch.undo()
    launcher_of(instance)._report_gone(run.run_id, process.pid)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is dg.DagsterRunStatus.CANCELED


def test_a_run_whose_code_server_is_away_too_is_left_to_run_monitoring(
    instance: dg.DagsterInstance,
    process: "subprocess.Popen[bytes]",
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Fails: it is given up at a moment when nothing can repeat it."""
    monkeypatch.setenv(SERVER_VARIABLE, str(tmp_path / "no-one-listens"))
    run = created(instance)
    launcher_of(instance)._report_gone(run.run_id, process.pid)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert not found.is_finished


@pytest.mark.parametrize("why", ["2 threads run in it", "the process from which runs are forked has ended"])
def test_what_cannot_be_forked_is_started_by_dagster_and_the_log_says_why(
    instance: dg.DagsterInstance, by_dagster: list[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Fails: beside a code location whose library starts threads, no run starts at all."""
    run, _, _ = launch(instance, NotForkedError(why), monkeypatch)
    assert by_dagster == [run.run_id]
    assert run.tags[FORKED_TAG] == "false"
    messages = [str(entry.dagster_event and entry.dagster_event.message) for entry in instance.all_logs(run.run_id)]
    assert f"Dagster starts the process of this run: {why}." in messages


def test_runs_of_a_code_server_at_a_port_are_started_by_it(
    instance: dg.DagsterInstance,
    process: "subprocess.Popen[bytes]",
    by_dagster: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fails: the code of another machine or container is run here."""
    run, starter, _ = launch(instance, forked(process), monkeypatch, socket=None, port=4000)
    assert (by_dagster, starter.orders) == ([run.run_id], [])


@pytest.mark.parametrize(("platform", "reason"), [("darwin", "macOS"), ("linux", None)])
def test_where_forking_is_not_safe_no_run_is_forked(
    monkeypatch: pytest.MonkeyPatch, platform: str, reason: str | None
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    said = starting.can_fork()
    assert said == reason or (reason and said and reason in said)
    monkeypatch.delattr(os, "fork")
    assert "no fork" in str(starting.can_fork())


class TestTermination:
    """A person ends a run in the UI, whose webserver is another process than the daemon."""

    def test_interrupts_the_process(self, instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]") -> None:
        run = created(instance, {FORKED_TAG: "true"})
        instance.report_engine_event("Started process.", run, EngineEventData.in_process(process.pid))
        assert launcher_of(instance).terminate(run.run_id)
        assert process.wait(30) == -signal.SIGINT
        wait_for_status(instance, run.run_id, dg.DagsterRunStatus.CANCELING)

    def test_of_a_run_whose_process_is_gone_ends_the_run(
        self, instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]"
    ) -> None:
        """Fails: the run stays "canceling", keeps its place in the queue, and a new process may get the signal."""
        run = created(instance, {FORKED_TAG: "true"})
        instance.report_engine_event("Started process.", run, EngineEventData.in_process(process.pid))
        process.kill()
        process.wait()
        assert launcher_of(instance).terminate(run.run_id)
        wait_for_status(instance, run.run_id, dg.DagsterRunStatus.CANCELED)

    def test_of_a_run_that_is_just_being_forked_waits_for_its_process(
        self, instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: it is told canceled, and does its work all the same."""
        run = created(instance, {FORKED_TAG: "true"})
        looks: list[str] = []

        def noted(_: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
            looks.append(run_id)
            return (process.pid, time.time()) if len(looks) > 3 else None

        monkeypatch.setattr(warm_launcher, "noted_process", noted)
        assert launcher_of(instance).terminate(run.run_id)
        assert process.wait(30) == -signal.SIGINT

    def test_of_a_run_that_notes_no_process_ends_it_before_it_begins(
        self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run that finds itself canceled does not begin. Fails: it stays "canceling"."""
        monkeypatch.setattr(warm_launcher, "_NOTED_AFTER_S", 0.0)
        run = created(instance, {FORKED_TAG: "true"})
        assert launcher_of(instance).terminate(run.run_id)
        wait_for_status(instance, run.run_id, dg.DagsterRunStatus.CANCELED)

    def test_of_a_run_killed_meanwhile_is_a_cancellation(
        self, instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]"
    ) -> None:
        """Fails: a run that a person has ended is repeated."""
        run = created(instance)
        instance.report_run_canceling(run)
        launcher_of(instance)._report_gone(run.run_id, process.pid)
        wait_for_status(instance, run.run_id, dg.DagsterRunStatus.CANCELED)


def test_a_new_daemon_watches_the_runs_of_the_one_before(
    instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]"
) -> None:
    """Fails: after a restart of the UI a killed run is noticed 20 s later, or does not say why it failed."""
    run = created(instance, {FORKED_TAG: "true", SERVER_TAG: '{"host": "localhost", "socket": "/a"}'})
    instance.report_engine_event("Started process.", run, EngineEventData.in_process(process.pid))
    assert launcher_of(instance).check_run_worker_health(run).status is WorkerStatus.RUNNING
    process.kill()
    process.wait()
    wait_for_status(instance, run.run_id, dg.DagsterRunStatus.FAILURE)
    (failure,) = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert failure.dagster_event
    assert f"Process {process.pid} of this run is gone" in str(failure.dagster_event.message)


def test_a_re_executed_run_of_the_command_becomes_the_daemons(
    instance: dg.DagsterInstance, process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm_launcher, "starter_of", lambda python: _Starter(forked(process)))
    run = created(instance, command_tags())
    launcher_of(instance).launch_run(context(run))
    launched = instance.get_run_by_id(run.run_id)
    assert launched is not None
    assert launched.tags["dagster/max_retries"] == "3"


def test_only_the_daemon_keeps_a_preloaded_process(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the webserver, the code server and every run start one each."""
    prepared: list[str] = []
    starter = SimpleNamespace(prepare=lambda: prepared.append("started"))
    monkeypatch.setattr(warm_launcher, "starter_of", lambda python: starter)
    launcher = WarmRunLauncher()
    launcher.register_instance(instance)
    assert prepared == []
    for name in ("dagster._daemon.__main__", "dagster._daemon"):
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", SimpleNamespace(name=name))
        WarmRunLauncher().register_instance(instance)
    assert prepared == ["started"] * 2


def test_the_watch_goes_on_after_a_run_that_cannot_be_reported() -> None:
    """Fails: after one locked database no killed run is noticed any more, or this one is not."""
    tried: list[str] = []

    def fails_once() -> None:
        tried.append("first")
        if tried.count("first") == 1:
            raise OSError("database is locked")

    watch = RunWatch(0.05)
    watch.add("first", lambda: False, fails_once)
    watch.add("second", lambda: False, lambda: tried.append("second"))
    deadline_s = time.monotonic() + 60
    while "first" in watch or "second" in watch:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    assert sorted(tried) == ["first", "first", "second"]
