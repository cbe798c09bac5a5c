"""Warehouses that were replaced: which are kept, for how long, and how one is brought back."""

import os
import time
from datetime import UTC
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.kept_warehouses import KEPT_DAYS, chosen, forget, kept_warehouses, sweep_kept
from etl_assets.engine.published.restored import read_mark, refuse_restored, release
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps.restoring import restore
from etl_assets.errors import ConfigError, WriteError
from etl_assets_tests import factory
from etl_assets_tests.engine import child
from etl_assets_tests.engine.steps.twelve_customers import build, merge, restage

RESTORE_POINTS = ("restore.kept", "restore.marked", "restore.before_swap", "restore.after_swap")


def _digest(home: Home) -> str:
    publication = read_publication(home)
    assert publication is not None
    return publication.digest


def _publish(site: Site, folder: Path, *, keep_count: int = 3, **changes: str) -> str:
    """Publish changed exports; returns the digest."""
    restage(site, folder, **changes)
    build(site, *site.shard_ids)
    return merge(site, keep_count=keep_count).publication.digest


def _kept(home: Home) -> list[str]:
    return [factory.query(one.path, "SELECT digest FROM publication")[0][0] for one in kept_warehouses(home)]


@pytest.fixture
def digests(published: Site, tmp_path: Path) -> list[str]:
    """The digests of four publications, the present one last."""
    first = _digest(published.home)
    return [first, *(_publish(published, tmp_path / "sources", email=f"{number}@x.example") for number in range(3))]


