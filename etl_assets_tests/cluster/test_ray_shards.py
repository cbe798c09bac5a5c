"""As many shards as are asked for, built on Ray: the digest is the local one, and what it took is printed.

`CLUSTER_SHARDS=100 make test-cluster CLUSTER_ARGS="-s -k ray_shards"`; with TEST_BROWSER also
how long pages of the UI take.
"""

import os
import statistics
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets_tests.cluster.daemon import daemon
from etl_assets_tests.cluster.postgres_server import PostgresServer
from etl_assets_tests.cluster.ray_cluster import RayCluster
from etl_assets_tests.cluster.ray_story import FINISHED, WORK_S, Story, ray_story
from etl_assets_tests.factory import generate_sample, run_engine, site_at
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.lake_runs import stage_lake
from etl_assets_tests.whole.served import serve, wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SHARD_COUNT = int(os.environ.get("CLUSTER_SHARDS") or 10)
NODES = int(os.environ.get("CLUSTER_NODES") or 2)
PAGES = {
    "partitions": "/assets/shard_profiles?view=partitions",
    "overview": "/assets/shard_profiles?view=overview",
    "runs": "/runs",
    "backfills": "/runs?view=backfills",
}
# A run takes some seconds of CPU, most of it for imports; several shards share one where there are many.
_SHARD_S = 30


def test_the_digest_is_the_local_one(cluster: RayCluster, postgres: PostgresServer, tmp_path: Path) -> None:
    """Fails: shards that are built on a cluster are others than those of one machine."""
    generate_sample(tmp_path / "sources", rows=max(600, SHARD_COUNT * 20), seed=6, dirty=0.03)
    local = run_engine(tmp_path / "sources", site_at(Home(tmp_path / "local"), SHARD_COUNT)).publication.digest
    site = site_in((tmp_path / "lake").as_uri(), tmp_path / "here", SHARD_COUNT)
    with ray_story(cluster, postgres, tmp_path, site) as story:
        stage_lake(story.sources, site)
        for _ in range(NODES):
            story.add_node()
        story.ask("all", list(site.shard_ids))
        started_s = time.monotonic()
        with daemon(story.instance_home, story.variables):
            wait_until(
                lambda: story.published_digest() == local and all(run.status in FINISHED for run in story.all_runs()),
                WORK_S + _SHARD_S * SHARD_COUNT,
                story.states,
            )
        took_s, runs = time.monotonic() - started_s, story.runs("all")
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        _say(f"{SHARD_COUNT} shards in {len(runs)} runs, {NODES} nodes: {took_s:.0f} s until merged")
        _say(_figures(story, postgres))
        if os.environ.get("TEST_BROWSER"):
            _say(_page_loads(story, tmp_path))


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _figures(story: Story, postgres: PostgresServer) -> str:
    with open_instance(story.instance_home) as instance:
        wanted = dg.RunsFilter(tags={"dagster/backfill": story.backfills["all"]})
        records = instance.get_run_records(wanted)
    created = sorted(record.create_timestamp.timestamp() for record in records)
    times_s = [record.end_time - record.start_time for record in records if record.end_time and record.start_time]
    size_mb = postgres.size_bytes(story.variables["DAGSTER_PG_DATABASE"]) / 1e6
    return (
        f"submitted within {created[-1] - created[0]:.1f} s; a run takes {statistics.median(times_s):.1f} s (median), "
        f"{max(times_s):.1f} s at most; the history takes {size_mb:.0f} MB in PostgreSQL"
    )


def _page_loads(story: Story, folder: Path) -> str:
    """Seconds until a page asks for nothing more (the browser waits half a second for that), at the second visit."""
    # Its browser is not installed everywhere.
    from etl_assets_tests.whole.ui_driver import visit

    pictures = folder / "pictures"
    pictures.mkdir()
    seconds = {}
    others = {name: value for name, value in story.variables.items() if name not in ("ETL_HOME", "ETL_SOURCES")}
    served = serve(folder, story.sources, read_only=True, start_in=folder, **others)
    with served as server, visit(server, pictures) as visitor:
        for name, path in PAGES.items():
            for _ in range(2):
                started_s = time.monotonic()
                visitor.page.goto(server.url + path, wait_until="networkidle", timeout=WORK_S * 1000)
                seconds[name] = time.monotonic() - started_s
            visitor.page.screenshot(path=pictures / f"{name}.png")
    return f"pages: {', '.join(f'{name} {taken_s:.1f} s' for name, taken_s in seconds.items())}; pictures: {pictures}"
