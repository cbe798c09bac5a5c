"""The result of a run of the whole pipeline, as facts."""

from dataclasses import dataclass, field

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.notices import Notice
from etl_assets.engine.published.overlap import SourceOverlap
from etl_assets.engine.published.read_files import IgnoredColumn, ReadFile, ignored_columns, read_files
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.unmatched import KeyMapFacts, key_map_facts
from etl_assets.engine.published.warehouse import Publication
from etl_assets.errors import Advice
from etl_assets.project.contract import Source
from etl_assets.project.severity import Severity


@dataclass(frozen=True)
class SourceReport:
    """The result of one source; counts are None when it failed."""

    source: str
    rows_in: int | None = None
    rows_accepted: int | None = None
    rows_quarantined: int | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    reused: bool = False
    elapsed_ms: int | None = None
    error: Exception | None = None
    # Cells of accepted rows that are null because they broke the contract, by reason.
    cell_reasons: dict[str, int] = field(default_factory=dict)
    # What its key map did, if it has one.
    key_map: KeyMapFacts | None = None
    # The files that it was read from, and columns in them that the contract does not name.
    files: tuple[ReadFile, ...] = ()
    ignored_columns: tuple[IgnoredColumn, ...] = ()
    # Rows of empty cells, which are left out.
    rows_empty: int = 0


@dataclass(frozen=True)
class ShardReport:
    """The result of one shard: `succeeded`, `reused` or `failed`."""

    shard_id: str
    status: Status
    record_count: int | None = None
    attempts: int = 0
    elapsed_ms: int | None = None
    error: str | None = None
    run_id: str | None = None
    # Advice, if the engine has any; the record of an attempt keeps only the text of its error.
    advice: tuple[Advice, ...] = ()


@dataclass(frozen=True)
class BrokenCheck:
    """A check that failed: how many rows fail it and the first of them, or why it could not be run.

    The engine's own checks have no rows.
    """

    name: str
    severity: Severity = Severity.ERROR
    failing_count: int | None = None
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[object, ...], ...] = ()
    error: str | None = None


@dataclass
class Report:
    """The result of the whole run."""

    sources: list[SourceReport] = field(default_factory=list)
    shards: list[ShardReport] = field(default_factory=list)
    publication: Publication | None = None
    merge_error: Exception | None = None
    # Checks of the published warehouse that failed, warnings too; it is published all the same.
    broken_checks: tuple[BrokenCheck, ...] = ()
    # Of the publication; without one, what reading the sources brought to light.
    notices: tuple[Notice, ...] = ()
    overlap: tuple[SourceOverlap, ...] = ()
    # Files among the exports that no source reads.
    unread_files: tuple[str, ...] = ()
    # A merge can fail after it has published, in its checks for example.
    is_warehouse_replaced: bool = False
    # Whether this very set was published already, so that nothing was merged.
    is_unchanged: bool = False
    elapsed_ms: int = 0

    @property
    def failed_shards(self) -> list[str]:
        """The shards that were to be built and were not."""
        return [report.shard_id for report in self.shards if report.status is Status.FAILED]

    @property
    def failed_sources(self) -> list[str]:
        """The sources that could not be staged."""
        return [report.source for report in self.sources if report.error is not None]

    @property
    def failed_checks(self) -> tuple[str, ...]:
        """The checks whose failure is an error."""
        return tuple(check.name for check in self.broken_checks if check.severity is Severity.ERROR)

    @property
    def warned_checks(self) -> tuple[str, ...]:
        """The checks whose failure is a warning."""
        return tuple(check.name for check in self.broken_checks if check.severity is Severity.WARN)

    @property
    def ok(self) -> bool:
        """Whether a complete result was published."""
        return self.publication is not None and not self.failed_shards and not self.failed_checks


def source_report(
    home: Home, source: Source, snapshot: Snapshot, elapsed_ms: int | None, *, reused: bool
) -> SourceReport:
    """The report of a source that is staged."""
    return SourceReport(
        snapshot.source,
        snapshot.rows_in,
        snapshot.rows_accepted,
        snapshot.rows_quarantined,
        snapshot.reasons,
        reused,
        elapsed_ms,
        cell_reasons=snapshot.cell_reasons,
        key_map=key_map_facts(source, snapshot),
        files=read_files(home, snapshot),
        ignored_columns=ignored_columns(source, snapshot),
        rows_empty=snapshot.rows_empty,
    )
