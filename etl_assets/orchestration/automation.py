"""What starts runs by itself: the merge after its shards, rebuilds after a refresh, a refresh daily or on new exports.

Each compares what is there with what should be there and asks for the difference, so a missed or doubled tick changes
nothing. Deliberately no AutomationCondition on the merge: `eager()` merges while a shard's latest attempt is failed and
loses updates that land during a merge (dagster#33587).
"""

from collections.abc import Iterator

import dagster as dg

from etl_assets.engine import keys
from etl_assets.engine.published import attempts, warehouse
from etl_assets.engine.published import preview as published
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published.attempts import Attempt, Status
from etl_assets.engine.reading import exports
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import ConfigError, InputError
from etl_assets.orchestration import merged_profiles, sources
from etl_assets.orchestration.instance.job_type import AssetJob
from etl_assets.project.contract import SOURCES
from etl_assets.project.settings import Settings

# Failed merges of one and the same shard set before the sensor leaves it to a person.
MAX_MERGE_TRIES = 3
_SET_TAG = "etl_assets/shard_set"
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_MERGE_KEY = dg.AssetKey(merged_profiles.NAME)


def refresh_job() -> AssetJob:
    """Stage every source anew; what is unchanged is not read. The sensor `rebuild_stale_shards` follows it."""
    return dg.define_asset_job(
        "refresh_sources",
        selection=dg.AssetSelection.groups(sources.GROUP),
        description="Read the exports that changed; the shards they touch are rebuilt and merged after it.",
    )


def rebuild_job() -> AssetJob:
    """Build shards, a run each."""
    return dg.define_asset_job(
        "rebuild_shards",
        selection=dg.AssetSelection.assets("shard_profiles"),
        description="Build one shard a run.",
    )


def publish_sensor(settings: Settings) -> dg.SensorDefinition:
    """The sensor that materializes the merge."""

    @dg.sensor(
        target=dg.AssetSelection.assets(merged_profiles.NAME)
        | dg.AssetSelection.checks_for_assets(merged_profiles.NAME),
        minimum_interval_seconds=5,
        default_status=dg.DefaultSensorStatus.RUNNING,
        # Dagster takes no description of such a sensor from its docstring.
        description="Merges when every shard is published from the current sources, none is being built or has failed, "
        "and the set differs from the one in the warehouse.",
    )
    def publish_when_complete(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        stamp = published.stamp(settings.home, settings.shard_count)
        if context.cursor == stamp:
            return dg.SkipReason("Nothing has been published since the last look.")
        try:
            found = shardset.inspect_shards(settings.home, settings.shard_count)
        except ConfigError as error:
            return dg.SkipReason(str(error))
        publication = warehouse.read_publication(settings.home)
        if publication is not None and publication["set_hash"] == found.set_hash and not found.problems:
            context.update_cursor(stamp)
            return dg.SkipReason(f"The warehouse already holds this set of {len(found.states)} shards.")
        obstacle = _obstacle(settings, found)
        if obstacle:
            return dg.SkipReason(obstacle)
        return _merge_request(context.instance, found.set_hash)

    return publish_when_complete


def _obstacle(settings: Settings, found: shardset.ShardSet) -> str | None:
    """Why this set is not to be merged now; None when it is complete and at rest."""
    if found.problems:
        shown = [f"{shard_id} {problem}" for shard_id, problem in list(found.problems.items())[:5]]
        # This process keeps the code it was started with, the runs read it anew.
        hint = ". If you have changed it: Reload definitions" if shard.OTHER_CODE in found.problems.values() else ""
        return f"{len(found.problems)} of {len(found.states)} shards are not ready: {'; '.join(shown)}{hint}"
    latest = attempts.latest_attempts(settings.home, shard_keys(settings.shard_count))
    busy = [attempt.shard_id for attempt in latest if attempt.status is Status.RUNNING]
    if busy:
        return f"Being built right now: {', '.join(busy)}"
    failed = [attempt for attempt in latest if attempt.status not in (Status.SUCCEEDED, Status.REUSED)]
    return f"{_described(failed)} Materialize them again; the merge follows." if failed else None


def _described(failed: list[Attempt]) -> str:
    listed = ", ".join(f"{attempt.shard_id} {attempt.status}" for attempt in failed)
    return f"The latest attempt did not succeed: {listed}."


def _merge_request(instance: dg.DagsterInstance, set_hash: str) -> dg.RunRequest | dg.SkipReason:
    """Ask for the merge of this set, unless one is under way or it has failed too often."""
    under_way = instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))
    for run in under_way:
        if _SET_TAG in run.tags or _MERGE_KEY in (run.asset_selection or ()):
            return dg.SkipReason(f"Run {run.run_id} is merging.")
    tries = instance.get_runs(dg.RunsFilter(tags={_SET_TAG: set_hash}))
    # Not those that succeeded: the same set is merged again when somebody removed the warehouse.
    failed = [run for run in tries if run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)]
    if len(failed) >= MAX_MERGE_TRIES:
        return dg.SkipReason(
            f"The merge of this set of shards failed {len(failed)} times, last in run {failed[0].run_id}. "
            "See its error, then materialize merged_profiles by hand."
        )
    # Selected by name as well as by the sensor's target: the page of runs shows the run's own selection.
    return dg.RunRequest(run_key=f"{set_hash}:{len(tries)}", tags={_SET_TAG: set_hash}, asset_selection=[_MERGE_KEY])


