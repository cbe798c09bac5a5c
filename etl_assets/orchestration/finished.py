"""The shards that a run of everything leaves out: published, undamaged, and known to Dagster with what they hold.

Dagster runs an unbroken range of partitions at a time, so that the others become as few ranges as pays.
"""

from collections.abc import Container, Sequence

import dagster as dg

from etl_assets.engine.published.attempts import latest_attempts
from etl_assets.engine.published.inspecting import inspect, unsound
from etl_assets.engine.published.shards import Manifest
from etl_assets.engine.site import Site
from etl_assets.orchestration.wiring import SHARD_PROFILES

_DATA_VERSION = "dagster/data_version"
# A run takes as long as verifying and reporting this many shards that are finished.
_SHARDS_A_RUN = 10


def finished_shards(site: Site, instance: dg.DagsterInstance) -> dict[str, Manifest]:
    """The manifests of the shards that a run would neither build nor tell anything new of; reads their files."""
    found = inspect(site)
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        dg.AssetKey(SHARD_PROFILES), dg.DagsterEventType.ASSET_MATERIALIZATION, [_DATA_VERSION]
    )
    # After an attempt that failed or was killed, the sensor waits for one that succeeds.
    sound = {attempt.shard_id for attempt in latest_attempts(site.home, site.shard_ids) if attempt.status.is_done}
    likely = [
        manifest
        for manifest in found.manifests
        if manifest.shard_id in sound and tags.get(manifest.shard_id, {}).get(_DATA_VERSION) == manifest.content_hash
    ]
    damaged = unsound(site, likely)
    return {manifest.shard_id: manifest for manifest in likely if manifest.shard_id not in damaged}


def ranges(wanted: Sequence[str], known: Sequence[str], between: Container[str] = ()) -> list[list[str]]:
    """The wanted shards as unbroken ranges of the known ones; short gaps of shards in `between` are run with them."""
    parts: list[list[str]] = []
    gap: list[str] = []
    for name in known:
        if name not in wanted:
            gap.append(name)
            continue
        joins = parts and len(gap) <= _SHARDS_A_RUN and all(skipped in between for skipped in gap)
        if joins:
            parts[-1] += [*gap, name]
        else:
            parts.append([name])
        gap = []
    return parts
