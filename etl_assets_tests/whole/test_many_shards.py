"""More shards than a backfill has runs: neighbours share a run, and each still fails, heals and counts on its own.

One story in a UI with its daemon, told by fixtures that need each other in this order: a first refresh, whose shards
are built with a kill, a fault that heals and one that does not; a backfill of all of them; the UI without faults, and
the one shard that is left.
"""

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.attempts import read_attempts
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.routing import shard_keys
from etl_assets.orchestration.partitions import MAX_RUNS, shards_a_run
from etl_assets.samples.writing import generate
from etl_assets_tests import factory
from etl_assets_tests.whole import requests_to_ui as ui
from etl_assets_tests.whole.served import WORK_S, Server, serve, wait_until

pytestmark = pytest.mark.slow

SHARDS = shard_keys(70)
ROWS = 700
KILLED, HEALED, BROKEN = "shard_04", "shard_33", "shard_60"
FAULT = (
    f"shard.before_swap kill shard={KILLED} attempts=1; shard.validated raise shard={HEALED} attempts=1; "
    f"shard.validated raise-permanent shard={BROKEN}"
)
LAUNCH = """
    mutation Launch($params: LaunchBackfillParams!) {
        launchPartitionBackfill(backfillParams: $params) { ... on LaunchBackfillSuccess { backfillId } }
    }"""
PROGRESS = """
    query Progress($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
        status
        assetBackfillData { assetBackfillStatuses { ... on AssetPartitionsStatusCounts {
            numPartitionsMaterialized numPartitionsFailed
        } } }
    } } }"""


class Story:
    """The folder in which everything happens."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = Home(folder / "home")

    def serve(self, fault: str = "") -> contextlib.AbstractContextManager[Server]:
        """Start the UI."""
        return serve(self.folder, self.folder / "sources", ETL_NUM_SHARDS=str(len(SHARDS)), ETL_FAULT=fault)

    def runs(self, **tags: str) -> list[dg.DagsterRun]:
        """Dagster's runs of shards with these tags; `_` is a slash."""
        wanted = {name.replace("_", "/", 1): value for name, value in tags.items()}
        with dg.DagsterInstance.from_config(str(self.folder / "dagster")) as instance:
            found = instance.get_runs(dg.RunsFilter(tags=wanted))
        return [
            run for run in found if "dagster/asset_partition_range_start" in run.tags or "dagster/partition" in run.tags
        ]

    def backfill(self, server: Server, shard_ids: list[str]) -> str:
        """Request it as the UI's button does."""
        params = {"partitionNames": shard_ids, "assetSelection": [{"path": ["shard_profiles"]}]}
        return str(server.ask(LAUNCH, params=params)["launchPartitionBackfill"]["backfillId"])


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("many")
    generate(folder / "sources", rows=ROWS, dirty=0.0)
    return Story(folder)


@pytest.fixture(scope="module")
def faulty(story: Story) -> Iterator[Server]:
    """A UI whose shards are broken on purpose."""
    with story.serve(FAULT) as server:
        yield server


@pytest.fixture(scope="module")
def refreshed(story: Story, faulty: Server) -> Story:
    """The exports are staged for the first time; what follows builds every shard that it can."""
    assert ui.effects(faulty).run_count == 0
    faulty.ask(ui.LAUNCH_RUN)
    others = set(SHARDS) - {BROKEN}
    wait_until(lambda: faulty.published_shards() == others, WORK_S, lambda: f"shards; log: {faulty.log}")
    return story


@pytest.fixture(scope="module")
def backfilled(refreshed: Story, faulty: Server) -> tuple[str, dict[str, int]]:
    """All shards once more, to the end; returns the backfill and what its page counts."""
    backfill_id = refreshed.backfill(faulty, SHARDS)

    def progress() -> dict[str, object]:
        answer: dict[str, object] = faulty.ask(PROGRESS, id=backfill_id)["partitionBackfillOrError"]
        return answer

    wait_until(lambda: "COMPLETED" in str(progress()["status"]), WORK_S, lambda: f"the backfill: {progress()}")
    (counts,) = progress()["assetBackfillData"]["assetBackfillStatuses"]  # type: ignore[index]
    return backfill_id, counts


@pytest.fixture(scope="module")
def repaired(backfilled: object, story: Story, faulty: Server) -> Iterator[Server]:
    """The UI without faults; the shard that is left is materialized."""
    faulty.kill()
    with story.serve() as server:
        story.backfill(server, [BROKEN])
        wait_until(lambda: read_publication(story.home) is not None, WORK_S, lambda: f"the merge; log: {server.log}")
        yield server


def test_a_refresh_builds_its_shards_in_few_runs_and_one_that_fails_costs_its_neighbours_nothing(
    refreshed: Story,
) -> None:
    """Fails: a thousand shards are a thousand runs, or a shard's neighbours are lost with it."""
    firsts = Counter(run.tags.get("dagster/asset_partition_range_start", "") for run in refreshed.runs())
    assert len(firsts) == -(-len(SHARDS) // shards_a_run(len(SHARDS))) <= MAX_RUNS
    # The run that was killed is repeated as a whole.
    neighbours = SHARDS.index(KILLED) // shards_a_run(len(SHARDS)) * shards_a_run(len(SHARDS))
    assert firsts[SHARDS[neighbours]] == 2
    assert all(count == 1 for first, count in firsts.items() if first != SHARDS[neighbours])


def test_each_attempt_of_a_shard_in_a_shared_run_is_on_record(refreshed: Story) -> None:
    """Fails: nobody can tell which shard of a run failed, and which retry healed it."""
    ends = {
        shard_id: [attempt.status for attempt in read_attempts(refreshed.home, [shard_id])]
        for shard_id in (KILLED, HEALED, BROKEN)
    }
    assert ends[KILLED] == [Status.KILLED, Status.SUCCEEDED]
    assert ends[HEALED] == [Status.FAILED, Status.SUCCEEDED]
    assert set(ends[BROKEN]) == {Status.FAILED}


def test_a_backfill_counts_the_neighbours_of_a_failed_shard_as_materialized(
    backfilled: tuple[str, dict[str, int]], story: Story
) -> None:
    backfill_id, counts = backfilled
    assert counts == {"numPartitionsMaterialized": len(SHARDS) - 1, "numPartitionsFailed": 1}
    runs = story.runs(dagster_backfill=backfill_id)
    assert len(runs) == -(-len(SHARDS) // shards_a_run(len(SHARDS)))


def test_the_one_shard_that_is_left_completes_the_set(repaired: Server, story: Story) -> None:
    """Fails: a person has to build all shards again for one."""
    publication = read_publication(story.home)
    assert publication is not None
    assert publication.record_count == ROWS
    assert factory.query(repaired.warehouse, "SELECT count(DISTINCT customer_id) FROM merged_profiles") == [(ROWS,)]
