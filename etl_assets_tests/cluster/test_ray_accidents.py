"""Shards on Ray, a lake in an S3 store, the history in PostgreSQL; and in each round something of it is lost.

Each round has other exports, and the accident comes at a random moment of their backfill: a run's process, a node, the
head or the daemon is killed, the store, PostgreSQL or a node's network is away for ten seconds, or a node is cut off
until Ray has given it up, and then comes back. What a cluster's supervisor does is done here: what has ended is started
again. A reader looks at the table all the time.

`make test-cluster CLUSTER_ARGS="-s -k accidents"`; CLUSTER_ROUNDS is the number of rounds, HARNESS_SEED plays the same
ones again.
"""

import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from etl_assets.engine.faults import LAKE_RUN_POINTS
from etl_assets.engine.files.layout import Home
from etl_assets_tests.cluster.daemon import daemon
from etl_assets_tests.cluster.postgres_server import PostgresServer
from etl_assets_tests.cluster.ray_cluster import HEALTH_CHECK_S, RayCluster
from etl_assets_tests.cluster.ray_story import FINISHED, WORK_S, Story, ray_story
from etl_assets_tests.factory import PROJECT, generate_sample, run_engine, site_at
from etl_assets_tests.lake.fault_proxy import Effect, FaultProxy
from etl_assets_tests.lake.lake_places import BucketLakePlace
from etl_assets_tests.lake.lake_runs import stage_lake
from etl_assets_tests.whole.poller import Poller
from etl_assets_tests.whole.schedules import SHARD_COUNT
from etl_assets_tests.whole.served import wait_until

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ROUNDS = int(os.environ.get("CLUSTER_ROUNDS") or 8)
SEED = int(os.environ.get("HARNESS_SEED") or random.SystemRandom().randrange(10**6))
AWAY_S = 10
# From the first run of a backfill until the last has ended.
BUSY_S = 20
# A person asks again where a backfill has failed: so often in one round.
_ASKED_AGAIN_MOST = 3


@dataclass
class World:
    """Everything that can be lost, and who starts it again."""

    story: Story
    postgres: PostgresServer
    proxy: FaultProxy
    poller: Poller
    chance: random.Random
    _daemons: ExitStack = field(default_factory=ExitStack)
    _daemon: psutil.Process | None = None

    def supervise(self) -> None:
        """Start again what has ended."""
        for node in [node for node in self.story.cluster.nodes if node.process.poll() is not None]:
            node.kill()
            self.story.cluster.nodes.remove(node)
            self.story.add_node()
        if self._daemon is None or not self._daemon.is_running() or self._daemon.status() == psutil.STATUS_ZOMBIE:
            self._daemons.close()
            started = self._daemons.enter_context(daemon(self.story.instance_home, self.story.variables))
            self._daemon = psutil.Process(started.pid)

    def end(self) -> None:
        """End the daemon."""
        self._daemons.close()

    def kill_a_run(self) -> None:
        """SIGKILL to the process of a run, wherever it is; to none where none is at work."""
        found = [
            pid
            for node in self.story.cluster.nodes
            for pid, words in node.processes().items()
            if "execute_run" in words and "dagster" in words.split()[1]
        ]
        if found:
            os.kill(self.chance.choice(found), signal.SIGKILL)

    def kill_a_node(self) -> None:
        """A host goes down."""
        self.chance.choice(self.story.cluster.nodes).kill()

    def kill_the_head(self) -> None:
        """Ray forgets its jobs, and its nodes end."""
        self.story.cluster.replace_head()

    def kill_the_daemon(self) -> None:
        """And its code server."""
        assert self._daemon is not None, "it is supervised"
        for process in [*self._daemon.children(recursive=True), self._daemon]:
            process.kill()
        self._daemon.wait()

    def lose_the_store(self) -> None:
        """Every request to it fails; the reader's too."""
        self.proxy.add(Effect.CUT, "*", count=None)
        time.sleep(AWAY_S)
        self.proxy.reset()
        self.poller.poll_again()
        self.poller.failures.clear()

    def lose_postgres(self) -> None:
        """The history is away."""
        self.postgres.stop()
        time.sleep(AWAY_S)
        self.postgres.start()

    def unplug_a_node(self) -> None:
        """Its requests wait, and go on."""
        self._unplug(AWAY_S)

    def cut_off_a_node(self) -> None:
        """Ray gives it up, its runs are repeated, and then those that it still works on reach everything again."""
        self._unplug(HEALTH_CHECK_S * 1.5)

    def _unplug(self, away_s: float) -> None:
        host = self.chance.choice(self.story.cluster.nodes).host
        host.unplug()
        time.sleep(away_s)
        host.plug()


ACCIDENTS = (
    World.kill_a_run,
    World.kill_a_node,
    World.kill_the_head,
    World.kill_the_daemon,
    World.lose_the_store,
    World.lose_postgres,
)
WITH_CABLES = (World.unplug_a_node, World.cut_off_a_node)


