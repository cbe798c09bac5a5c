"""What became of a run of the whole pipeline, for whoever shows it. No Dagster import."""

from dataclasses import dataclass, field

from etl_assets.engine.steps.stage import Snapshot


@dataclass(frozen=True)
class SourceReport:
    """What became of one source; counts are None when it failed."""

    source: str
    rows_in: int | None
    rows_accepted: int | None
    rows_quarantined: int | None
    reasons: dict[str, int]
    reused: bool
    elapsed_ms: int | None
    error: str | None


@dataclass(frozen=True)
class ShardReport:
    """What became of one shard: `published`, `reused`, `failed`, or `skipped` when it was not its turn."""

    shard_id: str
    status: str
    record_count: int | None = None
    attempts: int = 0
    elapsed_ms: int | None = None
    error: str | None = None
    run_id: str | None = None


@dataclass
class Report:
    """What became of the whole."""

    sources: list[SourceReport] = field(default_factory=list)
    shards: list[ShardReport] = field(default_factory=list)
    publication: dict[str, object] | None = None
    merge_error: str | None = None
    # A merge can fail after it has published, in its checks for example.
    is_warehouse_replaced: bool = False
    # Whether there was nothing to do, so that no Dagster run was started.
    is_unchanged: bool = False
    elapsed_ms: int = 0

    @property
    def failed_shards(self) -> list[str]:
        """The shards that were to be built and were not."""
        return [report.shard_id for report in self.shards if report.status == "failed"]

    @property
    def ok(self) -> bool:
        """Whether a complete result was published."""
        return self.publication is not None and not self.failed_shards


def source_report(snapshot: Snapshot, elapsed_ms: int | None, *, reused: bool) -> SourceReport:
    """The report of a source that is staged."""
    return SourceReport(
        snapshot.source,
        snapshot.rows_in,
        snapshot.rows_accepted,
        snapshot.rows_quarantined,
        snapshot.reasons,
        reused,
        elapsed_ms,
        None,
    )
