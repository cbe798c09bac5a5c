"""Everything put together: assets, checks, automation and the executor, from one set of settings."""

import dagster as dg

from etl_assets.orchestration.automation import (
    daily_schedule,
    exports_sensor,
    publish_sensor,
    rebuild_job,
    rebuild_sensor,
    refresh_job,
)
from etl_assets.orchestration.merged_profiles import merged_profiles_asset, warehouse_checks
from etl_assets.orchestration.retry import shard_retry_policy
from etl_assets.orchestration.shard_profiles import shard_profiles_asset
from etl_assets.orchestration.sources import source_assets
from etl_assets.pipeline.events import Observer, nobody
from etl_assets.project.settings import Settings, load_settings


def build_defs(
    *, settings: Settings | None = None, retry_policy: dg.RetryPolicy | None = None, observe: Observer = nobody
) -> dg.Definitions:
    """The code location; `settings` (default: the environment) and `retry_policy` can be replaced, for tests.

    `observe` is told of every source, shard and merge in runs of this process. Raises ConfigError for a bad
    environment; Dagster shows its text as the code location's error.
    """
    settings = settings or load_settings()
    policy = retry_policy or shard_retry_policy()
    refresh, rebuild = refresh_job(), rebuild_job()
    return dg.Definitions(
        assets=[
            source_assets(settings, policy, observe),
            shard_profiles_asset(settings, policy, observe),
            merged_profiles_asset(settings, observe),
        ],
        asset_checks=[warehouse_checks(settings)],
        jobs=[refresh, rebuild],
        sensors=[
            publish_sensor(settings),
            rebuild_sensor(settings, refresh, rebuild),
            exports_sensor(settings, refresh),
        ],
        schedules=[daily_schedule(refresh)],
        # A run is one step or a few short ones; a process for each would take four times as long (docs/adr/0003).
        executor=dg.in_process_executor,
    )