@pytest.fixture
def world(
    cluster: RayCluster, postgres: PostgresServer, proxy: FaultProxy, bucket: str, tmp_path: Path
) -> Iterator[World]:
    """Two nodes and the daemon; every step of a run takes a moment longer, for accidents to happen in."""
    slow = "; ".join(f"{point} slow" for point in LAKE_RUN_POINTS)
    place = BucketLakePlace(tmp_path / "place", PROJECT, bucket=f"s3://{bucket}")
    generate_sample(tmp_path / "sources", rows=100, seed=1)
    with ray_story(cluster, postgres, tmp_path, place.site, ETL_FAULT=slow) as story:
        poller = Poller(place.published())
        world = World(story, postgres, proxy, poller, random.Random(SEED))
        for _ in range(2):
            story.add_node()
        try:
            yield world
        finally:
            world.end()


@contextmanager
def _reader(poller: Poller) -> Iterator[None]:
    poller.start()
    try:
        yield
    finally:
        poller.stop()


def test_whatever_is_lost_the_profiles_of_the_last_exports_are_published(world: World, tmp_path: Path) -> None:
    """Fails: an accident costs a shard, publishes other rows, leaves a run or a place behind, or half a version."""
    story = world.story
    print(f"HARNESS_SEED={SEED}: {ROUNDS} rounds", file=sys.stderr)
    digests = [_exports(tmp_path / name, seed) for seed, name in enumerate(("one", "two"), start=1)]
    kinds = (*ACCIDENTS, *WITH_CABLES) if story.cluster.network.has_cables else ACCIDENTS
    accidents = [*world.chance.sample(kinds, len(kinds)), *world.chance.choices(kinds, k=ROUNDS)][:ROUNDS]
    _stage(world, tmp_path / "two")
    world.supervise()
    _settle(world, "begin", digests[1])
    with _reader(world.poller):
        for number, accident in enumerate(accidents):
            started_s = time.monotonic()
            _stage(world, tmp_path / ("one", "two")[number % 2])
            story.ask(f"round {number}", list(story.site.shard_ids))
            wait_until(lambda: bool(_busy(story)), WORK_S, story.states)
            moment_s = world.chance.uniform(0, BUSY_S)
            time.sleep(moment_s)
            accident(world)
            asked = _settle(world, f"round {number}", digests[number % 2])
            what = f"{accident.__name__} after {moment_s:.1f} s, asked {asked} times"
            print(f"{what}: {time.monotonic() - started_s:.0f} s; {_counts(story)}", file=sys.stderr)
    assert world.poller.failures == []
    assert {seen.digest for seen in world.poller.seen} <= set(digests)
    assert all(seen.rows == seen.record_count == seen.rows_promised for seen in world.poller.seen)
    wait_until(lambda: not story.unfinished_jobs(), WORK_S, lambda: f"the end of {story.unfinished_jobs()}")
    place = BucketLakePlace(tmp_path / "place", PROJECT, bucket=str(story.site.lake_url).rpartition("/")[0])
    assert place.leftovers() == []


def _exports(folder: Path, seed: int) -> str:
    """Make exports; returns the digest of their profiles on one machine."""
    generate_sample(folder, rows=600, seed=seed, dirty=0.03)
    return run_engine(folder, site_at(Home(folder.with_name(f"{folder.name}_home")), SHARD_COUNT)).publication.digest


def _stage(world: World, exports: Path) -> None:
    """Stage these exports, as a user does when new ones have arrived."""
    shutil.copytree(exports, world.story.sources, dirs_exist_ok=True)
    stage_lake(world.story.sources, world.story.site)


def _busy(story: Story) -> list[str]:
    return [run.run_id for run in story.all_runs() if run.status not in FINISHED]


def _counts(story: Story) -> str:
    return ", ".join(f"{count} {name}" for name, count in Counter(run.status.value for run in story.all_runs()).items())


def _settle(world: World, name: str, digest: str) -> int:
    """Wait until all is published and nothing is at work; returns how often it was asked for again."""
    story, asked, idle_since_s = world.story, 0, time.monotonic()

    def is_settled() -> bool:
        nonlocal asked, idle_since_s
        world.supervise()
        if _busy(story):
            idle_since_s = time.monotonic()
            return False
        if story.published_digest() == digest:
            return True
        # Sensors and the backfill's daemon look every thirty seconds.
        if time.monotonic() > idle_since_s + 90 and asked < _ASKED_AGAIN_MOST:
            asked += 1
            idle_since_s = time.monotonic()
            story.ask(f"{name}, again {asked}", list(story.site.shard_ids))
        return False

    wait_until(is_settled, WORK_S, lambda: f"the end of {name}: {story.states()}")
    return asked
