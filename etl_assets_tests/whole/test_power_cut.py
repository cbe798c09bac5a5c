"""A power cut at every moment of every publication: whatever was not synced is lost; see `power.py`.

`make drill-all` cuts at every moment in both ways, a plain `pytest` at those that differ most.
"""

import collections
from pathlib import Path

import pytest

from etl_assets.engine import faults
from etl_assets.engine.files.sweeping import leftovers
from etl_assets.engine.published import attempts, checks, shards
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.withdrawing import require_undamaged
from etl_assets_tests import factory
from etl_assets_tests.whole import armed_run, power
from etl_assets_tests.whole.children import IS_FULL_SIZE
from etl_assets_tests.whole.harness import Harness
from etl_assets_tests.whole.poller import look
from etl_assets_tests.whole.power import Disk, Loss
from etl_assets_tests.whole.schedules import AIMED_SHARD, OF_A_SHARD, SHARD_COUNT

pytestmark = pytest.mark.slow

EVERY_CUT = [
    (f"{what}.{moment}", loss) for what in faults.PUBLICATIONS for moment in faults.MOMENTS[1:] for loss in Loss
]
# Names matter once they are changed, contents as soon as they are to be named.
TELLING_CUTS = [
    (f"{what}.{moment}", loss)
    for what in faults.PUBLICATIONS
    for moment, loss in (("before_swap", Loss.CONTENT), ("after_swap", Loss.CONTENT), ("after_swap", Loss.NAMES))
    if what in ("shard", "manifest", "warehouse") or moment == "after_swap"
]
CUTS = EVERY_CUT if IS_FULL_SIZE else TELLING_CUTS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("power"))


def _variables(made: Harness, place: Path, fault: str = "") -> dict[str, str]:
    variables = made.environment(place, made.new_sources)
    return variables | {
        faults.FAULT_VARIABLE: fault,
        armed_run.IN_MEMORY: "1",
        armed_run.JOURNAL: str(place / "synced"),
    }


def _problems(made: Harness, place: Path) -> list[str]:
    """What is not as it should be in a home that is published and complete."""
    site = made.site_of(place)
    findings = checks.check_warehouse(site, factory.LIMITS, checks.warehouse_checks(site.project))
    problems = [finding.name for finding in findings if not finding.passed]
    snapshots = current_snapshots(site)
    require_undamaged(site, factory.LIMITS, snapshots)
    problems += [name for name, found in snapshots.items() if not checks.recount_source(site.home, found).passed]
    found = shards.inspect_shards(site)
    obstacles = [
        *found.obstacles.values(),
        *(factory.verify_shard(site.home, manifest) for manifest in found.manifests),
    ]
    return [*problems, *map(str, filter(None, obstacles)), *leftovers(site.home)]


@pytest.mark.parametrize("loss", Loss)
def test_what_a_run_published_is_there_after_a_power_cut(made: Harness, tmp_path: Path, loss: Loss) -> None:
    """On a home that it made itself; fails when "published" was said of something that only the memory held."""
    ended = made.process(_variables(made, tmp_path), ())
    assert ended.exit_code == 0, ended.output
    site = made.site_of(tmp_path)
    home = site.home
    power.cut(home.root, tmp_path / "synced", loss, Disk())
    assert look(home.warehouse) == made.new
    assert _problems(made, tmp_path) == []
    known = attempts.read_attempts(home, site.shard_ids)
    assert [attempt.status for attempt in known] == [Status.SUCCEEDED] * SHARD_COUNT


def test_everything_published_is_synced_before_its_swap_and_its_folder_after_it(made: Harness, tmp_path: Path) -> None:
    """Fails: there is a second in which a power cut leaves a published name with nothing behind it."""
    ended = made.process(_variables(made, tmp_path), ())
    assert ended.exit_code == 0, ended.output
    home = made.site_of(tmp_path).home.root
    renames = [rename for rename in power.renames(tmp_path / "synced") if rename.target.is_relative_to(home)]
    begun: set[Path] = set()
    for rename in renames:
        is_beginning = rename.target.is_relative_to(home / "attempts") and rename.target not in begun
        begun.add(rename.target)
        # That an attempt began is worth nothing after a power cut, which ended it.
        if is_beginning:
            continue
        assert rename.unsynced == (), f"{rename.target} was swapped in before these were synced"
        assert rename.is_folder_synced, f"the folder of {rename.target} was not synced after the swap"
    kinds = collections.Counter(rename.target.relative_to(home).parts[0] for rename in renames)
    # A pointer and a snapshot for each source; a beginning and an end of each attempt; a file and a manifest a shard.
    assert kinds == {"staged": 8, "attempts": 2 * SHARD_COUNT, "shards": 2 * SHARD_COUNT, "warehouse.duckdb": 1}


@pytest.mark.parametrize(("point", "loss"), CUTS)
def test_a_power_cut_in_a_publication_costs_nothing(made: Harness, point: str, loss: Loss) -> None:
    """Fails: after the lights come back, the warehouse is torn, or the next run trusts a file that is empty."""
    place = made.begin(f"{point} {loss}")
    home = made.site_of(place).home
    before = power.survey(home.root)
    before.names[home.root.parent.stat().st_ino] = {home.root.name: home.root.stat().st_ino}
    aim = f" shard={AIMED_SHARD}" if point in OF_A_SHARD else ""
    killed = made.process(_variables(made, place, f"{point} kill{aim}"), ())
    assert killed.struck, killed.output
    power.cut(home.root, place / "synced", loss, before)
    assert look(home.warehouse) in (made.old, made.new)
    recovered = made.process(_variables(made, place) | {armed_run.JOURNAL: ""}, ())
    assert recovered.exit_code == 0, recovered.output
    assert look(home.warehouse) == made.new
    assert _problems(made, place) == []
