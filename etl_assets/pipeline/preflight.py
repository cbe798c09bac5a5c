"""What is settled before a run: what cannot work is refused, and where nothing has changed nothing is run.

No Dagster import: it takes a second, and whoever has a setting wrong, or nothing to do, need not wait for it.
"""

import time
from collections.abc import Sequence
from pathlib import Path

from etl_assets.engine.files import publishing as storage
from etl_assets.engine.published import attempts, warehouse
from etl_assets.engine.published import preview as published
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.reading import exports
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build_many as shards
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import ConfigError
from etl_assets.pipeline.report import Report, ShardReport, source_report
from etl_assets.project.contract import SOURCES
from etl_assets.project.settings import Settings

# In the folder of the Dagster instance: for each ETL_HOME the publication whose every event this instance has.
_TOLD = "etl_assets_told.json"


def refuse_impossible(settings: Settings, *, shards: Sequence[str] | None = None, force: bool = False) -> None:
    """Refuse what cannot work before anything is written.

    ConfigError for unknown shard names, an ETL_HOME that cannot be written to or whose warehouse has another shard
    count; InputError for exports that are missing or break the contract as a whole.
    """
    known = shard_keys(settings.shard_count)
    unknown = [name for name in shards or () if name not in known]
    if unknown:
        raise ConfigError(
            f"No such shard: {', '.join(unknown)}. With ETL_NUM_SHARDS={settings.shard_count} the shards are "
            f"{known[0]} to {known[-1]}."
        )
    for source in SOURCES:
        exports.open_exports(source, settings.sources)
    storage.require_writable(settings.home)
    published.refuse_other_shard_count(settings.home, settings.shard_count, force=force)


def nothing_to_do(settings: Settings, dagster_home: Path) -> Report | None:
    """The report of a run that would change nothing; None when there may be something to do.

    Everything a run would verify is verified: exports by their stats, shards and warehouse by their whole content. The
    instance must have been told of this very publication: its events may have been lost with a killed process.
    """
    started = time.perf_counter()
    home, shard_ids = settings.home, shard_keys(settings.shard_count)
    told = storage.read_json(dagster_home / _TOLD) or {}
    if told.get(str(home.root)) != published.stamp(home, settings.shard_count):
        return None
    if not all(staging.is_current(source, settings.staging_request()) for source in SOURCES):
        return None
    found = shardset.inspect_shards(home, settings.shard_count)
    publication = warehouse.read_publication(home)
    if found.problems or publication is None or publication["set_hash"] != found.set_hash:
        return None
    latest = attempts.latest_attempts(home, shard_ids)
    # An attempt that failed, or was killed, after the merge is not told in the warehouse yet.
    if not all(attempt.status in shards.DONE for attempt in latest):
        return None
    if shards.damaged(settings.home, found.manifests, settings.workers) or warehouse.damage(
        home, settings.merge_limits()
    ):
        return None
    storage.sweep_home(home)
    return Report(
        sources=[source_report(snapshot, None, reused=True) for snapshot in found.snapshots.values()],
        shards=[ShardReport(manifest.shard_id, "reused", manifest.record_count) for manifest in found.manifests],
        publication=publication,
        is_unchanged=True,
        elapsed_ms=round((time.perf_counter() - started) * 1000),
    )


def remember(settings: Settings, dagster_home: Path) -> None:
    """Note, after a run that succeeded, that the instance knows all of what is published now."""
    path = dagster_home / _TOLD
    told = storage.read_json(path) or {}
    storage.publish_json(path, told | {str(settings.home.root): published.stamp(settings.home, settings.shard_count)})
