"""One attempt at a shard as the outside sees it: a JSON line at its start, one at its end, and a record on disk.

The lines go through Dagster's log (a few a shard, never one a row: each is a row of the event database); the record
becomes `shard_attempts` in the warehouse.
"""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from etl_assets.engine import attempts
from etl_assets.engine.attempts import Attempt, Status
from etl_assets.engine.storage import Home
from etl_assets.retry import explained_failures

# How often the daemon has repeated the run of a killed process; absent on a first run.
_RUN_RETRY_TAG = "dagster/retry_number"


@dataclass
class Outcome:
    """What the work of an attempt reports; the attempt has failed when it never does."""

    attempt: int
    status: Status = Status.FAILED
    record_count: int | None = None

    def succeeded(self, record_count: int) -> None:
        """The shard was built and published."""
        self.status, self.record_count = Status.SUCCEEDED, record_count

    def reused(self, record_count: int) -> None:
        """The published shard already is what would have been built."""
        self.status, self.record_count = Status.REUSED, record_count


@contextlib.contextmanager
def recorded_attempt(context: dg.AssetExecutionContext, home: Home, shard_id: str) -> Iterator[Outcome]:
    """Record an attempt around its work; a permanent error leaves as a Failure that is not retried."""
    with explained_failures():
        begun = attempts.start(home, shard_id, context.run_id, attempt_number(context))
    _log(context, "shard_start", begun)
    outcome = Outcome(begun.attempt)
    try:
        with explained_failures():
            yield outcome
    except (DagsterExecutionInterruptedError, KeyboardInterrupt):
        _log(context, "shard_failed", attempts.finish(home, begun, Status.CANCELLED, error="cancelled"))
        raise
    except Exception as error:
        cause = error.__cause__ if isinstance(error, dg.Failure) and error.__cause__ else error
        failed = attempts.finish(home, begun, Status.FAILED, error=f"{type(cause).__name__}: {cause}")
        _log(context, "shard_failed", failed)
        raise
    _log(context, "shard_end", attempts.finish(home, begun, outcome.status, record_count=outcome.record_count))


def attempt_number(context: dg.AssetExecutionContext) -> int:
    """Which attempt this is, from 1: retries of the step, and of the run when its process was killed, both count."""
    step_retries: int = context.retry_number
    return 1 + step_retries + int(context.run.tags.get(_RUN_RETRY_TAG, "0"))


def _log(context: dg.AssetExecutionContext, event: str, attempt: Attempt) -> None:
    line = {
        "event": event,
        "shard_id": attempt.shard_id,
        "attempt": attempt.attempt,
        "run_id": attempt.run_id,
        "status": attempt.status,
        "record_count": attempt.record_count,
        "elapsed_ms": attempt.elapsed_ms,
    }
    if attempt.error:
        line["error"] = attempt.error
    (context.log.error if event == "shard_failed" else context.log.info)(json.dumps(line))
