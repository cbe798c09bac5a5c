"""What an asset tells whoever watches the run in the same process; the `etl-assets run` display is made of these."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Kind = Literal["started", "retrying", "finished", "failed"]


@dataclass(frozen=True)
class StepEvent:
    """News of one source, one shard or the merge; what is not known (yet) is None."""

    kind: Kind
    step: str
    shard_id: str | None = None
    message: str = ""
    record_count: int | None = None
    elapsed_ms: int | None = None
    attempt: int | None = None
    reused: bool = False


Observer = Callable[[StepEvent], None]


def nobody(_: StepEvent) -> None:
    """The observer when nobody watches."""
