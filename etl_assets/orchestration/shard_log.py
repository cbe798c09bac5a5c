"""Attempts at shards in Dagster's log: a JSON line at the start, one at the end or failure.

A few lines a shard, never one a row: each is a row of the event database. The record of attempts itself, with those of
killed processes, is the engine's; it becomes `shard_attempts` in the warehouse.
"""

import json

import dagster as dg

from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.status import Status

# How often the daemon has repeated the run of a killed process; absent on a first run.
_RUN_RETRY_TAG = "dagster/retry_number"


def attempt_number(context: dg.AssetExecutionContext) -> int:
    """Which attempt this is, from 1: retries of the step, and of the run when its process was killed, both count."""
    step_retries: int = context.retry_number
    return 1 + step_retries + int(context.run.tags.get(_RUN_RETRY_TAG, "0"))


def log_attempt(context: dg.AssetExecutionContext, attempt: Attempt) -> None:
    """Write the line of an attempt that has started or ended."""
    line = {
        "event": _event(attempt.status),
        "shard_id": attempt.shard_id,
        "attempt": attempt.number,
        "run_id": attempt.run_id,
        "status": attempt.status,
        "record_count": attempt.record_count,
        "elapsed_ms": attempt.elapsed_ms,
    }
    if attempt.error:
        line["error"] = attempt.error
    (context.log.error if attempt.error else context.log.info)(json.dumps(line))


def _event(status: Status) -> str:
    if status is Status.RUNNING:
        return "shard_start"
    return "shard_end" if status.is_done else "shard_failed"
