"""The whole pipeline in one process, as real Dagster runs on the instance that the UI shows.

Three runs, one after another in the caller's thread: the sources, the shards, the merge; the first and the last only
where they would find or report anything new. The parallel work is inside them, on the engine's threads: two Dagster
runs at once in one process deadlock in its log handlers.
"""

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import dagster as dg
import duckdb

from etl_assets.engine.duck import Limits
from etl_assets.engine.files import publishing
from etl_assets.engine.published import warehouse
from etl_assets.engine.published.attempts import Attempt, read_attempts
from etl_assets.engine.published.checks import Check, Finding, check_warehouse, recount_source, warehouse_checks
from etl_assets.engine.published.failing_rows import FailingRows
from etl_assets.engine.published.holding import sweep_accepted
from etl_assets.engine.published.inspecting import inspect
from etl_assets.engine.published.lake_versions import fetch_publication
from etl_assets.engine.published.notices import Notice, read_notices, source_notices
from etl_assets.engine.published.overlap import SourceOverlap, read_overlap
from etl_assets.engine.published.snapshots import current_snapshot
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import Publication, read_publication
from etl_assets.engine.reading.strays import unread_names
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import is_current
from etl_assets.errors import Advice, EtlError
from etl_assets.orchestration.code_location import build_defs
from etl_assets.orchestration.finished import finished_shards, ranges
from etl_assets.orchestration.instance import origin
from etl_assets.orchestration.instance.tags import COMMAND, command_tags
from etl_assets.orchestration.metadata import CHECK_ERROR, FAILING_ROWS, FIRST_ROWS
from etl_assets.orchestration.partitions import range_tags
from etl_assets.orchestration.sources import OP_NAME
from etl_assets.orchestration.wiring import MERGED_PROFILES, SHARD_PROFILES
from etl_assets.pipeline.configuration import exports_of, merge_limits, staging_request
from etl_assets.pipeline.events import Observer, StepEvent
from etl_assets.pipeline.preflight import current_publication, sweep_unmerged
from etl_assets.pipeline.report import BrokenCheck, Report, ShardReport, SourceReport, source_report
from etl_assets.project.contract import Source
from etl_assets.project.settings import Settings
from etl_assets.project.severity import Severity

_DATA_VERSION = "dagster/data_version"
# The run's log goes to the instance; the terminal shows the observer's display.
_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


def run_pipeline(
    site: Site,
    settings: Settings,
    *,
    instance: dg.DagsterInstance,
    shards: Sequence[str] | None = None,
    force: bool = False,
    allow_partial: bool = False,
    accept_shrunk: bool = False,
    launched_by: str = COMMAND,
    on_event: Observer,
) -> Report:
    """Stage, build and merge; `shards` limits the building to those named, the merge still needs all of them.

    `force` builds also what is current: everything, or the shards named. `accept_shrunk` accepts exports and a result
    that have far fewer rows than the last publication. `launched_by` is a tag of the runs.
    """
    started_s = time.perf_counter()
    pipeline = _Pipeline(site, settings, instance, command_tags(launched_by), on_event, accept_shrunk=accept_shrunk)
    report, warehouse_before = Report(), publishing.stamp(site.home.warehouse)
    wanted = sorted(set(shards)) if shards is not None else list(site.shard_ids)
    report.sources = pipeline.stage(force and shards is None)
    if not report.failed_sources:
        report.shards = pipeline.build(wanted, force=force, all_shards=shards is None)
        if not report.failed_shards or allow_partial:
            pipeline.merge(report, allow_partial, force)
        else:
            report.merge_error = EtlError(f"Not merged: {', '.join(report.failed_shards)} failed.")
    report.notices, report.overlap = pipeline.noticed(report.publication)
    report.unread_files = unread_names(site.contract, exports_of(settings))
    report.is_warehouse_replaced = publishing.stamp(site.home.warehouse) != warehouse_before
    report.elapsed_ms = round((time.perf_counter() - started_s) * 1000)
    return report


