"""The source assets, one for each system of the contract: export files in, a staged snapshot out."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import dagster as dg
import duckdb
from pydantic import Field

from etl_assets.engine import faults, workers
from etl_assets.engine.published import checks
from etl_assets.engine.published import preview as published
from etl_assets.engine.published.checks import Finding
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.stage import Snapshot, StagingRequest
from etl_assets.errors import DamagedSnapshotError
from etl_assets.orchestration.metadata import COLUMN_SCHEMA, ROW_COUNT, counts_table, source_schema
from etl_assets.orchestration.retry import cancelled_for_good, explained_failures, is_transient, permanent_failure
from etl_assets.orchestration.shard_log import attempt_number
from etl_assets.pipeline.events import Kind, Observer, StepEvent
from etl_assets.project.contract import SOURCES, Source
from etl_assets.project.settings import Settings

OWNERS = ["team:data-engineering"]
GROUP = "sources"
OP_NAME = "stage_sources"
ACCOUNTING_CHECK = "accounting_closed"


class SourceConfig(dg.Config):
    """Run configuration of the source assets."""

    force: bool = Field(
        default=False,
        description="Read the export even when it is unchanged, and take over an ETL_HOME of another shard count.",
    )


@dataclass(frozen=True)
class _Staged:
    source: Source
    elapsed_ms: int
    snapshot: Snapshot | None = None
    reused: bool = False
    recount: Finding | None = None
    error: Exception | None = None


def source_assets(settings: Settings, retry_policy: dg.RetryPolicy, observe: Observer) -> dg.AssetsDefinition:
    """One asset a source. They share a step, so that a run of several reads them side by side on all workers."""

    @dg.multi_asset(
        name=OP_NAME,
        specs=[_spec(source) for source in SOURCES],
        check_specs=[
            dg.AssetCheckSpec(
                ACCOUNTING_CHECK,
                asset=source.name,
                description="Rows in the files = rows accepted + rows quarantined, counted again in what was written.",
            )
            for source in SOURCES
        ],
        can_subset=True,
        retry_policy=retry_policy,
    )
    def stage_sources(context: dg.AssetExecutionContext, config: SourceConfig) -> Iterator[dg.MaterializeResult]:
        with explained_failures():
            published.refuse_other_shard_count(settings.home, settings.shard_count, force=config.force)
        selected = [source for source in SOURCES if dg.AssetKey(source.name) in context.selected_asset_keys]
        attempt = attempt_number(context)
        with cancelled_for_good(), explained_failures(), faults.scope(attempt=attempt):
            results = _stage(settings, selected, config.force, attempt, observe)
            faults.point("event.sources")
        # Only now, when no thread is at work any more: Dagster may abandon a generator at any yield.
        for result in results:
            if result.error is None:
                yield _materialization(context, result)
            else:
                context.log.error(f"{result.source.name}: {result.error}")
        errors = [result.error for result in results if result.error is not None]
        if errors:
            raise _failure(errors)

    return stage_sources


def _spec(source: Source) -> dg.AssetSpec:
    return dg.AssetSpec(
        source.name,
        group_name=GROUP,
        kinds={"csv", "parquet"},
        owners=OWNERS,
        code_version=staging.staging_version(),
        metadata={COLUMN_SCHEMA: source_schema(source)},
        description=(
            f"The {source.title} export: one record a customer, key `customer_id`, read once, typed and validated.\n\n"
            "Rows that break the contract go to quarantine with file, line, raw text and reason; the rest is routed by "
            "`customer_id` into one immutable file a shard. The data version is the hash of the files' bytes: an "
            "unchanged export is not read again, unless `force` is set. Materialize it again after the export changed."
        ),
    )


def _stage(settings: Settings, selected: list[Source], force: bool, attempt: int, observe: Observer) -> list[_Staged]:
    """Stage the sources side by side; one that fails does not stop the others."""
    request = settings.staging_request()

    def work(source: Source, tell: Callable[[_Staged], None]) -> None:
        with faults.scope(attempt=attempt, stop=request.limits.stop):
            tell(_staged(source, request, force))

    results = []
    with contextlib.closing(workers.run(work, selected, settings.workers, request.limits.stop)) as news:
        for result in news:
            observe(_step_event(result))
            results.append(result)
    return results


def _staged(source: Source, request: StagingRequest, force: bool) -> _Staged:
    started = time.perf_counter()
    try:
        snapshot, reused, recount = _recounted(source, request, force)
    except Exception as error:  # noqa: BLE001  reported with its source; the others go on
        return _Staged(source, _elapsed_ms(started), error=error)
    return _Staged(source, _elapsed_ms(started), snapshot, reused, recount)


def _recounted(source: Source, request: StagingRequest, force: bool) -> tuple[Snapshot, bool, Finding]:
    """Stage and count again; a snapshot whose files cannot be counted is made anew from the export."""
    snapshot, reused = staging.stage(source, request, force=force)
    try:
        return snapshot, reused, checks.recount_source(request.home, snapshot)
    except duckdb.Error:
        with contextlib.suppress(DamagedSnapshotError):
            staging.require_undamaged(request.home, [snapshot])
            raise
    snapshot, reused = staging.stage(source, request, force=force)
    return snapshot, reused, checks.recount_source(request.home, snapshot)


def _elapsed_ms(started: float) -> int:
    return round((time.perf_counter() - started) * 1000)


def _step_event(result: _Staged) -> StepEvent:
    name, snapshot = result.source.name, result.snapshot
    if result.error is not None:
        kind: Kind = "retrying" if is_transient(result.error) else "failed"
        return StepEvent(kind, name, message=str(result.error), elapsed_ms=result.elapsed_ms)
    count = snapshot.rows_accepted if snapshot else None
    return StepEvent("finished", name, record_count=count, elapsed_ms=result.elapsed_ms, reused=result.reused)


def _materialization(context: dg.AssetExecutionContext, result: _Staged) -> dg.MaterializeResult:
    snapshot, recount = result.snapshot, result.recount
    assert snapshot is not None, "a source without an error has a snapshot"
    assert recount is not None, "and was counted again"
    key = dg.AssetCheckKey(dg.AssetKey(result.source.name), ACCOUNTING_CHECK)
    check = dg.AssetCheckResult(
        asset_key=key.asset_key, check_name=ACCOUNTING_CHECK, passed=recount.passed, metadata=dict(recount.facts)
    )
    return dg.MaterializeResult(
        asset_key=result.source.name,
        data_version=dg.DataVersion(snapshot.data_hash),
        metadata={**_accounting(snapshot), "reused": result.reused, "elapsed_ms": result.elapsed_ms},
        check_results=[check] if key in context.selected_asset_check_keys else [],
    )


def _accounting(snapshot: Snapshot) -> dict[str, Any]:
    return {
        **staging.describe(snapshot),
        ROW_COUNT: snapshot.rows_accepted,
        "rejected_by_reason": counts_table("reason", snapshot.reasons),
        "files": dg.MetadataValue.json(list(snapshot.files)),
        "extra_columns_ignored": dg.MetadataValue.json(list(snapshot.extra_columns)),
        "snapshot": snapshot.snapshot,
    }


def _failure(errors: list[Exception]) -> Exception:
    """One error as it is; several as one text. Retried when that can help at least one source."""
    if any(is_transient(error) for error in errors):
        return next(error for error in errors if is_transient(error))
    return permanent_failure(ExceptionGroup("\n".join(str(error) for error in errors), errors))
