"""Every fault point broken in every way, through real processes; see `harness.py` for what must hold afterwards.

A plain `pytest` plays a bounded share, every kill between a shard's file and its manifest, and a few random schedules;
`make drill-all` plays all of them: HARNESS_ALL=1 for the whole enumeration, HARNESS_RANDOM for the number of random
schedules, HARNESS_SEED to play the same ones again.
"""

import os
import random
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from etl_assets.engine import faults
from etl_assets.engine.faults import RUN_POINTS, Action
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.sweeping import leftovers
from etl_assets_tests import factory
from etl_assets_tests.whole import schedules
from etl_assets_tests.whole.harness import Harness
from etl_assets_tests.whole.judge import Outcome
from etl_assets_tests.whole.poller import Poller, WarehouseFile, look
from etl_assets_tests.whole.schedules import Schedule

pytestmark = pytest.mark.slow

AT_A_TIME = int(os.environ.get("HARNESS_AT_A_TIME") or 2)
SHARE = len(RUN_POINTS)
RANDOM_SHARE = 5

IS_ALL = os.environ.get("HARNESS_ALL") == "1"
# Fixed in the bounded share, so that a red build is not a matter of luck; random otherwise, and printed.
SEED = int(os.environ.get("HARNESS_SEED") or (random.SystemRandom().randrange(10**6) if IS_ALL else 1))
RANDOM_COUNT = int(os.environ.get("HARNESS_RANDOM") or RANDOM_SHARE)

BOUNDED = dict.fromkeys([*schedules.share(schedules.enumerated(), SHARE), *schedules.between_file_and_manifest()])
ENUMERATED = schedules.enumerated() if IS_ALL else list(BOUNDED)
RANDOM = schedules.randomised(RANDOM_COUNT, SEED)
RANDOM_OF_DESK = schedules.randomised(RANDOM_COUNT, SEED + 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("harness"))


@pytest.fixture(scope="module")
def made_of_desk(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    """A project with other dialects, a key of two columns, and many records of a key."""
    return Harness(tmp_path_factory.mktemp("desk"), factory.PROJECT_FOLDER.with_name("desk"))


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[dict[Schedule, Future[Outcome]]]:
    """The schedules of the selected tests, some at a time, while the tests wait for them one by one."""
    print(
        f"HARNESS_SEED={SEED}: {len(ENUMERATED)} enumerated, {len(RANDOM)} and {len(RANDOM_OF_DESK)} random schedules"
    )
    items = [item for item in request.session.items if isinstance(item, pytest.Function) and hasattr(item, "callspec")]
    wanted = [
        (schedule, request.getfixturevalue(place))
        for item in items
        for name, place in (("schedule", "made"), ("schedule_of_desk", "made_of_desk"))
        if isinstance(schedule := item.callspec.params.get(name), Schedule)
    ]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {schedule: pool.submit(place.play, schedule) for schedule, place in wanted}
        pool.shutdown(cancel_futures=True)


def _name(schedule: Schedule) -> str:
    return schedule.name.replace(" ", "-") if schedule.point else schedule.name.split("number=")[1].split()[0]


@pytest.mark.parametrize("schedule", ENUMERATED, ids=_name)
def test_a_fault_at_any_point_costs_nothing(schedule: Schedule, outcomes: dict[Schedule, Future[Outcome]]) -> None:
    """Fails: there is a moment at which an accident loses, doubles or hides something, or stops the pipeline."""
    outcome = outcomes[schedule].result()
    assert not outcome.problems, str(outcome)


@pytest.mark.parametrize("schedule", RANDOM, ids=_name)
def test_several_accidents_in_a_row_cost_nothing(schedule: Schedule, outcomes: dict[Schedule, Future[Outcome]]) -> None:
    """Fails: accidents that are harmless alone are not so together; play it again with the seed in the name."""
    outcome = outcomes[schedule].result()
    assert not outcome.problems, str(outcome)


@pytest.mark.parametrize("schedule_of_desk", RANDOM_OF_DESK, ids=_name)
def test_several_accidents_cost_a_project_of_ones_own_nothing(
    schedule_of_desk: Schedule, outcomes: dict[Schedule, Future[Outcome]]
) -> None:
    """Fails: what is safe for one record a key is not so for many, or for records that are the latest by a column."""
    outcome = outcomes[schedule_of_desk].result()
    assert not outcome.problems, str(outcome)


def test_the_share_that_always_runs_has_every_point_and_every_action() -> None:
    """Fails: a point or a kind of accident is not tried before the night."""
    chosen = schedules.share(schedules.enumerated(), SHARE)
    assert {schedule.point for schedule in chosen} == set(RUN_POINTS)
    assert {schedule.action for schedule in chosen} == set(Action)
    assert {schedule.is_every_attempt for schedule in chosen} == {False, True}


def test_the_same_seed_makes_the_same_schedules() -> None:
    """Fails: what a night found cannot be looked at in the morning."""
    assert schedules.randomised(20, 5) == schedules.randomised(20, 5)
    assert schedules.randomised(20, 5) != schedules.randomised(20, 6)


def test_a_reader_is_caught_when_it_cannot_open_the_warehouse(tmp_path: Path) -> None:
    """Fails: the harness would not notice the very thing it is for."""
    reader = Poller(WarehouseFile(tmp_path / "warehouse.duckdb"))
    reader.start()
    while not reader.polls:
        pass
    reader.stop()
    assert reader.failures


def _cut(sources: Path, place: Path) -> Path:
    """A copy of the exports in which that of the CRM holds its header and three rows."""
    cut = shutil.copytree(sources, place / "cut")
    path = cut / "crm.csv"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))
    return cut


