"""The merge: published shards in, one warehouse out, and the checks a person expects to see on it."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from etl_assets.engine import faults
from etl_assets.engine.published import checks
from etl_assets.engine.published import preview as published
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import merge
from etl_assets.engine.steps.merge import Publication
from etl_assets.orchestration.metadata import markdown_table, table_facts
from etl_assets.orchestration.retry import explained_failures
from etl_assets.orchestration.shard_log import attempt_number
from etl_assets.orchestration.shard_profiles import GROUP
from etl_assets.orchestration.sources import OWNERS
from etl_assets.pipeline.events import Observer, StepEvent
from etl_assets.project.settings import Settings

NAME = "merged_profiles"
# Above this many shards the timing table shows the slowest ones only: it is a row of the event database.
TIMING_ROWS = 100


class MergeConfig(dg.Config):
    """Run configuration of `merged_profiles`."""

    allow_partial: bool = Field(
        default=False,
        description="Publish without the shards that are missing, stale or damaged, and mark the result as partial.",
    )


def merged_profiles_asset(settings: Settings, observe: Observer) -> dg.AssetsDefinition:
    """The merge asset. Deliberately without a RetryPolicy: it depends on what is published, and a sensor asks again."""

    @dg.asset(
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        deps=["shard_profiles"],
        code_version=shard.code_version(),
    )
    def merged_profiles(context: dg.AssetExecutionContext, config: MergeConfig) -> dg.MaterializeResult:
        """The enriched profile of every customer, exactly once: a row per customer, key `idempotency_key`.

        Admits only a complete set of shards that were built from the current sources by the current code, and refuses
        otherwise, naming the shards and the repair; the last good `warehouse.duckdb` then stays. Readers never block it
        and never see it half-written. The sensor `publish_when_complete` materializes it after the shards changed.
        """
        observe(StepEvent("started", NAME))
        attempt, limits = attempt_number(context), settings.merge_limits()
        with explained_failures(), faults.scope(attempt=attempt, stop=limits.stop):
            publication = merge.merge_shards(
                settings.home,
                settings.shard_count,
                limits,
                run_id=context.run.run_id,
                allow_partial=config.allow_partial,
            )
        with faults.scope(attempt=attempt):
            faults.point("event.merge")
        observe(StepEvent("finished", NAME, record_count=publication.record_count, elapsed_ms=publication.elapsed_ms))
        if publication.is_partial:
            context.log.warning(f"Partial merge, without {', '.join(publication.missing_shards)}.")
        with published.looking() as glance:
            seen = table_facts(glance, settings.home.warehouse, NAME, publication.record_count)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(publication.digest),
            metadata={**_facts(publication), "shard_timings": _timings(settings), **seen},
        )

    return merged_profiles


def warehouse_checks(settings: Settings) -> dg.AssetChecksDefinition:
    """One check for each `engine/sql/check_*.sql`, all in one step: each reads the published warehouse."""

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(check.name, asset=NAME, description=check.description)
            for check in checks.WAREHOUSE_CHECKS
        ],
        name="warehouse_checks",
    )
    def run_checks() -> Iterator[dg.AssetCheckResult]:
        with explained_failures():
            findings = checks.check_warehouse(settings.home, settings.merge_limits())
        for finding in findings:
            yield dg.AssetCheckResult(
                asset_key=NAME, check_name=finding.name, passed=finding.passed, metadata=dict(finding.facts)
            )

    return run_checks


def _facts(publication: Publication) -> dict[str, dg.MetadataValue | int | float | str | bool]:
    return {
        "record_count": publication.record_count,
        "digest": publication.digest,
        "duplicates_dropped": publication.duplicates_dropped,
        "quarantined_count": publication.quarantined_count,
        "mean_health_score": publication.mean_health_score,
        "score_distribution": markdown_table(["score", "customers"], publication.score_counts.items()),
        "is_partial": publication.is_partial,
        "missing_shards": dg.MetadataValue.json(list(publication.missing_shards)),
        "elapsed_ms": publication.elapsed_ms,
        "size_bytes": publication.size_bytes,
    }


def _timings(settings: Settings) -> dg.MarkdownMetadataValue:
    """A row a shard: what it holds, and how long its building took."""
    names, rows = published.shard_timings(settings.home, TIMING_ROWS)
    return markdown_table(names, rows)
