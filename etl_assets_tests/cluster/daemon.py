"""The Dagster daemon of a cluster, backfills that are asked of it, and what became of their runs."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.execution.backfill import PartitionBackfill

from etl_assets.orchestration.instance.opening import open_instance
from etl_assets.orchestration.partitions import shard_partitions
from etl_assets_tests.command_line import environment

_ENDED_S = 60


@contextlib.contextmanager
def daemon(instance_home: Path, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon, with a code server of its own."""
    log = instance_home / "daemon.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-m", "etl_assets.definitions"],
            env=environment(**variables, DAGSTER_HOME=str(instance_home)),
            cwd=instance_home,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(timeout=_ENDED_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def ask_for_backfill(
    instance: dg.DagsterInstance, shard_count: int, shard_ids: Sequence[str], tags: Mapping[str, str]
) -> str:
    """Ask the daemon to build these shards, as the button in the UI does; returns the backfill's id."""
    wanted = shard_partitions(shard_count).subset_with_partition_keys(shard_ids)
    backfill = PartitionBackfill.from_asset_graph_subset(
        backfill_id=uuid.uuid4().hex[:8],
        backfill_timestamp=time.time(),
        tags=dict(tags),
        dynamic_partitions_store=instance,
        # mypy misses the defaults behind Dagster's decorator.
        asset_graph_subset=AssetGraphSubset({dg.AssetKey("shard_profiles"): wanted}, set()),  # type: ignore[call-arg]
        title=None,
        description=None,
        run_config=None,
    )
    instance.add_backfill(backfill)
    return str(backfill.backfill_id)


def runs_of(instance_home: Path, backfill_id: str) -> list[dg.DagsterRun]:
    """The runs of a backfill and those that repeat them, newest first."""
    with open_instance(instance_home) as instance:
        return list(instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill_id})))


def log_of(instance_home: Path, run_id: str) -> str:
    """Everything that a run's log says."""
    with open_instance(instance_home) as instance:
        entries = instance.all_logs(run_id)
    texts = []
    for entry in entries:
        data = entry.dagster_event.event_specific_data if entry.dagster_event else None
        failure = getattr(data, "user_failure_data", None)
        texts += [entry.user_message, entry.message or "", failure.description if failure else ""]
    return "\n".join(filter(None, texts))
