"""The partitioned asset: one shard's slices in, its published DuckDB file out."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from etl_assets.engine import faults
from etl_assets.engine.published import attempts
from etl_assets.engine.published import preview as published
from etl_assets.engine.published.attempts import Attempt, Status
from etl_assets.engine.published.preview import Glance
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import build_many as shards
from etl_assets.engine.steps.build import Manifest
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest
from etl_assets.orchestration.metadata import table_facts
from etl_assets.orchestration.partitions import shard_partitions
from etl_assets.orchestration.retry import MAX_RETRIES, cancelled_for_good, explained_failures, is_transient
from etl_assets.orchestration.shard_log import attempt_number, log_attempt
from etl_assets.orchestration.sources import OWNERS
from etl_assets.pipeline.events import Observer, StepEvent
from etl_assets.project.contract import SOURCES
from etl_assets.project.settings import Settings

NAME = "shard_profiles"
GROUP = "profiles"
# Errors of this many shards are told in a failure's text; the log has all of them.
_ERRORS_SHOWN = 5


class ShardConfig(dg.Config):
    """Run configuration of `shard_profiles`."""

    force: bool = Field(
        default=False,
        description="Build the shard even when an undamaged one from the same data and code is published already.",
    )


def shard_profiles_asset(settings: Settings, retry_policy: dg.RetryPolicy, observe: Observer) -> dg.AssetsDefinition:
    """The asset of all shards, a partition each."""

    @dg.asset(
        name=NAME,
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        deps=[source.name for source in SOURCES],
        partitions_def=shard_partitions(settings.shard_count),
        code_version=shard.code_version(),
        retry_policy=retry_policy,
        # A run of many shards reports each by an event of its own (see _materialization), and has no output.
        output_required=False,
    )
    def shard_profiles(context: dg.AssetExecutionContext, config: ShardConfig) -> Iterator[dg.MaterializeResult]:
        """Enriched profiles of one shard: a row per customer, key `customer_id`, scored and with an `idempotency_key`.

        A partition is a shard. Each is built aside, validated and swapped in as `shards/<shard>.duckdb`; it can fail,
        be retried, killed or run twice on its own and gives the same rows. A shard that is published from the same data
        and code is reused unless `force` is set. Transient faults are retried three times: 1.5, 4.5 and 10.5 s apart.
        """
        shard_ids: Sequence[str] = context.partition_keys
        request = ShardsRequest(
            settings.home,
            settings.shard_count,
            settings.limits(),
            context.run.run_id,
            attempt_number(context),
            config.force,
            settings.shard_timeout_s,
        )
        result: dg.MaterializeResult | None = None
        with published.looking() as glance, cancelled_for_good(), explained_failures():
            # Told at once, while the other shards are being built; a run of one shard has an output to tell by.
            tell = _telling(context, settings, glance) if len(shard_ids) > 1 else None
            manifests, failed = _build(context, request, shard_ids, observe, tell)
            if tell is None:
                with faults.scope(shard_id=shard_ids[0], attempt=request.attempt):
                    faults.point("event.shards")
                for manifest in manifests:
                    facts = _facts(settings, manifest, glance)
                    result = dg.MaterializeResult(data_version=dg.DataVersion(manifest.content_hash), metadata=facts)
        if result is not None:
            yield result
        if failed:
            raise _failure(failed, len(shard_ids))

    return shard_profiles


def _build(
    context: dg.AssetExecutionContext,
    request: ShardsRequest,
    shard_ids: Sequence[str],
    observe: Observer,
    tell: Callable[[Manifest], None] | None,
) -> tuple[list[Manifest], list[ShardResult]]:
    """Build the shards that this run has not built yet; returns the good ones' manifests and the bad ones' results.

    The good ones are those of the run's earlier attempts too: one that failed after them may not have told of them.
    """
    todo = shards.unfinished(request.home, request.run_id, shard_ids)
    earlier = shard.read_shards(request.home, [shard_id for shard_id in shard_ids if shard_id not in todo])
    manifests = [state.manifest for state in earlier if state.manifest is not None]
    failed: list[ShardResult] = []
    if tell is not None:
        for manifest in manifests:
            tell(manifest)
    try:
        with contextlib.closing(shards.build_shards(request, todo)) as news:
            for entry in news:
                attempt = entry.attempt if isinstance(entry, ShardResult) else entry
                with faults.scope(shard_id=attempt.shard_id, attempt=request.attempt):
                    faults.point("event.attempt")
                log_attempt(context, attempt)
                observe(_step_event(entry))
                if isinstance(entry, Attempt):
                    continue
                if entry.manifest is None:
                    failed.append(entry)
                    continue
                manifests.append(entry.manifest)
                if tell is not None:
                    tell(entry.manifest)
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        for attempt in attempts.latest_attempts(request.home, todo):
            if attempt.run_id == request.run_id and attempt.status is Status.CANCELLED:
                log_attempt(context, attempt)
        raise
    return manifests, failed


def _step_event(entry: Attempt | ShardResult) -> StepEvent:
    if isinstance(entry, Attempt):
        return StepEvent("started", NAME, entry.shard_id, attempt=entry.attempt)
    attempt = entry.attempt
    if entry.error is not None:
        will_retry = is_transient(entry.error) and attempt.attempt <= MAX_RETRIES
        return StepEvent(
            "retrying" if will_retry else "failed",
            NAME,
            attempt.shard_id,
            message=attempt.error or "",
            elapsed_ms=attempt.elapsed_ms,
            attempt=attempt.attempt,
        )
    return StepEvent(
        "finished",
        NAME,
        attempt.shard_id,
        record_count=attempt.record_count,
        elapsed_ms=attempt.elapsed_ms,
        attempt=attempt.attempt,
        reused=attempt.status is Status.REUSED,
    )


def _facts(settings: Settings, manifest: Manifest, glance: Glance) -> dict[str, Any]:
    path = settings.home.shard_file(manifest.shard_id)
    return {
        **shard.describe(manifest),
        # Another run than this one when the shard was reused; the numbers are those of its building.
        "built_by_run": manifest.run_id,
        "source_data_hash": manifest.source_data_hash,
        "content_hash": manifest.content_hash,
        **table_facts(glance, path, "profiles", manifest.record_count),
    }


def _materialization(
    settings: Settings, manifest: Manifest, glance: Glance, provenance: Mapping[str, str]
) -> dg.AssetMaterialization:
    """One shard's event in a run of many.

    Deliberately not the step's own output: Dagster would give every partition the same data version, and none at all
    when one shard failed. The tags are those that it sets itself for a run of one partition.
    """
    return dg.AssetMaterialization(
        NAME,
        partition=manifest.shard_id,
        metadata=_facts(settings, manifest, glance),
        tags={
            "dagster/code_version": manifest.code_version,
            "dagster/data_version": manifest.content_hash,
            "dagster/data_version_is_user_provided": "true",
            **provenance,
        },
    )


def _telling(context: dg.AssetExecutionContext, settings: Settings, glance: Glance) -> Callable[[Manifest], None]:
    """What reports a shard to Dagster, once in a run."""
    told, provenance = _told(context), _provenance(context)
    attempt = attempt_number(context)

    def tell(manifest: Manifest) -> None:
        with faults.scope(shard_id=manifest.shard_id, attempt=attempt):
            faults.point("event.shards")
        if manifest.shard_id not in told:
            context.log_event(_materialization(settings, manifest, glance, provenance))

    return tell


def _told(context: dg.AssetExecutionContext) -> set[str | None]:
    """The shards whose materialization an earlier attempt of this run has reported."""
    if not context.retry_number:
        return set()
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    entries = context.instance.all_logs(context.run.run_id, of_type=kind)
    return {entry.dagster_event.partition for entry in entries if entry.dagster_event is not None}


def _provenance(context: dg.AssetExecutionContext) -> Mapping[str, str]:
    """Which materialization of each source the shards were made from."""
    tags = {}
    for source in SOURCES:
        record = context.instance.get_latest_data_version_record(dg.AssetKey(source.name))
        materialization = record.event_log_entry.asset_materialization if record else None
        if record is None or materialization is None:
            continue
        version = (materialization.tags or {}).get("dagster/data_version", "")
        tags[f"dagster/input_data_version/{source.name}"] = version
        tags[f"dagster/input_event_pointer/{source.name}"] = str(record.storage_id)
    return tags


def _failure(failed: Sequence[ShardResult], asked: int) -> dg.Failure:
    """What the run says; it is retried when that can help at least one shard."""
    shown = "; ".join(f"{result.attempt.shard_id}: {result.attempt.error}" for result in failed[:_ERRORS_SHOWN])
    more = f"; and {len(failed) - _ERRORS_SHOWN} more" if len(failed) > _ERRORS_SHOWN else ""
    names = ",".join(result.attempt.shard_id for result in failed)
    errors = [result.error for result in failed if result.error is not None]
    return dg.Failure(
        description=f"{len(failed)} of {asked} shards failed. {shown}{more}. The others are published. Repair: "
        f'"Re-execute from failure" in the UI, or etl-assets run --shards {names}',
        allow_retries=any(is_transient(error) for error in errors),
    )