class TestKeeping:
    def test_the_last_ones_stay_without_a_copy_and_older_ones_go(
        self, published: Site, digests: list[str], tmp_path: Path
    ) -> None:
        """Fails: a bad night cannot be undone, or every publication stays on the disk for ever."""
        inode = published.home.warehouse.stat().st_ino
        latest = _publish(published, tmp_path / "sources", email="y@x.example")
        assert _kept(published.home) == digests[:0:-1]
        assert kept_warehouses(published.home)[0].path.stat().st_ino == inode
        assert _digest(published.home) == latest

    def test_a_merge_with_the_same_rows_pushes_none_out(self, published: Site, digests: list[str]) -> None:
        """Fails: three retries of one merge, and the good warehouse of yesterday is gone."""
        before = _kept(published.home)
        for _ in range(3):
            build(published, *published.shard_ids)
            merge(published, keep_count=3)
        assert _kept(published.home) == before == digests[2::-1]

    def test_zero_keeps_none_and_removes_those_that_are_there(
        self, published: Site, digests: list[str], tmp_path: Path
    ) -> None:
        assert len(_kept(published.home)) == 3
        _publish(published, tmp_path / "sources", keep_count=0, email="y@x.example")
        assert _kept(published.home) == []

    def test_one_that_was_replaced_long_ago_goes_whatever_their_number(
        self, published: Site, digests: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """They hold personal data. Fails: the last three of a pipeline that was given up stay for years."""
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + (KEPT_DAYS - 1) * 24 * 3600)
        sweep_kept(published.home, 3)
        assert len(_kept(published.home)) == 3
        monkeypatch.setattr(time, "time", lambda: now + (KEPT_DAYS + 1) * 24 * 3600)
        sweep_kept(published.home, 3)
        assert _kept(published.home) == []

    def test_a_file_system_without_hard_links_keeps_none_and_says_so(
        self,
        published: Site,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Fails: the merge fails there, or copies the whole warehouse each time."""

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
        latest = _publish(published, tmp_path / "sources", email="y@x.example")
        assert _digest(published.home) == latest
        assert _kept(published.home) == []
        assert "is not kept" in caplog.text

    def test_other_files_in_the_folder_stay(self, published: Site, digests: list[str]) -> None:
        """Fails: a person's own file is taken for a kept warehouse and removed."""
        own = published.home.kept / "mine.duckdb"
        own.write_text("mine")
        sweep_kept(published.home, 0)
        forget(published.home, None)
        assert own.read_text() == "mine"


class TestRestoring:
    def test_the_one_before_comes_back_whole_and_the_replaced_one_is_kept(
        self, published: Site, digests: list[str]
    ) -> None:
        """Fails: a bad publication stays until the exports are right again."""
        home = published.home
        done = restore(home, factory.LIMITS, None, 3)
        assert _digest(home) == done.publication.digest == digests[2]
        assert _kept(home) == [digests[3], digests[1], digests[0]]
        assert factory.query(home.warehouse, "SELECT count(*) FROM merged_profiles") == [(12,)]

    def test_a_time_names_one_and_a_restore_can_be_undone(self, published: Site, digests: list[str]) -> None:
        home = published.home
        latest = read_publication(home)
        assert latest is not None
        first = kept_warehouses(home)[-1]
        restore(home, factory.LIMITS, f"{first.published_at:%Y-%m-%dT%H:%M:%S.%f}", 3)
        assert _digest(home) == digests[0]
        restore(home, factory.LIMITS, f"{latest.published_at.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}", 3)
        assert _digest(home) == digests[3]
        assert read_mark(home) is not None

    def test_nothing_is_merged_over_it_until_it_is_released(
        self, published: Site, digests: list[str], tmp_path: Path
    ) -> None:
        """Fails: the sensor publishes the bad result again within seconds."""
        home = published.home
        restore(home, factory.LIMITS, None, 3)
        with pytest.raises(ConfigError, match=r"was restored at .* and is held"):
            merge(published, keep_count=3)
        assert _digest(home) == digests[2]
        assert release(home) is not None
        refuse_restored(home)
        assert merge(published, keep_count=3).publication.digest == digests[3]
        assert digests[2] in _kept(home)
        assert release(home) is None

    def test_one_whose_rows_are_not_those_published_is_refused(self, published: Site, digests: list[str]) -> None:
        """Fails: a file that someone changed becomes the result."""
        kept = chosen(published.home, None)
        factory.alter(kept.path, "UPDATE merged_profiles SET email = 'x'")
        with pytest.raises(WriteError, match="its rows are not those published"):
            restore(published.home, factory.LIMITS, None, 3)
        assert _digest(published.home) == digests[3]
        assert read_mark(published.home) is None

    @pytest.mark.parametrize(
        ("when", "message"),
        [
            ("1999", "No kept warehouse was published at '1999'"),
            ("2", "4 kept warehouses were|3 kept warehouses were"),
            ("soon", "No kept warehouse was published at 'soon'"),
        ],
    )
    def test_a_time_that_names_none_or_several_is_refused(
        self, published: Site, digests: list[str], when: str, message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            restore(published.home, factory.LIMITS, when, 3)
        assert _digest(published.home) == digests[3]

    def test_without_any_it_says_so(self, published: Site) -> None:
        with pytest.raises(ConfigError, match="No warehouse of before the present one is kept"):
            restore(published.home, factory.LIMITS, None, 3)

    @pytest.mark.parametrize("point", RESTORE_POINTS)
    def test_a_kill_at_any_moment_leaves_one_of_both(
        self, published: Site, digests: list[str], tmp_path: Path, point: str
    ) -> None:
        """Fails: a restore that was killed leaves no warehouse, or one that the sensor merges over at once."""
        home = published.home
        assert child.run(published, tmp_path / "sources", f"{point} kill", "restore") == -9
        is_done = point == "restore.after_swap"
        assert _digest(home) == digests[2 if is_done else 3]
        assert (read_mark(home) is not None) == is_done
        if not is_done:
            assert restore(home, factory.LIMITS, None, 3).publication.digest == digests[2]
        assert _kept(home)[0] == digests[3]
        assert not list(home.kept.glob(".tmp*"))

    def test_a_merge_that_was_killed_after_it_kept_the_old_one_loses_nothing(
        self, published: Site, digests: list[str], tmp_path: Path
    ) -> None:
        """Fails: the present warehouse is counted as a kept one, and pushes one out."""
        restage(published, tmp_path / "more", email="z@x.example")
        build(published, *published.shard_ids)
        assert child.run(published, tmp_path / "more", "merge.kept kill", "merge") == -9
        assert (_digest(published.home), _kept(published.home)) == (digests[3], digests[2::-1])
        merge(published, keep_count=3)
        assert _kept(published.home) == digests[:0:-1]


def test_the_mode_of_the_published_file_survives_the_swap(published: Site, tmp_path: Path) -> None:
    """Fails: whoever lets a group read the warehouse must do so again after each night's run."""
    published.home.warehouse.chmod(0o660)
    if os.geteuid() == 0:
        os.chown(published.home.warehouse, -1, 12345)
    _publish(published, tmp_path / "sources", email="y@x.example")
    found = published.home.warehouse.stat()
    assert found.st_mode & 0o777 == 0o660
    assert os.geteuid() != 0 or found.st_gid == 12345
    restore(published.home, factory.LIMITS, None, 3)
    found = published.home.warehouse.stat()
    assert (found.st_mode & 0o777, os.geteuid() != 0 or found.st_gid == 12345) == (0o660, True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give the file to another group first")
def test_the_mode_is_not_widened_for_a_group_that_this_user_may_not_give(
    published: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the rights of the old file's group go to this user's own one."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    home = published.home
    home.warehouse.chmod(0o664)
    os.chown(home.warehouse, -1, 12345)
    monkeypatch.setattr(os, "chown", refuse)
    _publish(published, tmp_path / "sources", email="y@x.example")
    assert home.warehouse.stat().st_mode & 0o777 == 0o604
