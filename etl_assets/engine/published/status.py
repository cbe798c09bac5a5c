"""The one vocabulary for what became of a shard, an attempt or a step."""

from enum import StrEnum


class Status(StrEnum):
    """The state of a shard, an attempt or a step; the groups say which words are used for which."""

    # A step of a run that has not ended; of these, an attempt at a shard is only ever `running`.
    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    # How a step or an attempt ended.
    SUCCEEDED = "succeeded"
    REUSED = "reused"
    FAILED = "failed"
    KILLED = "killed"
    CANCELLED = "cancelled"
    # How a shard lies on disk, compared with the current sources.
    PUBLISHED = "published"
    STALE = "stale"
    MISSING = "missing"
    DAMAGED = "damaged"

    @property
    def is_done(self) -> bool:
        """Whether a shard is published and current after it."""
        return self in (Status.SUCCEEDED, Status.REUSED)

    @property
    def is_bad_end(self) -> bool:
        """Whether it ended without a result."""
        return self in (Status.FAILED, Status.KILLED, Status.CANCELLED)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.is_done or self.is_bad_end
