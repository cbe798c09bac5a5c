"""The fault harness (`whole/harness.py`) on a lake: every moment between two objects is struck, and nothing is lost.

A plain run plays a kill at each of them. All schedules, in a folder, and HARNESS_RANDOM random ones are played by
`HARNESS_ALL=1 make test-cluster CLUSTER_ARGS="-k lake_harness"`; HARNESS_SEED plays the same random ones again.
"""

import os
import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import boto3
import pytest

from etl_assets.engine import faults
from etl_assets.engine.faults import LAKE_RUN_POINTS, LAKE_STEPS, Action
from etl_assets_tests.factory import row, write_exports
from etl_assets_tests.lake.conftest import VARIABLES, site_in
from etl_assets_tests.lake.lake_places import BucketLakePlace, FolderLakePlace
from etl_assets_tests.lake.lake_runs import run_lake
from etl_assets_tests.whole import schedules
from etl_assets_tests.whole.harness import Harness
from etl_assets_tests.whole.judge import Outcome
from etl_assets_tests.whole.schedules import Schedule

AT_A_TIME = int(os.environ.get("HARNESS_AT_A_TIME") or 2)
IS_ALL = os.environ.get("HARNESS_ALL") == "1"
SEED = int(os.environ.get("HARNESS_SEED") or (random.SystemRandom().randrange(10**6) if IS_ALL else 1))
RANDOM_COUNT = int(os.environ.get("HARNESS_RANDOM") or 4)

_ALL = schedules.enumerated(LAKE_RUN_POINTS)
# Between two objects of the lake: what no local schedule reaches.
_OWN = (
    *LAKE_STEPS,
    *(f"{what}.{side}_swap" for what in ("shard", "manifest", "warehouse") for side in ("before", "after")),
)
BOUNDED = [
    schedule
    for schedule in _ALL
    if schedule.point in _OWN and schedule.action is Action.KILL and not schedule.is_every_attempt
]
IN_FOLDER = [
    pytest.param(schedule, marks=() if schedule in BOUNDED else pytest.mark.slow)
    for schedule in (_ALL if IS_ALL else BOUNDED)
]
IN_BUCKET = BOUNDED[::4]
RANDOM = schedules.randomised(RANDOM_COUNT, SEED, LAKE_RUN_POINTS)


@pytest.fixture(scope="module")
def in_folder(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("folder"), kind=FolderLakePlace)


@pytest.fixture(scope="module")
def in_bucket(tmp_path_factory: pytest.TempPathFactory, s3_port: int) -> Iterator[Harness]:
    """Lakes in a bucket of an S3 server, which this process and the runs reach without the proxy."""
    address = f"http://127.0.0.1:{s3_port}"
    credentials = {**VARIABLES, "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in credentials.items():
            patch.setenv(name, value)
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="harness")
        kind = partial(BucketLakePlace, credentials=credentials, bucket="s3://harness/lakes")
        yield Harness(tmp_path_factory.mktemp("bucket"), kind=kind)


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, Schedule], Future[Outcome]]]:
    """The schedules of the selected tests by the harness that plays them, some at a time."""
    print(f"HARNESS_SEED={SEED}: {len(IN_FOLDER)} enumerated and {len(RANDOM)} random schedules on a lake")
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    wanted = [
        (place, schedule)
        for item in items
        for name, place in (("schedule", "in_folder"), ("schedule_in_bucket", "in_bucket"))
        if isinstance(schedule := item.callspec.params.get(name), Schedule)
    ]
    harnesses = {place: request.getfixturevalue(place) for place in sorted({place for place, _ in wanted})}
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {(place, schedule): pool.submit(harnesses[place].play, schedule) for place, schedule in wanted}
        pool.shutdown(cancel_futures=True)


def _name(schedule: Schedule) -> str:
    return schedule.name.replace(" ", "-") if schedule.point else schedule.name.split("number=")[1].split()[0]


@pytest.mark.parametrize("schedule", IN_FOLDER, ids=_name)
def test_a_fault_between_two_objects_costs_nothing(
    schedule: Schedule, outcomes: dict[tuple[str, Schedule], Future[Outcome]]
) -> None:
    """Fails: there is a moment at which an accident loses, doubles or hides something, or stops the pipeline."""
    outcome = outcomes["in_folder", schedule].result()
    assert not outcome.problems, str(outcome)


@pytest.mark.parametrize("schedule_in_bucket", IN_BUCKET, ids=_name)
def test_a_fault_between_two_objects_of_a_bucket_costs_nothing(
    schedule_in_bucket: Schedule, outcomes: dict[tuple[str, Schedule], Future[Outcome]]
) -> None:
    """Fails: what holds in a folder does not hold in the store that people use."""
    outcome = outcomes["in_bucket", schedule_in_bucket].result()
    assert not outcome.problems, str(outcome)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", RANDOM, ids=_name)
def test_several_accidents_on_a_lake_cost_nothing(
    schedule: Schedule, outcomes: dict[tuple[str, Schedule], Future[Outcome]]
) -> None:
    """Fails: accidents that are harmless alone are not so together; play it again with the seed in the name."""
    outcome = outcomes["in_folder", schedule].result()
    assert not outcome.problems, str(outcome)


def test_every_moment_between_two_objects_is_struck_by_a_kill() -> None:
    """Fails: a point was added, and no one tries it before the night."""
    assert {schedule.point for schedule in BOUNDED} == set(_OWN)


def test_a_run_with_a_lake_passes_every_point_of_it_and_no_other(
    url: str, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a fault is armed at a moment that never comes, or comes at one that no schedule plays."""
    passed = set()
    monkeypatch.setattr(faults, "point", lambda name, path=None: passed.add(name))
    write_exports(sources, crm=[row(f"C{number}") for number in range(12)])
    run_lake(sources, site_in(url, tmp_path / "machine"))
    # Those of Dagster's events are passed around these steps.
    assert passed == {name for name in LAKE_RUN_POINTS if not name.startswith("event.")}
