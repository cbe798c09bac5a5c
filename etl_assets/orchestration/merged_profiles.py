"""The merge: published shards in, one warehouse out, and the checks a person expects to see on it."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from etl_assets.engine import faults
from etl_assets.engine.duck import Limits
from etl_assets.engine.published.checks import Finding, check_warehouse, warehouse_checks
from etl_assets.engine.published.lake_names import PROFILES_FOLDER
from etl_assets.engine.published.overlap import overlap_rows
from etl_assets.engine.published.preview import glancing, shard_timings
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.steps import merge
from etl_assets.engine.steps.committing import commit_shards
from etl_assets.engine.steps.merge import Merged
from etl_assets.engine.steps.noticing import Noticed
from etl_assets.orchestration.cluster_runs import plan_tags, refuse_other_machine
from etl_assets.orchestration.metadata import CHECK_ERROR, FIRST_ROWS, lake_row_count, table_facts, table_value
from etl_assets.orchestration.retry import explained_failures
from etl_assets.orchestration.shard_log import attempt_number
from etl_assets.orchestration.wiring import MERGED_PROFILES, PROFILES_GROUP, SHARD_PROFILES, Wiring
from etl_assets.pipeline.configuration import merge_limits, shrink_limit
from etl_assets.pipeline.events import StepEvent
from etl_assets.project.severity import Severity

SEVERITIES = {Severity.ERROR: dg.AssetCheckSeverity.ERROR, Severity.WARN: dg.AssetCheckSeverity.WARN}
# Above this many shards the timing table shows the slowest ones only: it is a row of the event database.
TIMING_ROWS = 100
# More pairs of sources, or notices, are in the warehouse's tables only.
OVERLAP_ROWS = 100


class MergeConfig(dg.Config):
    """Run configuration of `merged_profiles`."""

    allow_partial: bool = Field(
        default=False,
        description="Publish without the shards that are missing, stale or damaged, and mark the result as partial.",
    )
    replace_restored: bool = Field(
        default=False,
        description="Merge over a warehouse that was restored, which is held otherwise.",
    )
    accept_shrunk: bool = Field(
        default=False,
        description="Publish a result with far fewer profiles or values than the last publication, in this run.",
    )


def merged_profiles_asset(wiring: Wiring) -> dg.AssetsDefinition:
    """The merge asset. Deliberately without a RetryPolicy: it depends on what is published, and a sensor asks again."""
    site, entity = wiring.site, wiring.site.contract.entity

    @dg.asset(
        key=wiring.key(MERGED_PROFILES),
        group_name=PROFILES_GROUP,
        kinds={"duckdb"},
        owners=list(wiring.owners),
        deps=[wiring.key(SHARD_PROFILES)],
        code_version=site.profile_version,
        op_tags=plan_tags(site),
        description=(
            f"The profile of each of the {entity}, exactly once: a row per `{site.contract.key.name}`, key "
            "`idempotency_key`.\n\n"
            "Admits only a complete set of shards that were built from the current sources by the current code, and "
            "refuses otherwise, naming the shards; the last good `warehouse.duckdb` then stays. Readers never block it "
            "and never see it half-written. The sensor `publish_when_complete` materializes it after shards changed."
        ),
    )
    def merged_profiles(context: dg.AssetExecutionContext, config: MergeConfig) -> dg.MaterializeResult:
        wiring.observe(StepEvent(Status.RUNNING, MERGED_PROFILES))
        attempt, limits = attempt_number(context), merge_limits(wiring.settings)
        with explained_failures(), faults.scope(attempt=attempt, stop=limits.stop):
            try:
                refuse_other_machine(context, wiring)
                merged = _merge(wiring, limits, config, context.run.run_id)
            except Exception as error:
                wiring.observe(StepEvent(Status.FAILED, MERGED_PROFILES, error=error))
                raise
        with faults.scope(attempt=attempt):
            faults.point("event.merge")
        publication = merged.publication
        wiring.observe(
            StepEvent(
                Status.SUCCEEDED,
                MERGED_PROFILES,
                record_count=publication.record_count,
                elapsed_ms=merged.elapsed_ms,
            )
        )
        for notice in merged.noticed.notices:
            if notice.is_warning:
                context.log.warning(notice.finding)
        if publication.is_partial:
            context.log.warning(f"Partial merge, without {', '.join(publication.missing_shards)}.")
        if site.lake_url is not None:
            seen = lake_row_count(f"{site.lake_url}/{PROFILES_FOLDER}", PROFILES_TABLE, publication.record_count)
        else:
            with glancing(site.contract, site.home.root) as glance:
                seen = table_facts(glance, site.contract, site.home.warehouse, PROFILES_TABLE, publication.record_count)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(publication.digest),
            metadata={**_facts(merged), "shard_timings": _timings(wiring), **seen},
        )

    return merged_profiles


def _merge(wiring: Wiring, limits: Limits, config: MergeConfig, run_id: str) -> Merged:
    publish = merge.merge_shards if wiring.site.lake is None else commit_shards
    return publish(
        wiring.site,
        limits,
        run_id=run_id,
        allow_partial=config.allow_partial,
        shrink=shrink_limit(wiring.settings, accept_shrunk=config.accept_shrunk),
        keep_count=wiring.settings.keep_warehouses,
        replace_restored=config.replace_restored,
    )


def warehouse_checks_of(wiring: Wiring) -> dg.AssetChecksDefinition:
    """Every check of the warehouse, in one step: each reads the published file, and each can be executed alone."""
    checks = {check.name: check for check in warehouse_checks(wiring.site.project)}
    key = wiring.key(MERGED_PROFILES)

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(check.name, asset=key, description=check.description, blocking=check.is_blocking)
            for check in checks.values()
        ],
        name=wiring.name("warehouse_checks"),
        can_subset=True,
    )
    def run_checks(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        selected = {check_key.name for check_key in context.selected_asset_check_keys}
        wanted = [check for name, check in checks.items() if name in selected]
        with explained_failures():
            findings = check_warehouse(wiring.site, merge_limits(wiring.settings), wanted)
        for finding in findings:
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=finding.name,
                passed=finding.passed,
                severity=SEVERITIES[finding.severity],
                metadata=_evidence(finding),
            )

    return run_checks


def _evidence(finding: Finding) -> dict[str, Any]:
    """The figures of a check, the first rows that fail it, and why it could not be run."""
    rows = finding.failing if finding.failing and finding.failing.count else None
    return {
        **finding.facts,
        **({FIRST_ROWS: table_value(rows.columns, rows.rows)} if rows else {}),
        **({CHECK_ERROR: finding.error} if finding.error else {}),
    }


def _facts(merged: Merged) -> dict[str, dg.MetadataValue | int | float | str | bool]:
    publication = merged.publication
    values = [(f"{column} {value}", count) for column, by in merged.value_counts.items() for value, count in by.items()]
    distribution = {"value_distribution": table_value(["value", "profiles"], values)} if values else {}
    return {
        "record_count": publication.record_count,
        "digest": publication.digest,
        "duplicates_dropped": publication.duplicates_dropped,
        "quarantined_count": merged.quarantined_count,
        **{f"mean_{column}": mean for column, mean in merged.means.items()},
        **distribution,
        **_noticed(merged.noticed),
        "is_partial": publication.is_partial,
        "missing_shards": dg.MetadataValue.json(list(publication.missing_shards)),
        "elapsed_ms": merged.elapsed_ms,
        "size_bytes": merged.size_bytes,
    }


def _noticed(noticed: Noticed) -> dict[str, dg.MetadataValue]:
    """What the sources share, and the notices; neither where there is nothing to say."""
    pairs = [(row.source, row.other_source, row.key_count, row.shared_count) for row in overlap_rows(noticed.overlap)]
    alone = [(one.source, one.key_count, one.elsewhere_count, one.only_count, one.all_count) for one in noticed.overlap]
    found: dict[str, dg.MetadataValue] = {}
    if alone:
        found["source_overlap"] = table_value(["source", "keys", "in others", "only here", "in all"], alone)
    if len(pairs) <= OVERLAP_ROWS and len(alone) > 2:
        found["source_overlap_pairs"] = table_value(["source", "other source", "keys", "shared"], pairs)
    if noticed.notices:
        found["notices"] = table_value(
            ["subject", "finding"], [(notice.subject, notice.finding) for notice in noticed.notices[:OVERLAP_ROWS]]
        )
    return found


def _timings(wiring: Wiring) -> dg.TableMetadataValue:
    """A row a shard: what it holds, and how long its building took."""
    names, rows = shard_timings(wiring.site.home, TIMING_ROWS)
    return table_value(names, rows)
