"""`etl-assets restore` killed at each of its fault points, while readers poll the warehouse."""

import time
from pathlib import Path

import pytest

from etl_assets.engine import faults
from etl_assets.engine.published.restored import read_mark
from etl_assets_tests.whole.harness import Harness
from etl_assets_tests.whole.poller import POLL_S, Poller, WarehouseFile, look

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("restores"))


@pytest.mark.parametrize("action", [faults.Action.KILL, faults.Action.RAISE])
@pytest.mark.parametrize("point", faults.RESTORE_STEPS)
def test_a_fault_at_any_point_of_a_restore_costs_nothing(made: Harness, point: str, action: faults.Action) -> None:
    """Readers see the present warehouse or the one before, whole, whatever happens. Fails: one sees none."""
    place = made.begin(f"{point} {action}", is_current=True)
    home = made.site_of(place).home
    poller = Poller(WarehouseFile(home.warehouse))
    poller.start()
    try:
        plain = made.environment(place, made.new_sources)
        broken = made.process({**plain, faults.FAULT_VARIABLE: f"{point} {action}"}, ("restore",))
        assert broken.exit_code == (-9 if action is faults.Action.KILL else 1), broken.output
        is_done = point == "restore.after_swap"
        assert look(home.warehouse) == (made.old if is_done else made.new)
        assert (read_mark(home) is not None) == is_done
        if not is_done:
            again = made.process(plain, ("restore",))
            assert again.exit_code == 0, again.output
        assert look(home.warehouse) == made.old
        # What runs next neither publishes over it nor fails because of it, and the way back is open.
        assert made.process(plain, ()).exit_code == 2
        assert made.process(plain, ("restore", "--release")).exit_code == 0
        assert made.process(plain, ()).exit_code == 0
        assert look(home.warehouse).digest == made.new.digest
        time.sleep(2 * POLL_S)
    finally:
        poller.stop()
    assert poller.failures == []
    assert {seen.digest for seen in poller.seen} == {made.old.digest, made.new.digest}
    assert not list(Path(home.root).rglob(".tmp-*"))
