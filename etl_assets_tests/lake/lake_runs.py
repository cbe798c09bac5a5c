"""Whole engine runs on a lake, without Dagster."""

from collections.abc import Sequence
from pathlib import Path

from etl_assets.engine.lake.probing import open_lake
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards
from etl_assets.engine.steps.committing import commit_shards
from etl_assets.engine.steps.merge import Merged
from etl_assets.engine.steps.sending import stage_and_send
from etl_assets_tests.factory import LIMITS, staging_request


def stage_lake(sources: Path, site: Site) -> None:
    """Stage every source and send it."""
    assert site.lake is not None
    open_lake(site.lake, site.contract.name)
    for source in site.contract.sources:
        stage_and_send(source, staging_request(sources, site))


def build_lake(
    site: Site, shard_ids: Sequence[str] = (), *, run_id: str = "run", force: bool = False
) -> dict[str, ShardResult]:
    """Build shards, all of them unless they are named; the results, failures too."""
    request = ShardsRequest(site, LIMITS, run_id, 1, force)
    results = [one for one in build_shards(request, list(shard_ids) or site.shard_ids) if isinstance(one, ShardResult)]
    return {one.attempt.shard_id: one for one in results}


def statuses(results: dict[str, ShardResult]) -> dict[str, Status]:
    """What became of each shard."""
    return {shard_id: one.attempt.status for shard_id, one in results.items()}


def run_lake(sources: Path, site: Site, *, run_id: str = "run") -> Merged:
    """Stage, build, merge."""
    stage_lake(sources, site)
    results = build_lake(site, run_id=run_id)
    errors = [one.error for one in results.values() if one.error]
    assert errors == []
    return commit_shards(site, LIMITS, run_id=run_id)
