"""Staging again: what is reused, what is made again, and what stays current when a source is refused."""

import errno
import fcntl
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine import site as engine_site
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.publishing import stamp
from etl_assets.engine.published.holding import held, sweep_unused
from etl_assets.engine.published.snapshots import current_snapshot, current_snapshots
from etl_assets.engine.reading import exports, surveying, verified
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import is_current
from etl_assets.engine.steps.stage import stage as stage_source
from etl_assets.errors import Action, ConfigError, RejectRatioError
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets_tests.engine.steps.product_exports import PRODUCT, accepted, no_reading, stage, write
from etl_assets_tests.factory import (
    PROJECT,
    SOURCES,
    read_quarantine,
    row,
    site_at,
    stage_all,
    staging_request,
    write_exports,
)


def _folders(site: Site) -> set[str]:
    """The names of the snapshots that are there."""
    return {path.name for path in (site.home.staged / "product").iterdir() if path.is_dir()}


class TestRejectRatio:
    def test_too_many_bad_rows_fail_the_source_with_counts_by_reason(self, sources: Path, site: Site) -> None:
        """Fails: half a broken export becomes the new truth."""
        write(sources, row(""), row("a", usage_pct="x"), row("b", usage_pct="y"), row("c"), row("c"))
        with pytest.raises(RejectRatioError) as caught:
            stage(sources, site, max_reject_ratio=0.5)
        text = str(caught.value)
        assert "Source 'product': 60.0% of 5 rows broke the contract, at most 50.0% are allowed" in text
        assert "(invalid:usage_pct 2, missing_customer_id 1, superseded 1)" in text
        # A share that lets it pass, as the setting takes it.
        assert [(one.action, one.setting, one.value) for one in caught.value.advice] == [
            (Action.REJECTS, None, "product"),
            (Action.EXPORT_AGAIN, None, None),
            (Action.SET, "ETL_MAX_REJECT_RATIO", "0.61"),
        ]
        assert caught.value.subject == "product"
        assert current_snapshot(site.home, "product") is None

    def test_the_rejected_rows_can_be_looked_up_where_the_message_says(self, sources: Path, site: Site) -> None:
        write(sources, row(""))
        with pytest.raises(RejectRatioError) as caught:
            stage(sources, site, max_reject_ratio=0.5)
        (path,) = (site.home.staged / "product").glob("*/quarantine.parquet")
        assert str(path) in str(caught.value)

    def test_exactly_the_allowed_share_passes(self, sources: Path, site: Site) -> None:
        write(sources, row(""), row("a"), row("b"), row("b"))
        assert stage(sources, site, max_reject_ratio=0.25).reject_ratio == 0.25

    def test_the_snapshot_before_stays_the_current_one(self, sources: Path, site: Site) -> None:
        write(sources, row("a"))
        good = stage(sources, site)
        write(sources, row(""), row(""))
        with pytest.raises(RejectRatioError):
            stage(sources, site, max_reject_ratio=0.5)
        assert current_snapshot(site.home, "product") == good

    def test_allowing_more_takes_the_snapshot_that_is_there(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(sources, row(""), row("a"))
        with pytest.raises(RejectRatioError):
            stage(sources, site, max_reject_ratio=0.1)
        monkeypatch.setattr(surveying, "survey", no_reading)
        snapshot = stage(sources, site, max_reject_ratio=0.5)
        assert current_snapshot(site.home, "product") == snapshot

    def test_allowing_less_fails_an_unchanged_source(
        self, sources: Path, site: Site, an_hour_later: Callable[[], None]
    ) -> None:
        write(sources, row(""), row("a"))
        an_hour_later()
        stage(sources, site, max_reject_ratio=0.5)
        with pytest.raises(RejectRatioError):
            stage(sources, site, max_reject_ratio=0.1)


class TestReuse:
    @pytest.fixture(autouse=True)
    def _settled(self, an_hour_later: Callable[[], None]) -> None:
        self.an_hour_later = an_hour_later

    def test_an_unchanged_export_is_not_read_again(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: every run reads all of the data again."""
        write(sources, row("a"), row(""))
        self.an_hour_later()
        request = staging_request(sources, site)
        assert not is_current(PRODUCT, request)
        first, reused = stage_source(PRODUCT, request)
        assert not reused
        for module, reading in ((verified, "hash_files"), (exports, "open_exports"), (surveying, "survey")):
            monkeypatch.setattr(module, reading, no_reading)
        assert stage_source(PRODUCT, request) == (first, True)
        assert is_current(PRODUCT, request)

    def test_a_changed_export_is_read_again(self, sources: Path, site: Site) -> None:
        path = write(sources, row("a", usage_pct="11"))
        self.an_hour_later()
        first = stage(sources, site)
        path.write_bytes(path.read_bytes().replace(b",11,", b",12,"))
        assert not is_current(PRODUCT, staging_request(sources, site))
        second = stage(sources, site)
        assert second.data_hash != first.data_hash
        assert accepted(site, second)["a"]["usage_pct"] == 12
        assert current_snapshot(site.home, "product") == second

    def test_a_file_just_written_is_not_trusted_by_its_stamps(self, sources: Path, site: Site) -> None:
        """Fails: two exports within one tick of the clock are taken for one."""
        path = write(sources, row("a", usage_pct="11"))
        stage(sources, site)
        assert not is_current(PRODUCT, staging_request(sources, site))
        path.write_bytes(path.read_bytes().replace(b",11,", b",12,"))
        assert accepted(site, stage(sources, site))["a"]["usage_pct"] == 12

    def test_an_added_or_removed_file_is_a_change(self, sources: Path, site: Site) -> None:
        write(sources, row("a"), name="product/1.csv")
        self.an_hour_later()
        stage(sources, site)
        added = write(sources, row("b"), name="product/2.csv")
        self.an_hour_later()
        assert set(accepted(site, stage(sources, site))) == {"a", "b"}
        added.unlink()
        assert set(accepted(site, stage(sources, site))) == {"a"}

    def test_a_renamed_file_is_a_change(self, sources: Path, site: Site) -> None:
        """Fails: quarantine and the order of files name files that are gone."""
        path = write(sources, row(""), name="product/1.csv")
        self.an_hour_later()
        stage(sources, site)
        path.rename(path.with_name("2.csv"))
        snapshot = stage(sources, site)
        assert snapshot.files == ("product/2.csv",)
        assert [found["file"] for found in read_quarantine(site.home, snapshot)] == ["product/2.csv"]

    def test_a_touched_file_of_the_same_bytes_keeps_its_snapshot(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(sources, row("a"))
        self.an_hour_later()
        first = stage(sources, site)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        self.an_hour_later()
        with monkeypatch.context() as patch:
            patch.setattr(surveying, "survey", no_reading)
            assert stage_source(PRODUCT, staging_request(sources, site)) == (first, True)
        assert is_current(PRODUCT, staging_request(sources, site))

    def test_force_makes_the_snapshot_again(self, sources: Path, site: Site) -> None:
        """Fails: a slice that was damaged on the disk cannot be repaired."""
        write(sources, row("a"))
        self.an_hour_later()
        first = stage(sources, site)
        for path in site.home.snapshot("product", first.folder).glob("shard_*.parquet"):
            path.write_bytes(b"damaged")
        again, reused = stage_source(PRODUCT, staging_request(sources, site), force=True)
        assert not reused
        assert replace(again, folder=first.folder) == first
        assert set(accepted(site, again)) == {"a"}
        assert current_snapshot(site.home, "product") == again

    def test_a_snapshot_that_is_made_again_gets_a_folder_of_its_own(self, sources: Path, site: Site) -> None:
        """Fails: a shard that is reading the snapshot finds its slices gone, or those of two snapshots mixed."""
        write(sources, row("a"))
        first = stage(sources, site)
        before = {path: stamp(path) for path in site.home.snapshot("product", first.folder).iterdir()}
        with held(site.home, [first]):
            again, _ = stage_source(PRODUCT, staging_request(sources, site), force=True)
            third, _ = stage_source(PRODUCT, staging_request(sources, site), force=True)
            assert first.folder == first.id == again.id == third.id
            assert again.folder.startswith(f"{first.id}-")
            assert len({first.folder, again.folder, third.folder}) == 3
            assert {path: stamp(path) for path in site.home.snapshot("product", first.folder).iterdir()} == before

    def test_the_name_of_a_damaged_snapshot_is_not_used_again(self, sources: Path, site: Site) -> None:
        """Fails: the folder of a withdrawn snapshot is taken for the new one, damaged slices and all."""
        write(sources, row("a"))
        self.an_hour_later()
        first = stage(sources, site)
        (site.home.snapshot("product", first.folder) / "snapshot.json").unlink()
        again, reused = stage_source(PRODUCT, staging_request(sources, site))
        assert not reused
        assert (again.id, again.folder != first.folder) == (first.id, True)
        assert current_snapshot(site.home, "product") == again
        # Not made a third time.
        assert stage_source(PRODUCT, staging_request(sources, site)) == (again, True)

    def test_another_number_of_shards_is_another_snapshot(self, sources: Path, site: Site) -> None:
        write(sources, row("a"))
        self.an_hour_later()
        three = stage(sources, site)
        four = stage(sources, site_at(site.home, 4))
        assert three.id != four.id
        assert three.data_hash == four.data_hash
        assert len(four.slices) == 4

    def test_a_snapshot_that_was_lost_is_made_again(self, sources: Path, site: Site) -> None:
        write(sources, row("a"))
        self.an_hour_later()
        first = stage(sources, site)
        shutil.rmtree(site.home.snapshot("product", first.folder))
        assert current_snapshot(site.home, "product") is None
        assert stage_source(PRODUCT, staging_request(sources, site)) == (first, False)

    def test_a_replaced_snapshot_is_gone_when_the_next_one_is_there(self, sources: Path, site: Site) -> None:
        """Fails: each export adds its size to the disk for ever, and what was deleted from it stays."""
        for usage in ("1", "2", "3"):
            write(sources, row("a", usage_pct=usage))
            latest = stage(sources, site)
            assert _folders(site) == {latest.folder}

    def test_a_snapshot_that_someone_reads_is_swept_by_the_staging_after(self, sources: Path, site: Site) -> None:
        """Fails: a shard loses the slice it is reading, or the snapshot stays for ever."""
        write(sources, row("a", usage_pct="1"))
        first = stage(sources, site)
        write(sources, row("a", usage_pct="2"))
        with held(site.home, [first]):
            second = stage(sources, site)
            assert _folders(site) == {first.folder, second.folder}
        # Also where there is nothing new to stage.
        self.an_hour_later()
        assert stage_source(PRODUCT, staging_request(sources, site)) == (second, True)
        assert _folders(site) == {second.folder}

    def test_without_locks_a_snapshot_is_gone_two_stagings_later(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Network file systems may have none. Fails: each day's export stays in `staged/` for ever."""

        def no_locks(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", no_locks)
        made = []
        for usage in ("1", "2", "3", "4"):
            write(sources, row("a", usage_pct=usage))
            made.append(stage(sources, site).folder)
            assert _folders(site) == set(made[-2:])
            self._a_day_later(site.home)

    def _a_day_later(self, home: Home) -> None:
        staged = home.staged / "product"
        long_ago_s = time.time() - 24 * 3600
        for path in [*staged.iterdir(), staged]:
            os.utime(path, (long_ago_s, long_ago_s))

    def test_of_refused_snapshots_the_last_one_stays_beside_the_current_one(self, sources: Path, site: Site) -> None:
        """They hold raw text. Fails: what was refused once stays for ever, or cannot be looked at."""
        write(sources, row("a"))
        good = stage(sources, site).folder
        refused = []
        for broken in (2, 3):
            write(sources, *[row("")] * broken)
            with pytest.raises(RejectRatioError):
                stage(sources, site, max_reject_ratio=0.5)
            refused.append((_folders(site) - {good}).pop())
            assert _folders(site) == {good, refused[-1]}
        assert refused[0] != refused[1]
        write(sources, row("b"))
        latest = stage(sources, site)
        assert _folders(site) == {latest.folder}

    def test_the_quarantine_that_an_error_points_to_outlives_a_merge(self, sources: Path, site: Site) -> None:
        """Fails: the message of a refused export names a file that a merge of the last exports has removed."""
        write(sources, row("a"))
        good = stage(sources, site).folder
        self.an_hour_later()
        write(sources, row(""), row(""))
        with pytest.raises(RejectRatioError) as refused:
            stage(sources, site, max_reject_ratio=0.5)
        path = Path(str(refused.value).rpartition(" in ")[2].removesuffix("."))
        sweep_unused(site)
        assert path.is_file()
        assert _folders(site) == {good, path.parent.name}
        # The exports of before are there again, and nothing is staged from them.
        write(sources, row("a"))
        assert stage(sources, site).folder == good
        assert _folders(site) == {good}
        assert not site.home.refused_pointer("product").exists()

    def test_the_same_bytes_give_the_same_snapshot_anywhere(self, sources: Path, site: Site, tmp_path: Path) -> None:
        write(sources, row("a"), row("b"), row(""))
        shutil.copytree(sources, tmp_path / "copy")
        assert stage(sources, site) == stage(tmp_path / "copy", site_at(Home(tmp_path / "other")))


def test_a_forced_staging_that_fails_leaves_the_current_snapshot_in_place(
    sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: shards that are being built lose their slices, and the source counts as never staged."""
    write(sources, row("a"))
    before = stage(sources, site)
    with monkeypatch.context() as patch:
        patch.setattr("etl_assets.engine.reading.quarantine.write", no_reading)
        with pytest.raises(pytest.fail.Exception):
            stage_source(PRODUCT, staging_request(sources, site), force=True)
    assert current_snapshot(site.home, "product") == before
    assert sorted(accepted(site, before)) == ["a"]
    again, reused = stage_source(PRODUCT, staging_request(sources, site), force=True)
    assert not reused
    assert replace(again, folder=before.folder) == before
    assert list((site.home.staged / "product").glob(".tmp-*")) == []


@pytest.fixture
def staged(sources: Path, site: Site) -> Site:
    """Every source, staged for three shards."""
    write_exports(sources, crm=[row("a")])
    stage_all(staging_request(sources, site))
    assert list(current_snapshots(site)) == [source.name for source in SOURCES]
    return site


def test_a_snapshot_of_another_engine_counts_as_not_staged(
    sources: Path, staged: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: shards are built from rows that an older reader let in, and their manifests say otherwise."""
    monkeypatch.setattr(engine_site, "RESULT_VERSION", engine_site.RESULT_VERSION + 1)
    newer = site_at(staged.home)
    with pytest.raises(ConfigError, match="crm, billing, product, support not staged for 3 shards by this project"):
        current_snapshots(newer)
    assert not is_current(PRODUCT, staging_request(sources, newer))


def _with_usage(**changes: Any) -> Project:
    """The tests' project with another declaration of product's usage_pct."""
    document = PROJECT.contract.model_dump(mode="json")
    (column,) = (c for source in document["sources"] for c in source["columns"] if c["name"] == "usage_pct")
    column.update(changes)
    return replace(PROJECT, contract=Contract.model_validate(document))


def test_a_snapshot_of_another_contract_counts_as_not_staged(sources: Path, staged: Site) -> None:
    """Fails: after a change of the contract, shards are built from rows that the old one let in."""
    stricter = site_at(staged.home, project=_with_usage(max=50))
    with pytest.raises(ConfigError, match="Source product not staged for 3 shards"):
        current_snapshots(stricter)
    assert not is_current(PRODUCT, staging_request(sources, stricter))


def test_a_snapshot_outlives_a_change_of_words(staged: Site) -> None:
    """Fails: to correct a column's description costs reading all exports again."""
    reworded = site_at(staged.home, project=_with_usage(meaning="Another description", pii=True))
    assert current_snapshots(reworded) == current_snapshots(staged)
