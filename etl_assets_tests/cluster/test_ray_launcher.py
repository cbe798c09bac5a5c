"""A run that Ray does not take now goes back into the queue; one that Ray never takes fails."""

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
import requests
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.launcher import LaunchRunContext
from dagster_ray import RayRunLauncher
from ray.job_submission import JobStatus

from etl_assets.orchestration.instance import ray_launcher
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets.orchestration.instance.ray_launcher import WaitingRayRunLauncher
from etl_assets_tests.cluster.deployed import dagster_home, ray_settings

_AGENT_IS_AWAY = "Request failed with status code 500: No available agent to submit job."
_TWICE = "Request failed with status code 400: Job with submission_id dagster-run-1 already exists."
_NO_TOKEN = "Request failed with status code 401: Unauthorized"


@dg.job
def _nothing() -> None:
    """A job without work."""


def launch(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Launch a run while dagster-ray's launcher meets this error."""

    def fails(_launcher: RayRunLauncher, _context: Any) -> None:
        raise error

    monkeypatch.setattr(RayRunLauncher, "launch_run", fails)
    launcher = WaitingRayRunLauncher(address="http://head:8265")
    run = SimpleNamespace(run_id="1", tags={})
    launcher.launch_run(SimpleNamespace(dagster_run=run, workspace=None))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("Failed to connect to Ray at address: http://head:8265."),
        requests.exceptions.ConnectionError("Connection refused"),
        requests.exceptions.ReadTimeout("timed out"),
        RuntimeError(_AGENT_IS_AWAY),
    ],
)
def test_a_run_waits_while_the_head_is_away(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Fails: a restart of the head costs every run that should start meanwhile, and the backfill."""
    with pytest.raises(DagsterUserCodeUnreachableError, match="Ray takes no jobs at http://head:8265 now"):
        launch(monkeypatch, error)


@pytest.mark.parametrize("error", [RuntimeError(_NO_TOKEN), RuntimeError("Unexpected"), ValueError("num_cpus")])
def test_what_waiting_does_not_help_is_said_at_once(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Fails: a wrong token looks like a slow cluster for five minutes."""
    with pytest.raises(type(error), match=str(error)[:20]):
        launch(monkeypatch, error)


def test_a_job_whose_answer_was_lost_is_not_started_twice_and_does_not_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the run that Ray works on is marked as failed, and repeated beside itself."""
    launch(monkeypatch, RuntimeError(_TWICE))


@pytest.mark.parametrize(
    ("answer", "is_lost"),
    [
        (JobStatus.PENDING, False),
        (JobStatus.RUNNING, False),
        (JobStatus.FAILED, True),
        (JobStatus.STOPPED, True),
        # A head that has been restarted knows nothing of the jobs before.
        (RuntimeError("Request failed with status code 404: Job dagster-run-1 does not exist"), True),
        (RuntimeError(_AGENT_IS_AWAY), False),
        (ConnectionError("Failed to connect to Ray at address: http://head:8265."), False),
    ],
)
def test_a_run_whose_job_is_lost_before_it_has_begun_is_reported(
    monkeypatch: pytest.MonkeyPatch, answer: JobStatus | Exception, is_lost: bool
) -> None:
    """Fails: it keeps its place in the queue for minutes; or a run that waits for its turn in Ray is given up."""

    def get_job_info(_submission_id: str) -> SimpleNamespace:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(status=answer, message="dagster: not found")

    monkeypatch.setattr(ray_launcher, "_WATCHED_EVERY_S", 0.05)
    monkeypatch.setattr(RayRunLauncher, "launch_run", lambda _launcher, _context: None)
    monkeypatch.setattr(WaitingRayRunLauncher, "client", SimpleNamespace(get_job_info=get_job_info))
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(_nothing, status=dg.DagsterRunStatus.STARTING)
        launcher = WaitingRayRunLauncher(address="http://head:8265")
        launcher.register_instance(instance)
        launcher.launch_run(SimpleNamespace(dagster_run=run))  # type: ignore[arg-type]
        deadline_s = time.monotonic() + (60 if is_lost else 1)
        while _is_starting(instance, run) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert _is_starting(instance, run) is not is_lost
        said = [str(entry.dagster_event and entry.dagster_event.message) for entry in instance.all_logs(run.run_id)]
    why = "does not exist" if isinstance(answer, Exception) else "dagster: not found"
    assert any(why in text for text in said) is is_lost, "the reason is not told"


def _is_starting(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status in (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.FAILURE)
    return found.status is dg.DagsterRunStatus.STARTING


_OF_RUN = json.dumps({"num_cpus": 3})


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ({"dagster/partition": "shard_07"}, {"num_cpus": 4, "env_vars": ["ETL_WORKERS=4"]}),
        ({"dagster/partition": "shard_07", "dagster-ray/config": _OF_RUN}, {"num_cpus": 3}),
        ({"dagster/partition": "shard_08"}, None),
        ({}, None),
    ],
)
def test_the_settings_say_what_a_single_shard_asks_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tags: dict[str, str], expected: dict[str, object] | None
) -> None:
    """Fails: a shard that is larger than the others gets what they get; or a person's word for a run does not count."""
    launched: list[dg.DagsterRun] = []
    monkeypatch.setattr(RayRunLauncher, "launch_run", lambda _launcher, context: launched.append(context.dagster_run))
    with open_instance(_home(tmp_path, {"num_cpus": 4, "env_vars": ["ETL_WORKERS=4"]})) as instance:
        run = instance.create_run_for_job(_nothing, tags=tags)
        instance.run_launcher.launch_run(LaunchRunContext(run, None))
    (found,) = launched
    assert (found.run_id, found.status) == (run.run_id, run.status)
    config = found.tags.get("dagster-ray/config")
    assert (json.loads(config) if config else None) == expected


def test_a_misspelt_setting_of_a_shard_is_named(tmp_path: Path) -> None:
    """Fails: the large shard quietly gets what the others get."""
    with (
        open_instance(_home(tmp_path, {"cpus": 4})) as instance,
        pytest.raises(dg.DagsterInvalidConfigError, match=r"cpus.* at path root:shards:'shard_07'"),
    ):
        _ = instance.run_launcher


def _home(folder: Path, shard: dict[str, object]) -> Path:
    launcher = ray_settings()["run_launcher"]
    launcher["config"] = {"ray": {"address": "http://head:8265", "num_cpus": 1}, "shards": {"shard_07": shard}}
    return dagster_home(folder / "dagster", {"run_launcher": launcher})
