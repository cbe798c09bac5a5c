"""The source assets, one for each system of the contract: export files in, a staged snapshot out."""

import time

import dagster as dg
from pydantic import Field

from etl_assets.assets.metadata import COLUMN_SCHEMA, ROW_COUNT, counts_table, source_schema
from etl_assets.engine import checks, published, staging
from etl_assets.engine.contract import Source
from etl_assets.engine.staging import Snapshot
from etl_assets.retry import explained_failures
from etl_assets.settings import Settings

OWNERS = ["team:data-engineering"]
GROUP = "sources"
ACCOUNTING_CHECK = "accounting_closed"


class SourceConfig(dg.Config):
    """Run configuration of a source asset."""

    force: bool = Field(
        default=False,
        description="Read the export even when it is unchanged, and take over an ETL_HOME of another shard count.",
    )


def source_asset(source: Source, settings: Settings, retry_policy: dg.RetryPolicy) -> dg.AssetsDefinition:
    """The asset of one source."""

    @dg.asset(
        name=source.name,
        group_name=GROUP,
        kinds={"csv", "parquet"},
        owners=OWNERS,
        description=(
            f"The {source.title} export: one record a customer, read once, typed and validated.\n\n"
            "Rows that break the contract go to quarantine with file, line, raw text and reason; the rest is routed by "
            "`customer_id` into one immutable file a shard. The data version is the hash of the files' bytes: an "
            "unchanged export is not read again, unless `force` is set. Materialize it again after an export changed."
        ),
        metadata={COLUMN_SCHEMA: source_schema(source)},
        code_version=staging.staging_version(),
        retry_policy=retry_policy,
        check_specs=[
            dg.AssetCheckSpec(
                ACCOUNTING_CHECK,
                asset=source.name,
                description="Rows in the files = rows accepted + rows quarantined, counted again in what was written.",
            )
        ],
    )
    def asset(context: dg.AssetExecutionContext, config: SourceConfig) -> dg.MaterializeResult:
        started = time.perf_counter()
        with explained_failures():
            published.refuse_other_shard_count(settings.home, settings.shard_count, force=config.force)
            snapshot, reused = staging.stage(source, settings.staging_request, force=config.force)
            recount = checks.recount_source(settings.home, snapshot)
        if reused:
            context.log.info(f"The export of {source.title} is unchanged; snapshot {snapshot.snapshot} is used again.")
        return dg.MaterializeResult(
            data_version=dg.DataVersion(snapshot.data_hash),
            metadata={
                **_accounting(snapshot),
                "reused": reused,
                "elapsed_ms": round((time.perf_counter() - started) * 1000),
            },
            check_results=[
                dg.AssetCheckResult(check_name=ACCOUNTING_CHECK, passed=recount.passed, metadata=dict(recount.facts))
            ],
        )

    return asset


def _accounting(snapshot: Snapshot) -> dict[str, dg.MetadataValue | int | float | str]:
    return {
        **staging.describe(snapshot),
        ROW_COUNT: snapshot.rows_accepted,
        "rejected_by_reason": counts_table("reason", snapshot.reasons),
        "files": dg.MetadataValue.json(list(snapshot.files)),
        "extra_columns_ignored": dg.MetadataValue.json(list(snapshot.extra_columns)),
        "snapshot": snapshot.snapshot,
    }