class _Pipeline:
    """The three runs and what is read back from them."""

    def __init__(
        self,
        site: Site,
        settings: Settings,
        instance: dg.DagsterInstance,
        tags: Mapping[str, str],
        observe: Observer,
        *,
        accept_shrunk: bool,
    ) -> None:
        self._site = site
        self._accept_shrunk = accept_shrunk
        self._settings = settings
        self._instance = instance
        # The last event of each source, each shard and the merge.
        self._last: dict[str, StepEvent] = {}
        self._observe = observe
        self._tags = tags
        definitions = build_defs(site.project, settings=settings, observe=self._note)
        self._job = definitions.resolve_implicit_global_asset_job_def()

    def stage(self, force: bool) -> list[SourceReport]:
        """Run the source assets, where that would find or report anything new."""
        sources = self._site.contract.sources
        names = [source.name for source in sources]
        if not force and all(self._is_current_and_reported(source) for source in sources):
            for name in names:
                sweep_accepted(self._site.home, name)
                self._note(StepEvent(Status.REUSED, name, elapsed_ms=0))
            return [self._source_report(name, None) for name in names]
        result = self._run(names, {OP_NAME: {"force": force, "accept_shrunk": self._accept_shrunk}})
        has_failed = any(self._error_of(name) for name in names)
        why = None if result.success or has_failed else _why(result)
        return [self._source_report(name, why) for name in names]

    def _is_current_and_reported(self, source: Source) -> bool:
        """Whether the source is staged, soundly and from the present files, and the instance knows just that."""
        home = self._site.home
        try:
            snapshot = current_snapshot(home, source.name)
            return (
                snapshot is not None
                and is_current(source, staging_request(self._site, self._settings))
                and _data_version(self._instance, source.name) == snapshot.data_hash
                and recount_source(home, snapshot).passed
            )
        except (EtlError, duckdb.Error):
            # The run will say what it is, or repair it.
            return False

    def build(self, wanted: Sequence[str], *, force: bool, all_shards: bool) -> list[ShardReport]:
        """Run the shards, a run for each range of them; of all shards only those that are not finished and reported.

        To report a hundred again takes longer than to build a few.
        """
        finished = finished_shards(self._site, self._instance) if all_shards and not force else {}
        todo = [name for name in wanted if name not in finished]
        parts = ranges(todo, self._site.shard_ids, finished)
        reports = {m.shard_id: ShardReport(m.shard_id, Status.REUSED, m.record_count) for m in finished.values()}
        for name in sorted(finished.keys() - {name for part in parts for name in part}):
            count = finished[name].record_count
            self._note(StepEvent(Status.REUSED, SHARD_PROFILES, name, record_count=count, elapsed_ms=0))
        for part in parts:
            result = self._run([SHARD_PROFILES], {SHARD_PROFILES: {"force": force}}, range_tags(part))
            why = None if result.success else str(_why(result))
            known = read_attempts(self._site.home, part)
            mine = [_shard_report(name, result.run_id, why, known) for name in part]
            if why and not any(report.status is Status.FAILED for report in mine):
                # The shards are published, but their run failed before it had reported them to Dagster.
                mine = [replace(report, status=Status.FAILED, error=why) for report in mine]
            reports |= {report.shard_id: replace(report, advice=self._advice_for(report)) for report in mine}
        return [reports[name] for name in wanted]

    def merge(self, report: Report, allow_partial: bool, force: bool) -> None:
        """Run the merge and its checks, unless this very set is published, and known and checked in the instance."""
        published = self._current_and_reported()
        if published is not None:
            report.publication, report.broken_checks = published
            report.is_unchanged = True
            sweep_unmerged(self._site, self._settings)
            self._note(StepEvent(Status.REUSED, MERGED_PROFILES, record_count=report.publication.record_count))
            return
        config = {
            "allow_partial": allow_partial,
            "accept_shrunk": self._accept_shrunk,
            "replace_restored": force,
        }
        result = self._run([MERGED_PROFILES], {MERGED_PROFILES: config})
        if not result.success:
            report.merge_error = self._error_of(MERGED_PROFILES) or _why(result)
            if self._site.lake is not None:
                # It may have failed after its commit. What cannot be looked at now stays as it was known.
                with contextlib.suppress(EtlError, duckdb.Error, OSError):
                    fetch_publication(self._site.home, self._site.lake, self._site.contract)
            return
        evaluations = result.get_asset_check_evaluations()
        report.broken_checks = tuple(_broken_check(found) for found in evaluations if not found.passed)
        report.publication = read_publication(self._site.home)

    def noticed(self, published: Publication | None) -> tuple[tuple[Notice, ...], tuple[SourceOverlap, ...]]:
        """What is to be told beside the figures: of the publication, or else of the sources that are staged."""
        home, names = self._site.home, self._site.contract.source_names
        if published is not None:
            return read_notices(home), read_overlap(home, names)
        found = [current_snapshot(home, name) for name in names if self._error_of(name) is None]
        return tuple(source_notices(snapshot for snapshot in found if snapshot is not None)), ()

    def _current_and_reported(self) -> tuple[Publication, tuple[BrokenCheck, ...]] | None:
        """The published warehouse if merging would publish the same again, and the checks that warn of it.

        None when it is to be merged.
        """
        limits = merge_limits(self._settings)
        published = current_publication(self._site, inspect(self._site))
        if published is None or _data_version(self._instance, MERGED_PROFILES) != published.digest:
            return None
        if self._site.lake is None and warehouse.damage(self._site.home, limits):
            return None
        warnings = self._warnings(limits)
        return (published, warnings) if warnings is not None else None

    def _warnings(self, limits: Limits) -> tuple[BrokenCheck, ...] | None:
        """The checks that only warn and fail; None unless the latest merge passed the others, and passes them now."""
        checks = warehouse_checks(self._site.project)
        if not all(_is_evaluated(self._instance, check) for check in checks):
            return None
        try:
            findings = check_warehouse(self._site, limits, checks)
        except (EtlError, duckdb.Error, OSError):
            # The run will say what it is.
            return None
        broken = tuple(_broken(finding) for finding in findings if not finding.passed)
        return broken if all(check.severity is Severity.WARN for check in broken) else None

    def _run(
        self, names: Sequence[str], config: dict[str, dict[str, bool]], tags: dict[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        return origin.execute_in_process(
            self._job,
            instance=self._instance,
            asset_selection=[dg.AssetKey(name) for name in names],
            run_config={"ops": {op: {"config": values} for op, values in config.items()}, "loggers": _QUIET},
            tags={**self._tags, **(tags or {})},
        )

    def _note(self, event: StepEvent) -> None:
        self._last[event.shard_id or event.step] = event
        self._observe(event)

    def _error_of(self, step: str) -> Exception | None:
        event = self._last.get(step)
        return event.error if event is not None else None

    def _advice_for(self, report: ShardReport) -> tuple[Advice, ...]:
        error = self._error_of(report.shard_id) if report.status is Status.FAILED else None
        return error.advice if isinstance(error, EtlError) else ()

    def _source_report(self, name: str, why: Exception | None) -> SourceReport:
        event = self._last.get(name)
        elapsed_ms = event.elapsed_ms if event else None
        error = why or self._error_of(name)
        snapshot = None if error else current_snapshot(self._site.home, name)
        if snapshot is None:
            return SourceReport(name, elapsed_ms=elapsed_ms, error=error or EtlError("not staged"))
        source = self._site.contract.source(name)
        is_reused = event is not None and event.status is Status.REUSED
        return source_report(self._site.home, source, snapshot, elapsed_ms, reused=is_reused)


def _data_version(instance: dg.DagsterInstance, name: str) -> str | None:
    """The data version of an asset's latest materialization."""
    event = instance.get_latest_materialization_event(dg.AssetKey(name))
    materialization = event.asset_materialization if event else None
    return (materialization.tags or {}).get(_DATA_VERSION) if materialization else None


def _broken(finding: Finding) -> BrokenCheck:
    rows = finding.failing or FailingRows(0)
    count = rows.count if finding.failing else None
    return BrokenCheck(finding.name, finding.severity, count, rows.columns, rows.rows, finding.error or None)


def _broken_check(evaluation: dg.AssetCheckEvaluation) -> BrokenCheck:
    """A failed check of a run, with the evidence that the run reported."""
    severity = Severity.WARN if evaluation.severity is dg.AssetCheckSeverity.WARN else Severity.ERROR
    facts = evaluation.metadata
    count, error, table = (facts.get(name) for name in (FAILING_ROWS, CHECK_ERROR, FIRST_ROWS))
    records = table.records if isinstance(table, dg.TableMetadataValue) else []
    columns = tuple(records[0].data) if records else ()
    return BrokenCheck(
        evaluation.check_name,
        severity,
        count.value if isinstance(count, dg.IntMetadataValue) else None,
        columns,
        tuple(tuple(record.data.values()) for record in records),
        error.value if isinstance(error, dg.TextMetadataValue) else None,
    )


def _is_evaluated(instance: dg.DagsterInstance, check: Check) -> bool:
    """Whether the instance has the result of a check of the latest merge, and it was passed or only warns."""
    key = dg.AssetKey(MERGED_PROFILES)
    merged = instance.fetch_materializations(key, limit=1).records
    record = instance.get_latest_asset_check_evaluation_record(dg.AssetCheckKey(key, check.name))
    evaluation = record.event.asset_check_evaluation if record is not None and record.event is not None else None
    if evaluation is None or not merged or evaluation.target_materialization_data is None:
        return False
    is_fine = evaluation.passed or (check.severity, evaluation.severity) == (Severity.WARN, dg.AssetCheckSeverity.WARN)
    return is_fine and evaluation.target_materialization_data.storage_id == merged[0].storage_id


def _shard_report(shard_id: str, run_id: str, why: str | None, known: Sequence[Attempt]) -> ShardReport:
    """`why` is the error of the run, if it failed: it explains what no attempt of this shard does."""
    mine = [attempt for attempt in known if attempt.shard_id == shard_id and attempt.run_id == run_id]
    if not mine:
        error = why or "its run ended before it was started"
        return ShardReport(shard_id, Status.FAILED, error=error, run_id=run_id)
    last = mine[-1]
    status = last.status if last.status.is_done else Status.FAILED
    error_text = last.error if last.status is Status.FAILED else why if status is Status.FAILED else None
    return ShardReport(
        shard_id, status, last.record_count, len(mine), last.elapsed_ms, error_text or last.error, run_id
    )


def _why(result: dg.ExecuteInProcessResult) -> EtlError:
    """A failed run's first error, of which only the text is left."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return EtlError(data.user_failure_data.description)
            if data.error:
                return EtlError((data.error.cause or data.error).message.strip())
    return EtlError(f"Run {result.run_id} failed; its log is in the UI.")
