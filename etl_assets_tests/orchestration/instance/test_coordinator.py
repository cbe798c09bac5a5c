"""How many runs are in progress at once: as many as cores and memory allow, unless dagster.yaml says otherwise."""

import os
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import psutil
import pytest

from etl_assets.orchestration.instance import coordinator, warm_launcher
from etl_assets_tests.orchestration.test_code_location import CHECKOUT


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ETL_MEMORY_LIMIT", "800MB")
    monkeypatch.setattr(coordinator, "_CGROUP_LIMITS", (tmp_path / "none",))


def machine(monkeypatch: pytest.MonkeyPatch, cores: int, memory_mb: int) -> None:
    """Take this machine for another one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    total = psutil.virtual_memory()._replace(total=memory_mb << 20)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: total)


@pytest.mark.parametrize(
    ("cores", "memory_mb", "runs"),
    [(2, 16_000, 4), (1, 16_000, 2), (8, 64_000, 16), (64, 512_000, 32), (8, 3_000, 3), (2, 500, 1)],
)
def test_runs_at_once_follow_cores_and_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int, memory_mb: int, runs: int
) -> None:
    """Fails: sixteen cores are idle while runs wait, or a small machine ends runs for want of memory."""
    machine(monkeypatch, cores, memory_mb)
    assert coordinator.runs_at_once() == runs


def test_a_container_counts_with_what_it_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine(monkeypatch, 8, 64_000)
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(coordinator, "_CGROUP_LIMITS", (limit,))
    limit.write_text("max\n")
    assert coordinator.runs_at_once() == 16
    limit.write_text(f"{4_000 << 20}\n")
    assert coordinator.runs_at_once() == 4


def test_wrong_settings_do_not_keep_the_daemon_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code location shows them. Fails: the UI does not start, and shows nothing."""
    machine(monkeypatch, 2, 16_000)
    monkeypatch.setenv("ETL_MEMORY_LIMIT", "much")
    assert coordinator.runs_at_once() == 4


@pytest.mark.parametrize(("added", "runs"), [("", 6), ("concurrency: {runs: {max_concurrent_runs: 9}}\n", 9)])
def test_the_shipped_instance_is_sized_and_a_number_of_ones_own_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, added: str, runs: int
) -> None:
    machine(monkeypatch, 3, 64_000)
    (tmp_path / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text() + added)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        queue = instance.get_concurrency_config().run_queue_config
    assert queue is not None
    assert (queue.max_concurrent_runs, queue.max_user_code_failure_retries) == (runs, 20)


def test_the_daemon_prepares_the_launcher_before_the_first_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Fails: the first run after the start of the UI waits three seconds for imports."""
    prepared: list[str] = []
    starter = SimpleNamespace(prepare=lambda: prepared.append("started"))
    monkeypatch.setattr(warm_launcher, "starter_of", lambda python: starter)
    monkeypatch.setattr(warm_launcher, "can_fork", lambda: None)
    (tmp_path / "dagster.yaml").write_text((CHECKOUT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        instance.get_concurrency_config()
        assert prepared == []
        for module in (coordinator, warm_launcher):
            monkeypatch.setattr(module, "is_daemon", lambda: True)
        instance.get_concurrency_config()
        instance.get_concurrency_config()
    assert prepared == ["started"]


@pytest.mark.parametrize(("configured", "expected"), [(1, 0.25), (5, 5)])
def test_the_queue_is_looked_at_four_times_a_second_unless_dagster_yaml_gives_it_more_time(
    configured: int, expected: float
) -> None:
    """Fails: each wave of runs of a backfill waits a second for the next look."""
    made = coordinator.SizedRunCoordinator(dequeue_interval_seconds=configured)
    assert made.dequeue_interval_seconds == expected
