"""The definitions of one project: assets, checks, automation and the executor."""

from collections.abc import Sequence

import dagster as dg

from etl_assets.engine.site import Site
from etl_assets.orchestration.automation import (
    daily_schedule,
    exports_sensor,
    publish_sensor,
    rebuild_job,
    rebuild_sensor,
    refresh_job,
)
from etl_assets.orchestration.merged_profiles import merged_profiles_asset, warehouse_checks_of
from etl_assets.orchestration.retry import shard_retry_policy
from etl_assets.orchestration.shard_profiles import shard_profiles_asset
from etl_assets.orchestration.sources import source_assets
from etl_assets.orchestration.wiring import Wiring
from etl_assets.pipeline.configuration import project_of, site_of
from etl_assets.pipeline.events import Observer, unobserved
from etl_assets.project.loading import Project
from etl_assets.project.settings import Settings, load_settings


def build_defs(
    project: Project | None = None,
    *,
    settings: Settings | None = None,
    key_prefix: Sequence[str] = (),
    owners: Sequence[str] = (),
    retry_policy: dg.RetryPolicy | None = None,
    executor: dg.ExecutorDefinition | None = dg.in_process_executor,
    observe: Observer = unobserved,
) -> dg.Definitions:
    """The definitions of one project.

    Args:
        project: what is declared; by default the folder that `ETL_PROJECT` names, else the nearest folder upwards that
            holds a project, else the shipped customer 360.
        settings: by default those of the environment, else those in the project's file.
        key_prefix: put before every asset key and into the name of every job, sensor and schedule, so that several
            projects fit into one code location.
        owners: of every asset, as Dagster writes them: `team:data` or an e-mail address.
        retry_policy: of the source and shard assets.
        executor: of the whole code location, beside other definitions too; None leaves it to them. The jobs
            `refresh_sources` and `rebuild_shards` use the in-process executor in any case.
        observe: called with the events of runs in this process.

    Raises:
        ConfigError: for wrong settings or a wrong project; Dagster shows its text as the code location's error.
    """
    settings = settings or load_settings(project=project.folder if project else None)
    site: Site = site_of(project or project_of(settings), settings)
    wiring = Wiring(site, settings, retry_policy or shard_retry_policy(), tuple(key_prefix), tuple(owners), observe)
    refresh, rebuild = refresh_job(wiring), rebuild_job(wiring)
    return dg.Definitions(
        assets=[source_assets(wiring), shard_profiles_asset(wiring), merged_profiles_asset(wiring)],
        asset_checks=[warehouse_checks_of(wiring)],
        jobs=[refresh, rebuild],
        sensors=[
            publish_sensor(wiring),
            rebuild_sensor(wiring, refresh, rebuild),
            exports_sensor(wiring, refresh),
        ],
        schedules=[daily_schedule(wiring, refresh)],
        # A run is one step or a few short ones; a process for each would take four times as long (docs/adr/0003).
        executor=executor,
    )
