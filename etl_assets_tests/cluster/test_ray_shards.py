"""As many shards as are asked for, built on Ray: the digest is the local one, and what it took is printed.

`CLUSTER_SHARDS=100 make test-cluster CLUSTER_ARGS="-s -k ray_shards"`.
"""

import os
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets_tests.cluster.daemon import daemon
from etl_assets_tests.cluster.postgres_server import PostgresServer
from etl_assets_tests.cluster.ray_cluster import RayCluster
from etl_assets_tests.cluster.ray_story import FINISHED, WORK_S, ray_story
from etl_assets_tests.factory import generate_sample, run_engine, site_at
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.lake_runs import stage_lake
from etl_assets_tests.whole.served import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

SHARD_COUNT = int(os.environ.get("CLUSTER_SHARDS") or 10)
NODES = int(os.environ.get("CLUSTER_NODES") or 2)
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
        print(f"{SHARD_COUNT} shards in {len(runs)} runs, {NODES} nodes: {took_s:.0f} s", file=sys.stderr)
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
