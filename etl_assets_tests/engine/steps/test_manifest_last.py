"""A shard's file is published before its manifest: what lies between the two is not a shard, and the next run heals it.

Every kill is a real one, of a process of its own.
"""

from pathlib import Path

import pytest

from etl_assets.engine import faults
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.attempts import read_attempts
from etl_assets.engine.published.shards import Unfit, inspect_shards
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, ShardSetError
from etl_assets_tests import factory
from etl_assets_tests.engine import child
from etl_assets_tests.engine.steps.twelve_customers import IDS, leftovers, merge, restage, shard_of

# After these a new file is published and its manifest is not.
BETWEEN = ("shard.after_swap", "shard.end", "manifest.begin", "manifest.before_sync", "manifest.before_swap")
# The first customer is in it.
SHARD = "shard_01"


@pytest.fixture
def sources(few_shards_made: Path) -> Path:
    """The exports that `published` was made from."""
    return few_shards_made / "sources"


def _kill(site: Site, sources: Path, point: str) -> None:
    assert child.run(site, sources, f"{point} kill shard={SHARD}", "build") == -9


def _digest(site: Site) -> str:
    return merge(site).publication.digest


def _assert_healed(site: Site, sources: Path, digest: str) -> None:
    """Running again builds what was left half done, and the result is that of a run without the kill."""
    child.do(site, sources, "stage", "build")
    assert inspect_shards(site).obstacles == {}
    assert _digest(site) == digest


def test_every_point_between_file_and_manifest_is_tried() -> None:
    points = list(faults.POINTS)
    in_order = points[points.index("shard.after_swap") : points.index("manifest.after_swap")]
    assert tuple(in_order) == BETWEEN


@pytest.mark.parametrize("point", BETWEEN)
def test_a_first_build_that_was_killed_before_its_manifest_is_no_shard(
    published: Site, sources: Path, point: str
) -> None:
    """Fails: a file that no one vouches for is merged, or is in the way for ever."""
    digest = _digest(published)
    for path in (published.home.shard_file(SHARD), published.home.manifest(SHARD)):
        path.unlink()
    _kill(published, sources, point)
    assert published.home.shard_file(SHARD).exists()
    assert not published.home.manifest(SHARD).exists()
    obstacle = inspect_shards(published).obstacles[SHARD]
    assert (obstacle.kind, obstacle.status) == (Unfit.MISSING, Status.MISSING)
    (attempt,) = read_attempts(published.home, [SHARD])
    assert (attempt.status, attempt.run_id) == (Status.KILLED, "child")
    with pytest.raises(ShardSetError, match=f"{SHARD}: missing") as caught:
        merge(published)
    assert SHARD in caught.value.advice[0].shards
    _assert_healed(published, sources, digest)


@pytest.mark.parametrize("point", BETWEEN)
def test_a_rebuild_that_was_killed_before_its_manifest_does_not_count_as_published(
    published: Site, tmp_path: Path, point: str
) -> None:
    """The old manifest is there, beside the new file: neither the old nor the new shard may be merged."""
    newer = _change(published, tmp_path)
    before = published.home.manifest(SHARD).read_bytes()
    _kill(published, newer, point)
    assert published.home.manifest(SHARD).read_bytes() == before
    obstacle = inspect_shards(published).obstacles[SHARD]
    # By its size where that changed, else by the source data of the manifest.
    assert obstacle.kind in (Unfit.DAMAGED, Unfit.OTHER_DATA)
    warehouse = published.home.warehouse.read_bytes()
    with pytest.raises(ShardSetError, match=f"{SHARD}: ") as caught:
        merge(published)
    assert caught.value.advice == (Advice(Action.RUN, shards=(SHARD,)),)
    assert published.home.warehouse.read_bytes() == warehouse
    fresh = factory.site_at(Home(tmp_path / "fresh"), published.shard_count)
    _assert_healed(published, newer, factory.run_engine(newer, fresh).publication.digest)


def test_a_file_whose_manifest_is_current_again_is_read_before_it_is_used(
    published: Site, sources: Path, tmp_path: Path
) -> None:
    """Killed between file and manifest, and then the old export comes back: the manifest is right, the file is not."""
    digest = _digest(published)
    newer = _change(published, tmp_path)
    _kill(published, newer, "manifest.begin")
    child.do(published, sources, "stage")
    assert factory.reusable(published, factory.input_of(published, SHARD)) is None
    with pytest.raises(ShardSetError, match=f"{SHARD}: damaged"):
        merge(published)
    _assert_healed(published, sources, digest)


@pytest.mark.parametrize("point", ["shard.joined", "shard.validated", "shard.before_sync", "shard.before_swap"])
def test_a_build_that_was_killed_before_its_file_leaves_the_old_shard(
    published: Site, sources: Path, point: str
) -> None:
    """The control: nothing of the new shard is published yet."""
    paths = (published.home.shard_file(SHARD), published.home.manifest(SHARD))
    before = [path.read_bytes() for path in paths]
    assert child.run(published, sources, f"{point} kill shard={SHARD}", "rebuild") == -9
    assert [path.read_bytes() for path in paths] == before
    assert inspect_shards(published).obstacles == {}
    child.do(published, sources, "build", "merge")
    assert leftovers(published) == []


def test_a_build_that_was_killed_after_its_manifest_is_complete(published: Site, sources: Path) -> None:
    digest = _digest(published)
    for path in (published.home.shard_file(SHARD), published.home.manifest(SHARD)):
        path.unlink()
    _kill(published, sources, "manifest.after_swap")
    assert inspect_shards(published).obstacles == {}
    assert factory.reusable(published, factory.input_of(published, SHARD)) is not None
    assert _digest(published) == digest


def _change(site: Site, tmp_path: Path) -> Path:
    """Stage exports with another value of the first customer, who is in the shard that is killed; returns them."""
    assert shard_of(site, IDS[0]) == SHARD
    restage(site, tmp_path / "newer", company_name="Another")
    return tmp_path / "newer"
