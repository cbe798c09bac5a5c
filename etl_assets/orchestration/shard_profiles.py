"""The partitioned asset: one shard's slices in, its published DuckDB file out."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from pydantic import Field

from etl_assets.engine import faults
from etl_assets.engine.published.attempts import Attempt, latest_attempts
from etl_assets.engine.published.checks import PROMISES
from etl_assets.engine.published.inspecting import read_states
from etl_assets.engine.published.lake_names import profiles_key
from etl_assets.engine.published.lake_shards import LakeManifest
from etl_assets.engine.published.preview import Glance, glancing
from etl_assets.engine.published.shards import PROFILES, Manifest
from etl_assets.engine.published.status import Status
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards, unfinished
from etl_assets.errors import AccountingError, ProfileError
from etl_assets.orchestration.cluster_runs import plan_tags, refuse_other_machine
from etl_assets.orchestration.metadata import lake_row_count, row_count, table_facts
from etl_assets.orchestration.partitions import backfill_policy, shard_partitions
from etl_assets.orchestration.retry import cancelled_for_good, explained_failures, is_retried, is_transient
from etl_assets.orchestration.shard_log import AttemptLog, attempt_number
from etl_assets.orchestration.ui_wording import explained
from etl_assets.orchestration.wiring import PROFILES_GROUP, SHARD_PROFILES, Wiring
from etl_assets.pipeline.configuration import run_limits
from etl_assets.pipeline.events import StepEvent

ACCOUNTING_CHECK = "accounting_closed"
# With more shards in a run, their events have no schema and no preview: these take longer than a small shard.
_PREVIEWED_SHARDS = 100
# What a shard's event says of its building.
_FIGURES = ("record_count", "elapsed_ms", "open_ms", "build_ms", "attempt")
# Errors of this many shards are in a failure's text; the log has all of them.
_ERRORS_SHOWN = 5


class ShardConfig(dg.Config):
    """Run configuration of `shard_profiles`."""

    force: bool = Field(
        default=False,
        description="Build the shard even when an undamaged one from the same data and code is published already.",
    )


def shard_profiles_asset(wiring: Wiring) -> dg.AssetsDefinition:
    """The asset of all shards, a partition each."""
    contract = wiring.site.contract
    key = wiring.key(SHARD_PROFILES)

    @dg.asset(
        key=key,
        group_name=PROFILES_GROUP,
        kinds={"duckdb"},
        owners=list(wiring.owners),
        deps=wiring.source_keys,
        partitions_def=shard_partitions(wiring.site.shard_count),
        code_version=wiring.site.profile_version,
        op_tags=plan_tags(wiring.site),
        retry_policy=wiring.retry_policy,
        # A run of many shards reports each with an event of its own (see _materialization), and has no output.
        output_required=False,
        check_specs=_check_specs(key),
        description=(
            f"Profiles of one shard of the {contract.entity}: a row per `{contract.key.name}`, with an "
            "`idempotency_key`.\n\n"
            "A partition is a shard. Each is built aside, validated and swapped in as `shards/<shard>.duckdb`; it can "
            "fail, be retried, killed or run twice on its own and gives the same rows. A shard that is published from "
            "the same data and code is reused unless `force` is set. Transient faults are retried three times: 1.5, "
            "4.5 and 10.5 s apart."
        ),
    )
    def shard_profiles(
        context: dg.AssetExecutionContext, config: ShardConfig
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        shard_ids: Sequence[str] = context.partition_keys
        request = ShardsRequest(
            wiring.site,
            run_limits(wiring.settings),
            context.run.run_id,
            attempt_number(context),
            config.force,
            wiring.settings.shard_timeout_s,
        )
        with (
            glancing(contract, wiring.site.home.shards) as glance,
            cancelled_for_good(),
            explained_failures(),
        ):
            refuse_other_machine(context, wiring)
            reporter = _Reporter(context, wiring, glance, len(shard_ids))
            outcome = _build(context, wiring, request, shard_ids, reporter)
            if not reporter.is_range:
                with faults.scope(shard_id=shard_ids[0], attempt=request.attempt):
                    faults.point("event.shards")
            results = [] if reporter.is_range else [reporter.result(manifest) for manifest in outcome.manifests]
        yield from results
        yield from _check_results(context, key, outcome)
        if outcome.failed:
            raise _failure(outcome.failed, len(shard_ids))

    policy = backfill_policy(wiring.site.shard_count)
    # The decorator's own parameter is called beta.
    return shard_profiles.with_attributes(backfill_policy=policy) if policy else shard_profiles


def _check_specs(key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    descriptions = {
        ACCOUNTING_CHECK: "A shard has one profile for each key, and every staged row of every source is in one.",
        PROMISES: "Every profile keeps what the contract declares of its columns.",
    }
    return [dg.AssetCheckSpec(name, asset=key, description=text) for name, text in descriptions.items()]


@dataclass
class _Outcome:
    """The manifests of the good shards and the results of the bad ones."""

    manifests: list[Manifest] = field(default_factory=list)
    failed: list[ShardResult] = field(default_factory=list)


def _build(
    context: dg.AssetExecutionContext,
    wiring: Wiring,
    request: ShardsRequest,
    shard_ids: Sequence[str],
    reporter: "_Reporter",
) -> _Outcome:
    """Build the shards that this run has not built yet.

    The good ones include those of the run's earlier attempts: an attempt that failed after them may not have reported
    them.
    """
    home = wiring.site.home
    todo = unfinished(home, request.run_id, shard_ids)
    done = [shard_id for shard_id in shard_ids if shard_id not in todo]
    earlier = read_states(wiring.site, done) if done else []
    outcome = _Outcome([state.manifest for state in earlier if state.manifest is not None])
    for manifest in outcome.manifests:
        reporter.report(manifest)
    log = AttemptLog(context, len(shard_ids))
    try:
        with contextlib.closing(build_shards(request, todo)) as news:
            for entry in news:
                attempt = entry.attempt if isinstance(entry, ShardResult) else entry
                with faults.scope(shard_id=attempt.shard_id, attempt=request.attempt):
                    faults.point("event.attempt")
                log.add(attempt)
                wiring.observe(_step_event(entry))
                if isinstance(entry, Attempt):
                    continue
                if entry.manifest is None:
                    outcome.failed.append(entry)
                    continue
                outcome.manifests.append(entry.manifest)
                reporter.report(entry.manifest)
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt):
        for attempt in latest_attempts(home, todo):
            if attempt.run_id == request.run_id and attempt.status is Status.CANCELLED:
                log.add(attempt)
        raise
    finally:
        log.flush()
    return outcome


def _step_event(entry: Attempt | ShardResult) -> StepEvent:
    attempt = entry.attempt if isinstance(entry, ShardResult) else entry
    error = entry.error if isinstance(entry, ShardResult) else None
    status = attempt.status
    if error is not None:
        status = Status.RETRYING if is_retried(error, attempt.number) else Status.FAILED
    return StepEvent(
        status,
        SHARD_PROFILES,
        attempt.shard_id,
        error=error,
        record_count=attempt.record_count,
        elapsed_ms=attempt.elapsed_ms,
        attempt=attempt.number,
    )


class _Reporter:
    """Reports shards to Dagster: those of a range at once, while others are built; that of a single run as its output.

    Deliberately not as the step's own output for a range: Dagster would give every partition the same data version, and
    none at all when one shard failed. The tags are those that it sets itself for a run of one partition.
    """

    def __init__(self, context: dg.AssetExecutionContext, wiring: Wiring, glance: Glance, shard_count: int) -> None:
        is_range = self.is_range = shard_count > 1
        self._has_previews = shard_count <= _PREVIEWED_SHARDS
        self._context = context
        self._wiring = wiring
        self._glance = glance
        self._reported = _reported(context) if is_range else set()
        self._provenance = _provenance(context, wiring) if is_range else {}
        self._attempt = attempt_number(context)

    def report(self, manifest: Manifest) -> None:
        """Log the event of one shard of a range, once in a run."""
        if not self.is_range:
            return
        with faults.scope(shard_id=manifest.shard_id, attempt=self._attempt):
            faults.point("event.shards")
        if manifest.shard_id not in self._reported:
            self._context.log_event(self._materialization(manifest))

    def result(self, manifest: Manifest) -> dg.MaterializeResult:
        """The output of a run of one shard."""
        return dg.MaterializeResult(data_version=dg.DataVersion(manifest.content_hash), metadata=self._facts(manifest))

    def _materialization(self, manifest: Manifest) -> dg.AssetMaterialization:
        return dg.AssetMaterialization(
            self._wiring.key(SHARD_PROFILES),
            partition=manifest.shard_id,
            metadata=self._facts(manifest),
            tags={
                "dagster/code_version": manifest.code_version,
                "dagster/data_version": manifest.content_hash,
                "dagster/data_version_is_user_provided": "true",
                **self._provenance,
            },
        )

    def _facts(self, manifest: Manifest) -> dict[str, Any]:
        site = self._wiring.site
        path = site.home.shard_file(manifest.shard_id)
        seen = (
            lake_row_count(f"{site.lake_url}/{profiles_key(manifest.file)}", PROFILES, manifest.record_count)
            if isinstance(manifest, LakeManifest)
            else table_facts(self._glance, site.contract, path, PROFILES, manifest.record_count)
            if self._has_previews
            else row_count(path, PROFILES, manifest.record_count)
        )
        return {
            **{name: getattr(manifest, name) for name in _FIGURES},
            # Another run than this one when the shard was reused; the numbers are those of its building.
            "built_by_run": manifest.run_id,
            "source_data_hash": manifest.source_data_hash,
            "content_hash": manifest.content_hash,
            **seen,
        }


def _reported(context: dg.AssetExecutionContext) -> set[str | None]:
    """The shards whose materialization an earlier attempt of this run has reported."""
    if not context.retry_number:
        return set()
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    entries = context.instance.all_logs(context.run.run_id, of_type=kind)
    return {entry.dagster_event.partition for entry in entries if entry.dagster_event is not None}


def _provenance(context: dg.AssetExecutionContext, wiring: Wiring) -> Mapping[str, str]:
    """Tags that name the materialization of each source from which the shards were made."""
    tags = {}
    for key in wiring.source_keys:
        record = context.instance.get_latest_data_version_record(key)
        materialization = record.event_log_entry.asset_materialization if record else None
        if record is None or materialization is None:
            continue
        version = (materialization.tags or {}).get("dagster/data_version", "")
        tags[f"dagster/input_data_version/{key.to_user_string()}"] = version
        tags[f"dagster/input_event_pointer/{key.to_user_string()}"] = str(record.storage_id)
    return tags


def _check_results(
    context: dg.AssetExecutionContext, key: dg.AssetKey, outcome: _Outcome
) -> Iterator[dg.AssetCheckResult]:
    """The results of the checks that the builds made before they published, or refused to."""
    breaking: Mapping[str, type[Exception]] = {ACCOUNTING_CHECK: AccountingError, PROMISES: ProfileError}
    record_count = sum(manifest.record_count for manifest in outcome.manifests)
    for check_key in context.selected_asset_check_keys:
        broken = [r.attempt.shard_id for r in outcome.failed if isinstance(r.error, breaking[check_key.name])]
        if not broken and not outcome.manifests:
            continue
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=check_key.name,
            passed=not broken,
            metadata={
                "shards_checked": len(outcome.manifests) + len(broken),
                "profiles_checked": record_count,
                "shards_refused": dg.MetadataValue.json(broken),
            },
        )


def _failure(failed: Sequence[ShardResult], asked: int) -> dg.Failure:
    """The failure of the run; it is retried if that can help at least one shard."""
    errors = [result.error for result in failed if result.error is not None]
    lines = [f"{len(failed)} of {asked} shard{'s' if asked > 1 else ''} failed."]
    lines += [f"{r.attempt.shard_id}: {explained(r.error)}" for r in failed[:_ERRORS_SHOWN] if r.error]
    if len(failed) > _ERRORS_SHOWN:
        lines.append(f"And {len(failed) - _ERRORS_SHOWN} more.")
    others = "The others are published. " if asked > len(failed) else ""
    lines.append(f'{others}Repair with "Re-execute from failure", or materialize the failed partitions again.')
    return dg.Failure(
        description="\n".join(lines),
        allow_retries=any(is_transient(error) for error in errors),
    )
