"""The whole pipeline in one process, as real Dagster runs on the instance that the UI shows.

Three runs, one after another in the caller's thread: the sources, unless they are current and the instance knows it,
the shards, the merge. The parallel work is inside them, on the engine's threads; two Dagster runs at once in one
process deadlock in its log handlers.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import dagster as dg
import duckdb

from etl_assets.engine.files import publishing as storage
from etl_assets.engine.published import attempts, checks, warehouse
from etl_assets.engine.published.attempts import Attempt, Status
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import EtlError
from etl_assets.orchestration import merged_profiles, shard_profiles, sources
from etl_assets.orchestration.code_location import build_defs
from etl_assets.orchestration.instance import origin
from etl_assets.orchestration.instance.tags import command_tags
from etl_assets.pipeline.events import Observer, StepEvent
from etl_assets.pipeline.report import Report, ShardReport, SourceReport, source_report
from etl_assets.project.contract import SOURCES, Source
from etl_assets.project.settings import Settings

_DATA_VERSION = "dagster/data_version"
_RANGE_START, _RANGE_END = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"

# The run's log goes to the instance; on the terminal the observer tells what there is to tell.
_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


def run_pipeline(
    settings: Settings,
    *,
    instance: dg.DagsterInstance,
    shards: Sequence[str] | None = None,
    force: bool = False,
    allow_partial: bool = False,
    on_event: Observer,
) -> Report:
    """Stage, build and merge; `shards` limits the building to those named, the merge still needs all of them.

    `force` builds also what is current: everything, or the shards named.
    """
    started = time.perf_counter()
    pipeline = _Pipeline(settings, instance, on_event)
    report, warehouse_before = Report(), storage.stamp(settings.home.warehouse)
    wanted = sorted(set(shards)) if shards is not None else shard_keys(settings.shard_count)
    report.sources = pipeline.stage(force and shards is None)
    if all(source.error is None for source in report.sources):
        report.shards = pipeline.build(wanted, force)
        if not report.failed_shards or allow_partial:
            report.publication, report.merge_error = pipeline.merge(allow_partial)
        else:
            report.merge_error = f"Not merged: {', '.join(report.failed_shards)} failed."
    report.is_warehouse_replaced = storage.stamp(settings.home.warehouse) != warehouse_before
    report.elapsed_ms = round((time.perf_counter() - started) * 1000)
    return report


class _Pipeline:
    """The three runs and what is read back from them."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, observe: Observer) -> None:
        self._settings = settings
        self._instance = instance
        self._errors: dict[str, str] = {}
        self._elapsed_ms: dict[str, int | None] = {}
        self._reused: set[str] = set()
        self._observe = observe
        self._tags = command_tags()
        self._job = build_defs(settings=settings, observe=self._note).resolve_implicit_global_asset_job_def()

    def stage(self, force: bool) -> list[SourceReport]:
        """Run the source assets, where that would find or tell anything new."""
        names = [source.name for source in SOURCES]
        if not force and all(self._is_current_and_told(source) for source in SOURCES):
            for name in names:
                self._note(StepEvent("finished", name, elapsed_ms=0, reused=True))
            return [self._source_report(name) for name in names]
        result = self._run(names, {sources.OP_NAME: {"force": force}})
        if not result.success and not self._errors:
            self._errors = dict.fromkeys(names, _why(result))
        return [self._source_report(name) for name in names]

    def _is_current_and_told(self, source: Source) -> bool:
        """Whether the source is staged, soundly and from the files that are there, and the instance knows just that."""
        try:
            snapshot = staging.current_snapshot(source, self._settings.home)
            return (
                snapshot is not None
                and staging.is_current(source, self._settings.staging_request())
                and _data_version(self._instance, source.name) == snapshot.data_hash
                and checks.recount_source(self._settings.home, snapshot).passed
            )
        except (EtlError, duckdb.Error):
            # The run will say what it is, or mend it.
            return False

    def build(self, wanted: Sequence[str], force: bool) -> list[ShardReport]:
        """Run the shards, a run for each unbroken range of them."""
        reports: dict[str, ShardReport] = {}
        for part in _ranges(wanted, shard_keys(self._settings.shard_count)):
            tags = {_RANGE_START: part[0], _RANGE_END: part[-1]}
            result = self._run([shard_profiles.NAME], {shard_profiles.NAME: {"force": force}}, tags)
            why = None if result.success else _why(result)
            known = attempts.read_attempts(self._settings.home, part)
            mine = [_shard_report(name, result.run_id, why, known) for name in part]
            if why and not any(report.status == "failed" for report in mine):
                # The shards are there, but their run failed before it had told Dagster of them.
                mine = [replace(report, status="failed", error=why) for report in mine]
            reports |= {report.shard_id: report for report in mine}
        return [reports[name] for name in wanted]

    def merge(self, allow_partial: bool) -> tuple[dict[str, object] | None, str | None]:
        """Run the merge and its checks."""
        result = self._run([merged_profiles.NAME], {merged_profiles.NAME: {"allow_partial": allow_partial}})
        if not result.success:
            return None, _why(result)
        failed = [check.check_name for check in result.get_asset_check_evaluations() if not check.passed]
        if failed:
            return None, f"Checks failed on the published warehouse: {', '.join(failed)}."
        return warehouse.read_publication(self._settings.home), None

    def _run(
        self, names: Sequence[str], config: dict[str, dict[str, bool]], tags: dict[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        return origin.execute_in_process(
            self._job,
            instance=self._instance,
            asset_selection=[dg.AssetKey(name) for name in names],
            run_config={"ops": {op: {"config": values} for op, values in config.items()}, "loggers": _QUIET},
            tags=self._tags | (tags or {}),
        )

    def _note(self, event: StepEvent) -> None:
        if event.shard_id is None and event.step != merged_profiles.NAME:
            self._elapsed_ms[event.step] = event.elapsed_ms
            if event.kind == "finished":
                self._errors.pop(event.step, None)
            elif event.kind != "started":
                self._errors[event.step] = event.message
            if event.reused:
                self._reused.add(event.step)
        self._observe(event)

    def _source_report(self, name: str) -> SourceReport:
        elapsed_ms, error = self._elapsed_ms.get(name), self._errors.get(name)
        source = next(source for source in SOURCES if source.name == name)
        snapshot = None if error else staging.current_snapshot(source, self._settings.home)
        if snapshot is None:
            return SourceReport(name, None, None, None, {}, False, elapsed_ms, error or "not staged")
        return source_report(snapshot, elapsed_ms, reused=name in self._reused)


def _data_version(instance: dg.DagsterInstance, name: str) -> str | None:
    """The data version of an asset's latest materialization."""
    event = instance.get_latest_materialization_event(dg.AssetKey(name))
    materialization = event.asset_materialization if event else None
    return (materialization.tags or {}).get(_DATA_VERSION) if materialization else None


def _ranges(wanted: Sequence[str], known: Sequence[str]) -> Iterator[list[str]]:
    """The wanted shards as unbroken ranges of the known ones: a run can be asked for a range only."""
    part: list[str] = []
    for name in known:
        if name in wanted:
            part.append(name)
        elif part:
            yield part
            part = []
    if part:
        yield part


def _shard_report(shard_id: str, run_id: str, why: str | None, known: Sequence[Attempt]) -> ShardReport:
    """`why` is the error of the run, if it failed: it tells what no attempt of this shard does."""
    mine = [attempt for attempt in known if attempt.shard_id == shard_id and attempt.run_id == run_id]
    if not mine:
        return ShardReport(shard_id, "failed", error=why or "its run ended before it was begun", run_id=run_id)
    last = mine[-1]
    status = {Status.SUCCEEDED: "published", Status.REUSED: "reused"}.get(last.status, "failed")
    error = last.error if last.status is Status.FAILED else why if status == "failed" else None
    return ShardReport(shard_id, status, last.record_count, len(mine), last.elapsed_ms, error or last.error, run_id)


def _why(result: dg.ExecuteInProcessResult) -> str:
    """The text of a failed run's first error."""
    for event in result.all_events:
        if event.is_step_failure:
            data = event.step_failure_data
            if data.user_failure_data and data.user_failure_data.description:
                return data.user_failure_data.description
            if data.error:
                return (data.error.cause or data.error).message.strip()
    return f"Run {result.run_id} failed; see it in the UI: etl-assets ui"
