"""What is published without Dagster, for tests that look at what Dagster makes of it."""

from etl_assets.engine.published import attempts
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import Publication, read_publication
from etl_assets.pipeline.configuration import exports_of
from etl_assets_tests.dagster_runs import CodeLocation
from etl_assets_tests.factory import build_shard, input_of, run_engine, stage_all, staging_request


def stage(location: CodeLocation) -> None:
    """Stage every source."""
    stage_all(staging_request(exports_of(location.settings), location.site))


def rebuild(location: CodeLocation, shard_id: str, run_id: str = "built") -> None:
    """Publish a shard, by an attempt that is on record."""
    begun = attempts.start(location.site.home, shard_id, run_id, 1)
    made = build_shard(location.site, input_of(location.site, shard_id), run_id=run_id)
    attempts.finish(location.site.home, begun, Status.SUCCEEDED, record_count=made.record_count)


def publish(location: CodeLocation) -> Publication:
    """Publish a complete set of shards and a warehouse."""
    run_engine(exports_of(location.settings), location.site)
    publication = read_publication(location.site.home)
    assert publication is not None
    return publication
