"""Sensors and the schedule: the merge after its shards, rebuilds after a refresh, a refresh daily or on new exports.

Each compares the published files with what they should be, and requests the difference. So a missed or doubled tick
changes nothing. Deliberately no AutomationCondition on the merge: `eager()` merges while a shard's latest attempt is
failed and loses updates that land during a merge (dagster#33587).
"""

import time
from collections.abc import Iterator, Sequence
from itertools import takewhile

import dagster as dg

from etl_assets.engine.hashing import stable_hash
from etl_assets.engine.published.attempts import Attempt, latest_attempts
from etl_assets.engine.published.inspecting import fetch_state, inspect, stamp_of
from etl_assets.engine.published.restored import held_text, read_mark
from etl_assets.engine.published.shards import ShardSet, Unfit
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.reading.mapping import find_inputs
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import is_current
from etl_assets.errors import ConfigError, InputError
from etl_assets.orchestration.finished import ranges
from etl_assets.orchestration.instance.job_type import AssetJob
from etl_assets.orchestration.partitions import range_tags, shards_a_run
from etl_assets.orchestration.ui_wording import explained
from etl_assets.orchestration.wiring import MERGED_PROFILES, SHARD_PROFILES, Wiring
from etl_assets.pipeline.configuration import exports_of, staging_request
from etl_assets.pipeline.fetching import unfetched_exports

# Failed merges of one and the same shard set before the sensor leaves it to a person.
MAX_MERGE_TRIES = 3
# The daemon asks a sensor every 5 s. While shards are being built, the answer waits for them almost until the next
# question: the merge is then asked for within a second of the last shard, without more ticks.
WAIT_S, LOOK_EVERY_S = 4.5, 0.5
_SET_TAG = "etl_assets/shard_set"
_SHARDS_LISTED = 5
# The newest ones that wait or work; a backfill's are more than enough to see that it goes on.
_RUNS_LOOKED_AT = 20
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def refresh_job(wiring: Wiring) -> AssetJob:
    """Stage every source again; what is unchanged is not read. The sensor `rebuild_stale_shards` follows it."""
    return dg.define_asset_job(
        wiring.name("refresh_sources"),
        selection=dg.AssetSelection.assets(*wiring.source_keys),
        description="Read the exports that changed; the shards they touch are rebuilt and merged after it.",
        executor_def=dg.in_process_executor,
    )


def rebuild_job(wiring: Wiring) -> AssetJob:
    """Build shards, as many a run as a backfill does."""
    return dg.define_asset_job(
        wiring.name("rebuild_shards"),
        selection=dg.AssetSelection.assets(wiring.key(SHARD_PROFILES)),
        description="Build shards.",
        executor_def=dg.in_process_executor,
    )


def publish_sensor(wiring: Wiring) -> dg.SensorDefinition:
    """The sensor that materializes the merge."""
    site = wiring.site

    @dg.sensor(
        name=wiring.name("publish_when_complete"),
        # Its checks run with an asset that a run request selects.
        target=dg.AssetSelection.assets(wiring.key(MERGED_PROFILES)),
        # The daemon asks every 5 s; with 5 here it would leave out each tick that begins a moment early.
        minimum_interval_seconds=3,
        default_status=dg.DefaultSensorStatus.RUNNING,
        # Dagster takes no description of such a sensor from its docstring.
        description="Merges when every shard is published from the current sources, none is being built or has failed, "
        "and the set differs from the one in the warehouse.",
    )
    def publish_when_complete(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        deadline_s = time.monotonic() + WAIT_S
        while True:
            looked_s = time.monotonic()
            answer = look(context)
            is_final = isinstance(answer, dg.RunRequest) or not _is_building(wiring, context.instance)
            now_s = time.monotonic()
            # With a thousand shards a look takes a while itself.
            pause_s = max(LOOK_EVERY_S, 5 * (now_s - looked_s))
            if is_final or now_s + pause_s > deadline_s:
                return answer
            time.sleep(pause_s)

    def look(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        stamp = stamp_of(site)
        if context.cursor == stamp:
            return dg.SkipReason("Nothing has been published since the last poll.")
        try:
            fetch_state(site)
            found = inspect(site)
        except ConfigError as error:
            return dg.SkipReason(explained(error))
        publication = read_publication(site.home)
        mark = read_mark(site.home, publication)
        if mark is not None:
            return dg.SkipReason(f"{held_text(mark)} The command `restore --release` lets the merge replace it.")
        if publication is not None and publication.set_hash == found.set_hash and not found.obstacles:
            context.update_cursor(stamp)
            return dg.SkipReason(f"The warehouse already holds this set of {len(found.states)} shards.")
        obstacle = _why_not_now(site, found)
        if obstacle:
            return dg.SkipReason(obstacle)
        return _merge_request(wiring, context.instance, found.set_hash)

    return publish_when_complete


def _is_building(wiring: Wiring, instance: dg.DagsterInstance) -> bool:
    """Whether a shard is being built or waits for it; when that is done, the set may be complete."""
    site, key = wiring.site, wiring.key(SHARD_PROFILES)
    if any(attempt.status is Status.RUNNING for attempt in latest_attempts(site.home, site.shard_ids)):
        return True
    under_way = instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY), limit=_RUNS_LOOKED_AT)
    return any(key in (run.asset_selection or ()) for run in under_way)


