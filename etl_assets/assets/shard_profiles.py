"""The partitioned asset: one shard's slices in, its published DuckDB file out."""

from collections.abc import Sequence

import dagster as dg
from pydantic import Field

from etl_assets.assets.metadata import table_facts
from etl_assets.assets.sources import OWNERS
from etl_assets.attempts import recorded_attempt
from etl_assets.engine import shard
from etl_assets.engine.contract import SOURCES
from etl_assets.engine.errors import ConfigError
from etl_assets.partitions import shard_partitions
from etl_assets.retry import permanent_failure
from etl_assets.settings import Settings

GROUP = "profiles"


class ShardConfig(dg.Config):
    """Run configuration of `shard_profiles`."""

    force: bool = Field(
        default=False,
        description="Build the shard even when an undamaged one from the same data and code is published already.",
    )


def shard_profiles_asset(settings: Settings, retry_policy: dg.RetryPolicy) -> dg.AssetsDefinition:
    """The asset of all shards, a partition each."""

    @dg.asset(
        group_name=GROUP,
        kinds={"duckdb"},
        owners=OWNERS,
        deps=[source.name for source in SOURCES],
        partitions_def=shard_partitions(settings.shard_count),
        code_version=shard.code_version(),
        retry_policy=retry_policy,
    )
    def shard_profiles(context: dg.AssetExecutionContext, config: ShardConfig) -> dg.MaterializeResult:
        """Enriched profiles of one shard: a row per customer, key `customer_id`, scored and with an `idempotency_key`.

        A partition is a shard. Each is built aside, validated and swapped in as `shards/<shard>.duckdb`; it can fail,
        be retried, killed or run twice on its own and gives the same rows. A shard that is published from the same data
        and code is reused unless `force` is set. Transient faults are retried three times: 1.5, 4.5 and 10.5 s apart.
        """
        shard_id = _one_partition(context)
        with recorded_attempt(context, settings.home, shard_id) as outcome:
            given = shard.shard_input(settings.home, shard_id, settings.shard_count)
            manifest = None if config.force else shard.reusable(settings.home, given)
            if manifest is not None:
                outcome.reused(manifest.record_count)
            else:
                manifest = shard.build_shard(
                    settings.home, given, settings.worker_limits, run_id=context.run_id, attempt=outcome.attempt
                )
                outcome.succeeded(manifest.record_count)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(manifest.content_hash),
            metadata={
                **shard.describe(manifest),
                "source_data_hash": manifest.source_data_hash,
                "status": outcome.status.value,
                **table_facts(settings.home.shard_file(shard_id), "profiles", manifest.record_count),
            },
        )

    return shard_profiles


def _one_partition(context: dg.AssetExecutionContext) -> str:
    """The shard of this run. A run over a range would publish many shards under one attempt and one data version."""
    keys: Sequence[str] = context.partition_keys
    if len(keys) != 1:
        raise permanent_failure(
            ConfigError(
                f"shard_profiles was asked for {len(keys)} shards in one run, expected one. Launch a backfill with "
                "a run a partition (the UI's default), or run: etl-assets run --shards " + ",".join(keys)
            )
        )
    return keys[0]
