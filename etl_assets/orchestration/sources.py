"""The source assets, one for each system of the contract: export files in, a staged snapshot out."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import dagster as dg
import duckdb
from pydantic import Field

from etl_assets.engine import faults, workers
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import snapshots
from etl_assets.engine.published.checks import Finding, recount_source
from etl_assets.engine.published.notices import source_notices
from etl_assets.engine.published.read_files import read_files
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.unmatched import key_map_facts, unmatched_texts
from etl_assets.engine.published.withdrawing import require_undamaged
from etl_assets.engine.site import Site
from etl_assets.engine.steps.sending import stage_and_send
from etl_assets.engine.steps.stage import StagingRequest
from etl_assets.errors import DamagedSnapshotError
from etl_assets.orchestration.cluster_runs import plan_tags, refuse_other_machine
from etl_assets.orchestration.metadata import COLUMN_SCHEMA, ROW_COUNT, counts_table, source_schema, table_value
from etl_assets.orchestration.retry import (
    cancelled_for_good,
    explained_failures,
    is_retried,
    is_transient,
    permanent_failure,
)
from etl_assets.orchestration.shard_log import attempt_number
from etl_assets.orchestration.ui_wording import explained
from etl_assets.orchestration.wiring import SOURCES_GROUP, Wiring
from etl_assets.pipeline.configuration import staging_request
from etl_assets.pipeline.events import StepEvent
from etl_assets.pipeline.fetching import fetch_exports
from etl_assets.pipeline.preflight import prepare_lake, refuse_other_shard_count
from etl_assets.project.contract import Source

OP_NAME = "stage_sources"
ACCOUNTING_CHECK = "accounting_closed"
# Files of which a source's metadata shows rows and date: the last ones.
_FILES_SHOWN = 100


class SourceConfig(dg.Config):
    """Run configuration of the source assets."""

    force: bool = Field(
        default=False,
        description="Read the export even when it is unchanged, and take over an ETL_HOME of another shard count.",
    )
    accept_shrunk: bool = Field(
        default=False,
        description="Accept exports with far fewer rows than those of the last publication, in this run.",
    )


@dataclass(frozen=True)
class _Started:
    source: Source


@dataclass(frozen=True)
class _Staged:
    source: Source
    elapsed_ms: int
    snapshot: Snapshot | None = None
    reused: bool = False
    recount: Finding | None = None
    error: Exception | None = None


def source_assets(wiring: Wiring) -> dg.AssetsDefinition:
    """One asset a source. They share a step, so that a run of several reads them side by side on all workers."""
    contract = wiring.site.contract

    @dg.multi_asset(
        name=wiring.name(OP_NAME),
        specs=[_spec(wiring, source) for source in contract.sources],
        check_specs=[
            dg.AssetCheckSpec(
                ACCOUNTING_CHECK,
                asset=wiring.key(source.name),
                description="Rows in the files = rows accepted + rows quarantined, counted again in what was written.",
            )
            for source in contract.sources
        ],
        can_subset=True,
        op_tags=plan_tags(wiring.site),
        retry_policy=wiring.retry_policy,
    )
    def stage_sources(context: dg.AssetExecutionContext, config: SourceConfig) -> Iterator[dg.MaterializeResult]:
        with explained_failures():
            refuse_other_machine(context, wiring)
            prepare_lake(wiring.site)
            fetch_exports(wiring.settings)
            refuse_other_shard_count(wiring.site, force=config.force)
        selected = [source for source in contract.sources if wiring.key(source.name) in context.selected_asset_keys]
        attempt = attempt_number(context)
        with cancelled_for_good(), explained_failures(), faults.scope(attempt=attempt):
            results = _stage(wiring, selected, config, attempt)
            faults.point("event.sources")
        # Only now, when no thread is at work any more: Dagster may abandon a generator at any yield.
        for result in results:
            if result.error is None:
                yield _materialization(context, wiring, result)
            else:
                context.log.error(f"{result.source.name}: {result.error}")
        errors = [result.error for result in results if result.error is not None]
        if errors:
            raise _failure(errors)

    return stage_sources


def _spec(wiring: Wiring, source: Source) -> dg.AssetSpec:
    key = source.key.name
    records = f"any number of records for each `{key}`" if source.has_many else f"one record for each `{key}`"
    return dg.AssetSpec(
        wiring.key(source.name),
        group_name=SOURCES_GROUP,
        kinds={"csv", "parquet"},
        owners=list(wiring.owners),
        code_version=wiring.site.staging_version(source),
        metadata={COLUMN_SCHEMA: source_schema(source)},
        description=(
            f"The {source.label} export: {records}, read once, typed and validated.\n\n"
            "Rows that break the contract go to quarantine with file, line, raw text and reason; the rest is routed by "
            f"`{key}` into one immutable file a shard. The data version is the hash of the files' bytes: an unchanged "
            "export is not read again, unless `force` is set. Materialize it again after the export changed."
        ),
    )


def _stage(wiring: Wiring, selected: list[Source], config: SourceConfig, attempt: int) -> list[_Staged]:
    """Stage the sources side by side; one that fails does not stop the others."""
    request = staging_request(wiring.site, wiring.settings, accept_shrunk=config.accept_shrunk)

    def work(source: Source, report: Callable[[_Started | _Staged], None]) -> None:
        with faults.scope(attempt=attempt, stop=request.limits.stop):
            report(_Started(source))
            report(_staged(source, request, config.force))

    results = []
    with contextlib.closing(workers.run(work, selected, wiring.settings.workers, request.limits.stop)) as news:
        for entry in news:
            wiring.observe(_step_event(entry, attempt))
            if isinstance(entry, _Staged):
                results.append(entry)
    return results


def _staged(source: Source, request: StagingRequest, force: bool) -> _Staged:
    started_s = time.perf_counter()
    try:
        snapshot, reused, recount = _recounted(source, request, force)
    except Exception as error:  # noqa: BLE001  reported with its source; the others go on
        return _Staged(source, _elapsed_ms(started_s), error=error)
    return _Staged(source, _elapsed_ms(started_s), snapshot, reused, recount)


def _recounted(source: Source, request: StagingRequest, force: bool) -> tuple[Snapshot, bool, Finding]:
    """Stage and count again; a snapshot whose files cannot be counted is made again from the export."""
    site: Site = request.site
    snapshot, reused = stage_and_send(source, request, force=force)
    try:
        return snapshot, reused, recount_source(site.home, snapshot)
    except duckdb.Error:
        with contextlib.suppress(DamagedSnapshotError):
            require_undamaged(site, request.limits, {source.name: snapshot})
            raise
    snapshot, reused = stage_and_send(source, request, force=force)
    return snapshot, reused, recount_source(site.home, snapshot)


def _elapsed_ms(started_s: float) -> int:
    return round((time.perf_counter() - started_s) * 1000)


def _step_event(entry: _Started | _Staged, attempt: int) -> StepEvent:
    name = entry.source.name
    if isinstance(entry, _Started):
        return StepEvent(Status.RUNNING, name, attempt=attempt)
    if entry.error is not None:
        status = Status.RETRYING if is_retried(entry.error, attempt) else Status.FAILED
        return StepEvent(status, name, error=entry.error, elapsed_ms=entry.elapsed_ms, attempt=attempt)
    count = entry.snapshot.rows_accepted if entry.snapshot else None
    status = Status.REUSED if entry.reused else Status.SUCCEEDED
    return StepEvent(status, name, record_count=count, elapsed_ms=entry.elapsed_ms, attempt=attempt)


def _materialization(context: dg.AssetExecutionContext, wiring: Wiring, result: _Staged) -> dg.MaterializeResult:
    snapshot, recount = result.snapshot, result.recount
    assert snapshot is not None, "a source without an error has a snapshot"
    assert recount is not None, "and was counted again"
    key = dg.AssetCheckKey(wiring.key(result.source.name), ACCOUNTING_CHECK)
    check = dg.AssetCheckResult(
        asset_key=key.asset_key, check_name=ACCOUNTING_CHECK, passed=recount.passed, metadata=dict(recount.facts)
    )
    return dg.MaterializeResult(
        asset_key=key.asset_key,
        data_version=dg.DataVersion(snapshot.data_hash),
        metadata={
            **_accounting(wiring.site.home, result.source, snapshot),
            "reused": result.reused,
            "elapsed_ms": result.elapsed_ms,
        },
        check_results=[check] if key in context.selected_asset_check_keys else [],
    )


def _accounting(home: Home, source: Source, snapshot: Snapshot) -> dict[str, Any]:
    return {
        **snapshots.describe(snapshot),
        ROW_COUNT: snapshot.rows_accepted,
        "rejected_by_reason": counts_table("reason", snapshot.reasons),
        "cells_by_reason": counts_table("reason", snapshot.cell_reasons),
        "files": dg.MetadataValue.json(list(snapshot.files)),
        "rows_by_file": table_value(
            ["file", "rows", "changed"],
            [(one.name, one.row_count, one.modified_at) for one in read_files(home, snapshot)[-_FILES_SHOWN:]],
        ),
        "extra_columns_ignored": dg.MetadataValue.json(list(snapshot.extra_columns)),
        "snapshot": snapshot.id,
        **_notices(snapshot),
        **_key_map(source, snapshot),
    }


def _notices(snapshot: Snapshot) -> dict[str, Any]:
    """What is unusual in the export, where anything is."""
    texts = [notice.finding for notice in source_notices([snapshot])]
    # Plain text: a file's name may look like Markdown.
    return {"notices": dg.MetadataValue.text(" ".join(texts))} if texts else {}


def _key_map(source: Source, snapshot: Snapshot) -> dict[str, Any]:
    """What the key map did, for a source that has one."""
    facts = key_map_facts(source, snapshot)
    if facts is None:
        return {}
    found: dict[str, Any] = {"key_map": dg.MetadataValue.json(asdict(facts))}
    texts = [f"{text}." for text in unmatched_texts(source.name, facts)]
    # Plain text: an id may look like Markdown.
    return {**found, "key_map_findings": dg.MetadataValue.text(" ".join(texts))} if texts else found


def _failure(errors: list[Exception]) -> Exception:
    """One error as it is; several as one text. Retried when that can help at least one source."""
    if any(is_transient(error) for error in errors):
        return next(error for error in errors if is_transient(error))
    return permanent_failure(ExceptionGroup("\n".join(explained(error) for error in errors), errors))
