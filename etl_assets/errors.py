"""The errors the engine raises on purpose, each with the message a person reads.

Which of them is retried is not decided here: `etl_assets.orchestration.retry` holds that table.
"""


class EtlError(Exception):
    """Base of every error this package raises on purpose; its text names the thing, the finding and the mend."""


class ConfigError(EtlError):
    """A setting, an option or the state of `ETL_HOME` makes the request impossible (exit code 2)."""


class InputError(EtlError):
    """An export is missing, unreadable or breaks the contract as a whole (exit code 2)."""


class RejectRatioError(EtlError):
    """More rows of a source broke the contract than `ETL_MAX_REJECT_RATIO` allows."""


class SourceChangedError(EtlError):
    """An export or a staged snapshot changed while it was being read; reading it again heals this."""


class DamagedSnapshotError(EtlError):
    """Staged rows are no longer what was written; the snapshot is withdrawn, the next run reads the exports again."""


class AccountingError(EtlError):
    """Rows in is not rows accepted plus rows quarantined, or a shard lost or gained customers: a defect, never data."""


class ShardSetError(EtlError):
    """The set of published shards is incomplete, stale or damaged, so no merge may be published from it."""


class WriteError(EtlError):
    """What was just written cannot be read back: the disk or the memory of the machine is not to be trusted."""


class StoppedError(EtlError):
    """The work was told to stop before it was published: its run was cancelled, or its neighbour failed for good."""


class AttemptTimeoutError(EtlError):
    """An attempt at a shard took longer than `ETL_SHARD_TIMEOUT_S`; its query was interrupted."""
