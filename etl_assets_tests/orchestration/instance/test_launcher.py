"""Whether a run's process is alive, as run monitoring asks it; and which runs the daemon repeats."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher import DefaultRunLauncher, LaunchRunContext, WorkerStatus

from etl_assets.orchestration.instance.launcher import SERVER_VARIABLE, WatchedRunLauncher
from etl_assets.orchestration.instance.tags import HOST_TAG, LAUNCHED_BY_TAG, MAX_RETRIES_TAG, command_tags
from etl_assets_tests.orchestration.test_code_location import CHECKOUT

BY_SOCKET = {".dagster/grpc_info": '{"host": "localhost", "socket": "/gone/with/its/server"}'}
BY_PORT = {".dagster/grpc_info": '{"host": "code.example", "port": 4000}'}


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """An instance with the shipped settings."""
    monkeypatch.delenv(SERVER_VARIABLE, raising=False)
    (tmp_path / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as shipped:
        yield shipped


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """A process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def _run(instance: dg.DagsterInstance, tags: dict[str, str], pid: int | None) -> dg.DagsterRun:
    """A started run, whose process has noted its pid."""
    run = instance.create_run_for_job(dg.job(name="work")(lambda: None), tags=tags)
    if pid is not None:
        instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(pid))
    return run


def _looks(instance: dg.DagsterInstance, run: dg.DagsterRun, times: int = 3) -> list[WorkerStatus]:
    return [instance.run_launcher.check_run_worker_health(run).status for _ in range(times)]


def test_run_monitoring_asks_the_shipped_launcher(instance: dg.DagsterInstance) -> None:
    """Fails: no one notices a process that was killed together with its code server."""
    assert isinstance(instance.run_launcher, WatchedRunLauncher)
    assert instance.run_launcher.supports_check_run_worker_health


def test_a_run_whose_process_lives_is_running(instance: dg.DagsterInstance) -> None:
    assert _looks(instance, _run(instance, BY_SOCKET, os.getpid())) == [WorkerStatus.RUNNING] * 3


def test_a_run_whose_process_is_gone_is_given_up_at_the_second_look(
    instance: dg.DagsterInstance, dead_pid: int
) -> None:
    """Fails: the daemon has not yet seen that the code server is back, cannot repeat the run and never tries again."""
    run = _run(instance, BY_SOCKET, dead_pid)
    assert _looks(instance, run) == [WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND, WorkerStatus.NOT_FOUND]
    said = str(instance.run_launcher.check_run_worker_health(run))
    assert f"Process {dead_pid} of this run is gone" in said
    assert "The daemon repeats the run, up to three times." in said


def test_a_run_is_not_given_up_while_the_code_server_is_away(
    instance: dg.DagsterInstance, dead_pid: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fails: its backfill fails, because the code server that was killed with it cannot repeat it yet."""
    monkeypatch.setenv(SERVER_VARIABLE, str(tmp_path / "no-one-listens"))
    run = _run(instance, BY_SOCKET, dead_pid)
    assert _looks(instance, run) == [WorkerStatus.RUNNING] * 3
    monkeypatch.delenv(SERVER_VARIABLE)
    assert _looks(instance, run, 2) == [WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND]


def test_a_killed_command_is_given_up_at_once_and_says_how_to_go_on(
    instance: dg.DagsterInstance, dead_pid: int
) -> None:
    health = instance.run_launcher.check_run_worker_health(_run(instance, {HOST_TAG: socket.gethostname()}, dead_pid))
    assert health.status is WorkerStatus.NOT_FOUND
    assert "Go on with: etl-assets run" in str(health)


@pytest.mark.parametrize("tags", [BY_PORT, {HOST_TAG: "another-host"}, {}])
def test_what_cannot_be_seen_from_here_counts_as_running(
    instance: dg.DagsterInstance, dead_pid: int, tags: dict[str, str]
) -> None:
    """Fails: sound runs on other machines are ended."""
    assert _looks(instance, _run(instance, tags, dead_pid)) == [WorkerStatus.RUNNING] * 3


def test_a_command_of_a_container_that_is_gone_is_given_up_when_no_one_works_in_its_home(
    instance: dg.DagsterInstance, dead_pid: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fails: after a restart under another name, the sensor waits for two hours for a merge that no one makes."""
    monkeypatch.setenv("ETL_HOME", str(tmp_path))
    run = _run(instance, {HOST_TAG: "another-host"}, dead_pid)
    assert _looks(instance, run, 1) == [WorkerStatus.RUNNING]
    (tmp_path / "scratch").mkdir()
    assert _looks(instance, run, 1) == [WorkerStatus.NOT_FOUND]
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    assert _looks(instance, run, 1) == [WorkerStatus.RUNNING]
    os.close(descriptor)


def test_a_command_of_this_host_is_judged_by_its_process_alone(
    instance: dg.DagsterInstance, dead_pid: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Fails: the UI of another ETL_HOME, in which no one works, ends a run that is alive."""
    monkeypatch.setenv("ETL_HOME", str(tmp_path))
    (tmp_path / "scratch").mkdir()
    of_this_host = {HOST_TAG: socket.gethostname()}
    assert _looks(instance, _run(instance, of_this_host, os.getpid())) == [WorkerStatus.RUNNING] * 3
    assert _looks(instance, _run(instance, of_this_host, dead_pid), 1) == [WorkerStatus.NOT_FOUND]


def test_a_run_that_has_not_noted_its_process_counts_as_running(instance: dg.DagsterInstance) -> None:
    assert _looks(instance, _run(instance, BY_SOCKET, None)) == [WorkerStatus.RUNNING] * 3


@pytest.mark.parametrize(("tags", "will_retry"), [({}, "true"), (command_tags(), "false")])
def test_the_daemon_repeats_its_own_killed_runs_only(
    instance: dg.DagsterInstance, tags: dict[str, str], will_retry: str
) -> None:
    """Fails: a command that a person has ended is run again by the daemon."""
    run = _run(instance, tags, None)
    instance.report_run_failed(run)
    failed = instance.get_run_by_id(run.run_id)
    assert failed
    assert failed.tags["dagster/will_retry"] == will_retry


class TestARunOfTheCommandThatIsReExecutedInTheUi:
    """It has the tags of the command's run, and is the daemon's."""

    def test_is_given_up_as_the_daemons_own_are(self, instance: dg.DagsterInstance, dead_pid: int) -> None:
        run = _run(instance, command_tags() | BY_SOCKET, dead_pid)
        assert _looks(instance, run, 2) == [WorkerStatus.RUNNING, WorkerStatus.NOT_FOUND]
        assert "The daemon repeats the run" in str(instance.run_launcher.check_run_worker_health(run))

    def test_is_repeated_when_it_is_killed(self, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(DefaultRunLauncher, "launch_run", lambda *_: None)
        run = _run(instance, command_tags(), None)
        instance.run_launcher.launch_run(LaunchRunContext(run, workspace=None))
        launched = instance.get_run_by_id(run.run_id)
        assert launched
        assert (launched.tags[MAX_RETRIES_TAG], launched.tags[LAUNCHED_BY_TAG]) == ("3", "re-execution")


@pytest.mark.parametrize("tag", ["", "x", "5", "null", '"socket"', "[" * 100_000])
def test_a_tag_of_another_form_ends_no_look_at_runs(instance: dg.DagsterInstance, dead_pid: int, tag: str) -> None:
    """Tags can be set at launch. Fails: one such run keeps run monitoring from looking at all that come after it."""
    assert _looks(instance, _run(instance, {".dagster/grpc_info": tag}, dead_pid)) == [WorkerStatus.RUNNING] * 3
