"""Attempts at shards in Dagster's log: a JSON line at the start, one at the end or failure.

A few lines a shard, never one a row: each is a row of the event database. The record of attempts itself, with those of
killed processes, is the engine's; it becomes `shard_attempts` in the warehouse.
"""

import json
import re

import dagster as dg

from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.status import Status

# How often the daemon has repeated the run of a killed process; absent on a first run.
_RUN_RETRY_TAG = "dagster/retry_number"
_RUN_RETRIES = re.compile("[0-9]{1,6}")
_SHARDS_LOGGED_ONE_BY_ONE, _LINES_AN_ENTRY = 100, 50


def attempt_number(context: dg.AssetExecutionContext) -> int:
    """The number of this attempt, from 1. Retries of the step count, and those of a run whose process was killed.

    Raises a Failure, which is not retried, for a run whose tag someone has set to anything else than a number.
    """
    step_retries: int = context.retry_number
    run_retries = context.run.tags.get(_RUN_RETRY_TAG, "0")
    if _RUN_RETRIES.fullmatch(run_retries) is None:
        raise dg.Failure(
            f"The tag {_RUN_RETRY_TAG} of this run is {run_retries!r}. Expected a whole number, such as 1: Dagster's "
            "daemon counts the repetitions of a run in it. Launch the run again without this tag.",
            allow_retries=False,
        )
    return 1 + step_retries + int(run_retries)


class AttemptLog:
    """Writes the lines of attempts that start or end.

    A log entry for each line, so that they appear as they happen; in a run of many shards an entry for some dozens of
    lines, because storing an entry takes as long as building a very small shard.
    """

    def __init__(self, context: dg.AssetExecutionContext, shard_count: int) -> None:
        self._context = context
        self._lines_an_entry = 1 if shard_count <= _SHARDS_LOGGED_ONE_BY_ONE else _LINES_AN_ENTRY
        self._lines: list[str] = []

    def add(self, attempt: Attempt) -> None:
        """Take in an attempt that has started or ended; a failure is written at once."""
        if attempt.error:
            self.flush()
            self._context.log.error(_line(attempt))
            return
        self._lines.append(_line(attempt))
        if len(self._lines) >= self._lines_an_entry:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._lines:
            self._context.log.info("\n".join(self._lines))
            self._lines.clear()


def _line(attempt: Attempt) -> str:
    line = {
        "event": _event(attempt.status),
        "shard_id": attempt.shard_id,
        "attempt": attempt.number,
        "run_id": attempt.run_id,
        "status": attempt.status,
        "record_count": attempt.record_count,
        "elapsed_ms": attempt.elapsed_ms,
    }
    return json.dumps(line | ({"error": attempt.error} if attempt.error else {}))


def _event(status: Status) -> str:
    if status is Status.RUNNING:
        return "shard_start"
    return "shard_end" if status.is_done else "shard_failed"
