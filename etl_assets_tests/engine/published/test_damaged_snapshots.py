"""Staged files that changed behind the pipeline's back: noticed, withdrawn, and read again from the exports."""

import shutil
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published import warehouse
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import DamagedSnapshotError
from etl_assets.project.contract import source_named
from etl_assets_tests import factory
from etl_assets_tests.dagster_runs import CodeLocation, failure_text, settings_for


@pytest.fixture
def project(sources: Path, home: Home) -> CodeLocation:
    customers = [factory.row(f"c{number}") for number in range(60)]
    factory.write_exports(sources, crm=[*customers, factory.row("")], billing=customers)
    return CodeLocation(settings_for(sources, home, 2), dg.DagsterInstance.ephemeral())


def _folder(home: Home) -> Path:
    snapshot = staging.current_snapshot(source_named("crm"), home)
    assert snapshot is not None
    return home.snapshot("crm", snapshot.snapshot)


def _damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(4)
        stream.write(b"\xde\xad\xbe\xef" * ((size - 8) // 8))


@pytest.mark.parametrize("name", ["shard_00.parquet", "shard_01.parquet", "quarantine.parquet", "snapshot.json"])
def test_a_damaged_snapshot_is_made_anew_by_running_again(project: CodeLocation, home: Home, name: str) -> None:
    """Fails: one bad block under `staged/` and every run fails, for ever, until somebody finds out about --force."""
    project.stage()
    _damage(_folder(home) / name)
    results = [project.stage(), project.build_all(), project.run("merged_profiles")]
    if not all(result.success for result in results):
        project.publish()
    publication = warehouse.read_publication(home)
    assert publication is not None
    assert publication["record_count"] == 60
    assert shardset.inspect_shards(home, 2).problems == {}


def test_a_shard_says_which_source_is_damaged_and_what_reads_it_again(project: CodeLocation, home: Home) -> None:
    project.stage()
    _damage(_folder(home) / "shard_01.parquet")
    text = failure_text(project.build_all())
    assert "The staged rows of crm are damaged" in text or "Source crm not staged" in text
    assert "etl-assets run" in text
    # The damaged one may have been noticed by its footer when it was staged, and made anew there.
    assert staging.current_snapshot(source_named("crm"), home) is None


def test_sound_snapshots_are_left_alone(project: CodeLocation, home: Home) -> None:
    project.stage()
    snapshots = staging.current_snapshots(home, 2)
    staging.require_undamaged(home, snapshots.values())
    assert staging.current_snapshots(home, 2) == snapshots
    _damage(_folder(home) / "quarantine.parquet")
    with pytest.raises(DamagedSnapshotError, match=r"rows of crm are damaged.*etl-assets run"):
        staging.require_undamaged(home, snapshots.values())


def test_a_withdrawn_snapshot_is_gone_for_who_looked_while_it_was_published(
    project: CodeLocation, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: what lay there a moment after nothing did is remembered, and a code server takes it for ever."""
    project.stage()
    # As another process sees it, which never looked before.
    folder = shutil.copytree(_folder(home), tmp_path / "elsewhere")
    with monkeypatch.context() as a_moment_before:
        a_moment_before.setattr(staging, "stamp", lambda _: storage.MISSING)
        staging.load_snapshot(folder)
    assert staging.load_snapshot(folder) is not None
    (folder / "snapshot.json").unlink()
    assert staging.load_snapshot(folder) is None


def test_shards_of_a_snapshot_made_anew_are_the_same(project: CodeLocation, home: Home) -> None:
    """Fails: healing a snapshot costs every shard a rebuild."""
    project.publish()
    before = {name: shard.read_shard(home, name).manifest for name in shard_keys(2)}
    _damage(_folder(home) / "quarantine.parquet")
    results = [project.stage(), project.build_all(), project.run("merged_profiles")]
    if not all(result.success for result in results):
        project.publish()
    assert {name: shard.read_shard(home, name).manifest for name in shard_keys(2)} == before
