"""A power cut at every moment of every publication: whatever was not synced is lost; see `power.py`.

`make drill-all` cuts at every moment in both ways, a plain `pytest` at those that differ most.
"""

import collections
from pathlib import Path

import pytest

from etl_assets.engine import faults
from etl_assets.engine.published import attempts, checks
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import stage as staging
from etl_assets.pipeline.drill import leftovers
from etl_assets_tests import factory
from etl_assets_tests.whole import harness, power
from etl_assets_tests.whole.children import IS_FULL_SIZE
from etl_assets_tests.whole.harness import AIMED_SHARD, SHARD_COUNT, Harness
from etl_assets_tests.whole.power import Disk, Loss

pytestmark = pytest.mark.slow

EVERY_CUT = [
    (f"{what}.{moment}", loss) for what in faults.PUBLICATIONS for moment in faults.MOMENTS[1:] for loss in Loss
]
# Names matter once they are changed, contents as soon as they are to be named.
TELLING_CUTS = [
    (f"{what}.{moment}", loss)
    for what in faults.PUBLICATIONS
    for moment, loss in (("before_swap", Loss.CONTENT), ("after_swap", Loss.CONTENT), ("after_swap", Loss.NAMES))
    if what in ("shard", "warehouse") or moment == "after_swap"
]
CUTS = EVERY_CUT if IS_FULL_SIZE else TELLING_CUTS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("power"))


def _variables(made: Harness, place: Path, fault: str = "") -> dict[str, str]:
    variables = harness.environment(place, made.new_sources)
    return variables | {faults.FAULT_VARIABLE: fault, harness.IN_MEMORY: "1", harness.JOURNAL: str(place / "synced")}


def _problems(place: Path) -> list[str]:
    """What is not as it should be in a home that is published and complete."""
    home = harness.home_of(place)
    found = [check.name for check in checks.check_warehouse(home, factory.LIMITS) if not check.passed]
    snapshots = staging.current_snapshots(home, SHARD_COUNT)
    staging.require_undamaged(home, snapshots.values())
    found += [source for source, snapshot in snapshots.items() if not checks.recount_source(home, snapshot).passed]
    found += [*shardset.inspect_shards(home, SHARD_COUNT).problems.values(), *leftovers(home)]
    return found


@pytest.mark.parametrize("loss", Loss)
def test_what_a_run_published_is_there_after_a_power_cut(made: Harness, tmp_path: Path, loss: Loss) -> None:
    """On a home that it made itself; fails when "published" was said of something that only the memory held."""
    ended = made.process(_variables(made, tmp_path), ())
    assert ended.exit_code == 0, ended.output
    home = harness.home_of(tmp_path)
    power.cut(home.root, tmp_path / "synced", loss, Disk())
    assert harness.look(home.warehouse) == made.new
    assert _problems(tmp_path) == []
    known = attempts.read_attempts(home, shard_keys(SHARD_COUNT))
    assert [attempt.status for attempt in known] == ["succeeded"] * SHARD_COUNT


def test_everything_published_is_synced_before_its_swap_and_its_folder_after_it(made: Harness, tmp_path: Path) -> None:
    """Fails: there is a second in which a power cut leaves a published name with nothing behind it."""
    ended = made.process(_variables(made, tmp_path), ())
    assert ended.exit_code == 0, ended.output
    home = harness.home_of(tmp_path).root
    renames = [rename for rename in power.renames(tmp_path / "synced") if rename.target.is_relative_to(home)]
    for rename in renames:
        assert rename.unsynced == (), f"{rename.target} was swapped in before these were synced"
        assert rename.is_folder_synced, f"the folder of {rename.target} was not synced after the swap"
    kinds = collections.Counter(rename.target.relative_to(home).parts[0] for rename in renames)
    # A pointer and a snapshot a source; a beginning and an end an attempt.
    assert kinds == {"staged": 8, "attempts": 2 * SHARD_COUNT, "shards": SHARD_COUNT, "warehouse.duckdb": 1}


@pytest.mark.parametrize(("point", "loss"), CUTS)
def test_a_power_cut_in_a_publication_costs_nothing(made: Harness, point: str, loss: Loss) -> None:
    """Fails: after the lights come back, the warehouse is torn, or the next run trusts a file that is empty."""
    place = made.begin(f"{point} {loss}")
    home = harness.home_of(place)
    before = power.survey(home.root)
    before.names[home.root.parent.stat().st_ino] = {home.root.name: home.root.stat().st_ino}
    aim = f" shard={AIMED_SHARD}" if point.startswith(("shard.", "attempt.")) else ""
    killed = made.process(_variables(made, place, f"{point} kill{aim}"), ())
    assert killed.struck, killed.output
    power.cut(home.root, place / "synced", loss, before)
    assert harness.look(home.warehouse) in (made.old, made.new)
    recovered = made.process(_variables(made, place) | {harness.JOURNAL: ""}, ())
    assert recovered.exit_code == 0, recovered.output
    assert harness.look(home.warehouse) == made.new
    assert _problems(place) == []