def _why_not_now(site: Site, found: ShardSet) -> str | None:
    """Why this set is not to be merged now; None when it is complete and at rest."""
    if found.obstacles:
        shown = [f"{shard_id} {obstacle}" for shard_id, obstacle in list(found.obstacles.items())[:_SHARDS_LISTED]]
        # This process keeps the code it was started with; each run reads it again.
        is_other_code = any(obstacle.kind is Unfit.OTHER_VERSION for obstacle in found.obstacles.values())
        hint = ". If you have changed the project: Reload definitions" if is_other_code else ""
        return f"{len(found.obstacles)} of {len(found.states)} shards are not ready: {'; '.join(shown)}{hint}"
    latest = latest_attempts(site.home, site.shard_ids)
    busy = [attempt.shard_id for attempt in latest if attempt.status is Status.RUNNING]
    if busy:
        return f"Being built right now: {', '.join(busy)}"
    failed = [attempt for attempt in latest if not attempt.status.is_done]
    return f"{_described(failed)} Materialize them again; the merge follows." if failed else None


def _described(failed: Sequence[Attempt]) -> str:
    listed = ", ".join(f"{attempt.shard_id} {attempt.status}" for attempt in failed)
    return f"The latest attempt did not succeed: {listed}."


def _merge_request(wiring: Wiring, instance: dg.DagsterInstance, set_hash: str) -> dg.RunRequest | dg.SkipReason:
    """Ask for the merge of this set, unless one is in progress or it has failed too often."""
    key = wiring.key(MERGED_PROFILES)
    # A copy of the project under another prefix may have published the same set.
    tag = {_SET_TAG: "/".join([*wiring.key_prefix, set_hash])}
    under_way = instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))
    for run in under_way:
        if tag.items() <= run.tags.items() or key in (run.asset_selection or ()):
            return dg.SkipReason(f"Run {run.run_id} is merging.")
    tries = instance.get_runs(dg.RunsFilter(tags=tag))
    # Newest first. Those before a success do not count: a set comes back with the exports of an earlier day, and when
    # the warehouse was removed.
    since_success = takewhile(lambda run: run.status is not dg.DagsterRunStatus.SUCCESS, tries)
    failed = [run for run in since_success if run.status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)]
    if len(failed) >= MAX_MERGE_TRIES:
        return dg.SkipReason(
            f"The merge of this set of shards failed {len(failed)} times, last in run {failed[0].run_id}. "
            "See its error, then materialize merged_profiles by hand."
        )
    # Selected by name as well as by the sensor's target: the page of runs shows the run's own selection.
    return dg.RunRequest(run_key=f"{set_hash}:{len(tries)}", tags=tag, asset_selection=[key])


def rebuild_sensor(wiring: Wiring, refresh: AssetJob, rebuild: AssetJob) -> dg.SensorDefinition:
    """The sensor that rebuilds what a refresh made stale."""

    @dg.run_status_sensor(
        name=wiring.name("rebuild_stale_shards"),
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[refresh],
        request_job=rebuild,
        description="After the job refresh_sources: runs for the shards whose data changed, and for no others.",
        minimum_interval_seconds=10,
        default_status=dg.DefaultSensorStatus.RUNNING,
    )
    def rebuild_stale_shards(
        context: dg.RunStatusSensorContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        try:
            fetch_state(wiring.site)
            found = inspect(wiring.site)
        except ConfigError as error:
            # A refresh of some sources, while others were never staged.
            yield dg.SkipReason(explained(error))
            return
        if not found.obstacles:
            yield dg.SkipReason("Every shard is current.")
        refresh_id, at_once = context.dagster_run.run_id, shards_a_run(wiring.site.shard_count)
        for part in ranges(list(found.obstacles), wiring.site.shard_ids):
            for first in range(0, len(part), at_once):
                yield _rebuild_request(refresh_id, part[first : first + at_once])

    return rebuild_stale_shards


def _rebuild_request(refresh_id: str, shard_ids: Sequence[str]) -> dg.RunRequest:
    run_key = f"{refresh_id}:{shard_ids[0]}"
    if len(shard_ids) == 1:
        return dg.RunRequest(run_key=run_key, partition_key=shard_ids[0])
    return dg.RunRequest(run_key=run_key, tags=range_tags(shard_ids))


def exports_sensor(wiring: Wiring, refresh: AssetJob) -> dg.SensorDefinition:
    """The sensor that looks for changed exports."""
    settings = wiring.settings

    @dg.sensor(
        name=wiring.name("refresh_when_exports_change"),
        job=refresh,
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Runs `refresh_sources` when changed export files were the same for two polls.",
    )
    def refresh_when_exports_change(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        try:
            # Not fetched here: a look must be over within seconds.
            unfetched = unfetched_exports(settings)
            changed = ["the exports in the store"] if unfetched else _changed_sources(wiring)
            seen = unfetched or _exports_stamp(wiring)
        except (InputError, ConfigError) as error:
            return dg.SkipReason(explained(error))
        if not changed:
            return dg.SkipReason("The exports have not changed since they were staged.")
        if context.cursor != seen:
            # An export that is still being written would be read half.
            context.update_cursor(seen)
            return dg.SkipReason(f"Changed: {', '.join(changed)}. Waiting until the files are left alone.")
        return dg.RunRequest(run_key=seen)

    return refresh_when_exports_change


def _changed_sources(wiring: Wiring) -> list[str]:
    request = staging_request(wiring.site, wiring.settings)
    return [source.name for source in wiring.site.contract.sources if not is_current(source, request)]


def _exports_stamp(wiring: Wiring) -> str:
    folder = exports_of(wiring.settings)
    inputs = [find_inputs(source, folder) for source in wiring.site.contract.sources]
    return stable_hash(repr(inputs))


def daily_schedule(wiring: Wiring, refresh: AssetJob) -> dg.ScheduleDefinition:
    """Every day at 05:00 UTC, off until switched on."""
    return dg.ScheduleDefinition(
        name=wiring.name("daily_refresh"),
        job=refresh,
        cron_schedule="0 5 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Runs `refresh_sources` every day at 05:00 UTC; stale shards and the merge follow.",
    )
