"""The run queue of this project's instance: Dagster's own, with as many runs at once as the machine has room for."""

import os
from pathlib import Path
from typing import Any

import psutil
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.run_coordinator.queued_run_coordinator import RunQueueConfig

from etl_assets.errors import ConfigError
from etl_assets.orchestration.instance.databases import reuse_engines_and_migrations
from etl_assets.orchestration.instance.starting import is_daemon
from etl_assets.project.settings import load_settings

_DEQUEUE_S = 0.25
# While one run starts or ends, another works.
_RUNS_A_CORE = 2
MAX_RUNS = 32
# What a run's process takes besides DuckDB's memory.
_PROCESS_MB = 200
_CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


class SizedRunCoordinator(QueuedRunCoordinator):
    """A queue that follows the cores and the memory; `concurrency: runs: max_concurrent_runs` in dagster.yaml wins."""

    def __init__(self, max_concurrent_runs: int | None = None, **options: Any) -> None:
        """Dagster passes what is in dagster.yaml, in every process that opens the instance."""
        reuse_engines_and_migrations()
        super().__init__(max_concurrent_runs=max_concurrent_runs or runs_at_once(), **options)

    @property
    def dequeue_interval_seconds(self) -> float:  # type: ignore[override]
        """A quarter of a second for 1, the shortest that dagster.yaml takes: the daemon looks every 1 to 1.5 s."""
        configured = super().dequeue_interval_seconds
        return configured if configured > 1 else _DEQUEUE_S

    def get_run_queue_config(self) -> RunQueueConfig:
        """Called by the daemon before each look at the queue.

        The first call makes the launcher too, which Dagster would do at the first run: it then is prepared.
        """
        if is_daemon():
            _ = self._instance.run_launcher
        return super().get_run_queue_config()


def runs_at_once() -> int:
    """Runs that may be in progress at once on this machine, or in this container."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        run_mb = _PROCESS_MB + load_settings().memory_limit
    except ConfigError:
        # The code location says what is wrong.
        run_mb = _PROCESS_MB + 1024
    return max(1, min(_RUNS_A_CORE * cores, memory_mb() // run_mb, MAX_RUNS))


def memory_mb() -> int:
    """The memory of the machine, or less where a container is given less."""
    limits = [psutil.virtual_memory().total >> 20]
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(path.read_text()) >> 20)
        except (OSError, ValueError):  # no container, or "max"
            continue
    return min(limits)
