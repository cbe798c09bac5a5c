"""Folders of ETL_HOME that are links to another disk: used like any other, and what others keep there stays."""

import shutil
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts
from etl_assets.engine.published.shards import inspect_shards, read_shard, verify_shards
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards
from etl_assets.engine.steps.merge import merge_shards
from etl_assets_tests import factory

FOLDERS = ["staged", "staged/crm", "shards", "attempts", "attempts/shard_00", "scratch"]


def _run(sources: Path, site: Site, run_id: str) -> str:
    """The whole engine as a run uses it; returns the digest."""
    factory.stage_all(factory.staging_request(sources, site))
    news = list(build_shards(ShardsRequest(site, factory.LIMITS, run_id, 1), site.shard_ids))
    assert [entry.error for entry in news if isinstance(entry, ShardResult)] == [None] * len(site.shard_ids)
    return merge_shards(site, factory.LIMITS, run_id=run_id).publication.digest


@pytest.mark.parametrize("name", FOLDERS)
def test_the_pipeline_goes_on_through_a_linked_folder(sources: Path, site: Site, tmp_path: Path, name: str) -> None:
    """Fails: a full disk cannot be relieved by moving a folder, or doing so costs what others keep on the new one."""
    crm = [factory.row(f"c{number}") for number in range(30)]
    factory.write_exports(sources, crm=crm, billing=crm)
    _run(sources, site, "first")
    folder = site.home.root / name
    disk = tmp_path / "disk"
    shutil.move(folder, disk)
    folder.symlink_to(disk, target_is_directory=True)
    for stranger in ("photos", ".tmp-photos", "0123456789abcdef"):
        (disk / stranger).mkdir()
        (disk / stranger / "file").write_text("precious")
    (disk / "2026-holiday-1.json").write_text("[]")
    factory.write_exports(sources, crm=crm[1:], billing=crm[2:])
    digest = _run(sources, site, "second")
    assert folder.is_symlink()
    assert all((disk / one / "file").is_file() for one in ("photos", ".tmp-photos", "0123456789abcdef"))
    assert (disk / "2026-holiday-1.json").is_file()
    assert inspect_shards(site).obstacles == {}
    assert digest == _run(sources, factory.site_at(Home(tmp_path / "fresh")), "fresh")
    assert [len(list((site.home.staged / source).glob("*/snapshot.json"))) for source in ("crm", "billing")] == [1, 1]


def test_only_records_of_attempts_are_swept(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: JSON files of another program, in a folder that a link leads to, are removed but for a hundred."""
    monkeypatch.setattr(attempts, "MAX_KEPT", 2)
    disk = tmp_path / "disk"
    disk.mkdir()
    others = [f"{number}.json" for number in range(5)] + ["2026-11-26.json", "000000001-x-y.json", "1-run-1.json"]
    for name in others:
        (disk / name).write_text("{}")
    site.home.attempts.mkdir(parents=True)
    site.home.attempts_at("shard_00").symlink_to(disk, target_is_directory=True)
    for number in range(1, 5):
        begun = attempts.start(site.home, "shard_00", "run", number)
        attempts.finish(site.home, begun, Status.SUCCEEDED)
    assert {path.name for path in disk.iterdir()} == {*others, "000000003-run-3.json", "000000004-run-4.json"}


def test_a_linked_shard_file_is_damaged_and_its_target_is_left_alone(sources: Path, site: Site, tmp_path: Path) -> None:
    """Fails: a link that someone put there makes the pipeline publish a file that only its user may read."""
    factory.write_exports(sources, crm=[factory.row(name) for name in "abcdef"])
    digest = _run(sources, site, "first")
    path, outside = site.home.shard_file("shard_01"), tmp_path / "outside.duckdb"
    path.rename(outside)
    path.symlink_to(outside)
    before = outside.read_bytes()
    assert str(inspect_shards(site).obstacles["shard_01"]).startswith("damaged (its file is a link")
    assert _run(sources, site, "second") == digest
    assert not path.is_symlink()
    assert outside.read_bytes() == before


def test_a_link_that_comes_after_the_look_leads_nowhere(sources: Path, site: Site, tmp_path: Path) -> None:
    """DuckDB opens the name once more, confined to the folder. Fails: it reads what a link out of ETL_HOME leads to."""
    factory.write_exports(sources, crm=[factory.row(name) for name in "abcdef"])
    _run(sources, site, "first")
    manifest = read_shard(site.home, "shard_01").manifest
    assert manifest is not None
    for path in (site.home.shard_file("shard_01"), site.home.warehouse):
        path.rename(tmp_path / path.name)
        path.symlink_to(tmp_path / path.name)
    obstacle = factory.verify_shard(site.home, manifest)
    assert obstacle is not None
    assert "Permission Error" in obstacle.detail
    assert verify_shards(site.home, [manifest]) == {"shard_01": obstacle}
    with pytest.raises(duckdb.PermissionException), duck.opened(site.home.warehouse):
        pass
    assert read_publication(site.home) is None