def rebuild_sensor(settings: Settings, refresh: AssetJob, rebuild: AssetJob) -> dg.SensorDefinition:
    """The sensor that rebuilds what a refresh made stale."""

    @dg.run_status_sensor(
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[refresh],
        request_job=rebuild,
        description="After the job refresh_sources: a run for every shard whose data changed, and for no other.",
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def rebuild_stale_shards(
        context: dg.RunStatusSensorContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            found = shardset.inspect_shards(settings.home, settings.shard_count)
        except ConfigError as error:
            # A refresh of some sources, while others were never staged.
            yield dg.SkipReason(str(error))
            return
        if not found.problems:
            yield dg.SkipReason("Every shard is current.")
        for shard_id in found.problems:
            yield dg.RunRequest(run_key=f"{context.dagster_run.run_id}:{shard_id}", partition_key=shard_id)

    return rebuild_stale_shards


def exports_sensor(settings: Settings, refresh: AssetJob) -> dg.SensorDefinition:
    """The sensor that notices changed exports."""

    @dg.sensor(
        job=refresh,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Runs `refresh_sources` once changed export files have been left alone from one look to the next.",
    )
    def refresh_when_exports_change(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            changed = [source.name for source in SOURCES if not staging.is_current(source, settings.staging_request())]
            seen = _exports_stamp(settings)
        except InputError as error:
            return dg.SkipReason(str(error))
        if not changed:
            return dg.SkipReason("The exports are as they were when they were staged.")
        if context.cursor != seen:
            # An export that is still being written would be read half.
            context.update_cursor(seen)
            return dg.SkipReason(f"Changed: {', '.join(changed)}. Waiting until the files are left alone.")
        return dg.RunRequest(run_key=seen)

    return refresh_when_exports_change


def _exports_stamp(settings: Settings) -> str:
    stats = [exports.stat_files(exports.find_files(source, settings.sources), settings.sources) for source in SOURCES]
    return keys.stable_hash(repr(stats))


def daily_schedule(refresh: AssetJob) -> dg.ScheduleDefinition:
    """Every day at 05:00 UTC, off until switched on."""
    return dg.ScheduleDefinition(
        name="daily_refresh",
        job=refresh,
        cron_schedule="0 5 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Runs `refresh_sources` every day at 05:00 UTC; stale shards and the merge follow by themselves.",
    )
