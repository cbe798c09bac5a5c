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
from etl_assets.retry import is_transient, permanent_failure


@dataclass
class Outcome:
    """What the work of an attempt reports; the attempt has failed when it never does."""

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
    begun = attempts.start(home, shard_id, context.run_id, context.retry_number + 1)
    _log(context, "shard_start", begun)
    outcome = Outcome()
    try:
        yield outcome
    except (DagsterExecutionInterruptedError, KeyboardInterrupt):
        _log(context, "shard_failed", attempts.finish(home, begun, Status.CANCELLED, error="cancelled"))
        raise
    except Exception as error:
        failed = attempts.finish(home, begun, Status.FAILED, error=f"{type(error).__name__}: {error}")
        _log(context, "shard_failed", failed)
        if is_transient(error):
            raise
        raise permanent_failure(error) from error
    _log(context, "shard_end", attempts.finish(home, begun, outcome.status, record_count=outcome.record_count))


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