@pytest.mark.parametrize(
    "fault", ["", "snapshot.after_swap kill", "pointer.before_swap kill", "pointer.after_swap kill"]
)
def test_an_export_that_shrinks_between_runs_is_refused_and_a_whole_one_heals_it(made: Harness, fault: str) -> None:
    """Fails: a crash while an export is refused publishes it, or leaves something that a whole export does not heal."""
    place = made.begin(f"shrunken export {fault}")
    warehouse = made.site_of(place).home.warehouse
    cut, whole = _cut(made.new_sources, place), made.environment(place, made.new_sources)
    reader = Poller(WarehouseFile(warehouse))
    reader.start()
    try:
        if fault:
            killed = made.process({**made.environment(place, cut), faults.FAULT_VARIABLE: fault}, ())
            assert killed.exit_code == -signal.SIGKILL, killed.output
        refused = made.process(made.environment(place, cut), ())
        assert refused.exit_code == 1, refused.output
        assert "its export has shrunk. 3 rows accepted now (crm.csv)" in refused.errors
        assert look(warehouse) == made.old
        healed = made.process(whole, ())
        assert healed.exit_code == 0, healed.output
        while made.new not in reader.seen:
            assert reader.is_alive()
    finally:
        reader.stop()
    assert not reader.failures
    assert reader.seen == [made.old, made.new]
    assert leftovers(Home(place / "home")) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, which can be made smaller and larger; skipped where this user may not mount one.

    The skip hides no point of failure: the schedules play a full disk at each of them, on any machine.
    """
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("room_kb", [64, 700])
def test_a_full_disk_leaves_what_was_published_and_is_healed_by_room(
    made: Harness, small_disk: Path, room_kb: int
) -> None:
    """Fails: the night the disk fills up costs yesterday's result as well, or leaves something to clean up by hand."""
    place = made.begin(f"full disk {room_kb}")
    home = shutil.copytree(place / "home", small_disk / "home")
    variables = made.environment(place, made.new_sources) | {"ETL_HOME": str(home)}
    used_kb = shutil.disk_usage(small_disk).used // 1024
    subprocess.run(["mount", "-o", f"remount,size={used_kb + room_kb}k", small_disk], check=True)
    full = made.process(variables, ())
    assert full.exit_code == 1, full.output
    assert "Traceback" not in full.output
    assert re.search("No space left|Could not write|[Dd]isk", full.output), full.output
    assert look(home / "warehouse.duckdb") == made.old
    assert leftovers(Home(home)) == []
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    recovered = made.process(variables, ())
    assert recovered.exit_code == 0, recovered.output
    assert look(home / "warehouse.duckdb") == made.new
    assert leftovers(Home(home)) == []
