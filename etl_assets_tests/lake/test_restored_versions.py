"""`etl-assets restore` on a lake, killed before and after its commit, while readers poll the table."""

import time

import pytest

from etl_assets.engine import faults
from etl_assets.engine.faults import Action
from etl_assets.engine.published.inspecting import fetch_state
from etl_assets.engine.published.restored import read_mark
from etl_assets_tests.lake.lake_places import FolderLakePlace
from etl_assets_tests.whole.harness import Harness
from etl_assets_tests.whole.poller import Poller

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Harness:
    return Harness(tmp_path_factory.mktemp("restores"), kind=FolderLakePlace)


@pytest.mark.parametrize("action", [Action.KILL, Action.RAISE])
@pytest.mark.parametrize("point", ["restore.before_swap", "restore.after_swap"])
def test_a_fault_beside_the_commit_of_a_restore_costs_nothing(made: Harness, point: str, action: Action) -> None:
    """Readers see the present version or the one before, whole. Fails: one sees neither, or it is lost."""
    place = made.place(made.begin(f"{point} {action}", is_current=True))
    poller = Poller(place.published())
    poller.start()
    try:
        plain = made.environment(place.folder, made.new_sources)
        broken = made.process({**plain, faults.FAULT_VARIABLE: f"{point} {action}"}, ("restore",))
        assert broken.exit_code == (-9 if action is Action.KILL else 1), broken.output
        is_done = point == "restore.after_swap"
        assert place.published().look().digest == (made.old if is_done else made.new).digest
        fetch_state(place.site)
        assert (read_mark(place.site.home) is not None) == is_done
        if not is_done:
            again = made.process(plain, ("restore",))
            assert again.exit_code == 0, again.output
        assert place.published().look().digest == made.old.digest
        # What runs next neither publishes over it nor fails because of it, and the way back is open.
        assert made.process(plain, ()).exit_code == 2
        assert made.process(plain, ("restore", "--release")).exit_code == 0
        assert made.process(plain, ()).exit_code == 0
        assert place.published().look().digest == made.new.digest
        time.sleep(2 * place.published().poll_s)
    finally:
        poller.stop()
    assert poller.failures == []
    assert {seen.digest for seen in poller.seen} == {made.old.digest, made.new.digest}
    assert all(seen.rows == seen.record_count == seen.rows_promised for seen in poller.seen)
    assert place.leftovers() == []
