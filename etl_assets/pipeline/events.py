"""Progress events that assets send to an observer in the same process; `etl-assets run` draws its display from them."""

from collections.abc import Callable
from dataclasses import dataclass

from etl_assets.engine.published.status import Status


@dataclass(frozen=True)
class StepEvent:
    """News of one source, one shard or the merge; what is not known (yet) is None.

    `status` is running, retrying, succeeded, reused or failed; `error` is what was raised, for the latter two of these.
    """

    status: Status
    step: str
    shard_id: str | None = None
    error: Exception | None = None
    record_count: int | None = None
    elapsed_ms: int | None = None
    attempt: int | None = None


Observer = Callable[[StepEvent], None]


def unobserved(_: StepEvent) -> None:
    """The observer of runs that no one watches."""
