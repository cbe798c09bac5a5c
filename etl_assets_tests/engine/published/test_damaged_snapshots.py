"""Staged files that changed behind the pipeline's back: noticed, withdrawn, and read again from the exports."""

from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.shards import Manifest, inspect_shards, read_shard
from etl_assets.engine.published.snapshots import (
    current_snapshot,
    current_snapshots,
    load_snapshot,
)
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.published.withdrawing import require_undamaged
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, ConfigError, DamagedSnapshotError
from etl_assets_tests import factory
from etl_assets_tests.dagster_runs import CodeLocation, failure_text, settings_for

FILES = ["shard_00.parquet", "shard_01.parquet", "quarantine.parquet", "snapshot.json"]


@pytest.fixture
def location(sources: Path, home: Home) -> CodeLocation:
    customers = [factory.row(f"c{number}") for number in range(60)]
    factory.write_exports(sources, crm=[*customers, factory.row("")], billing=customers)
    return CodeLocation(settings_for(sources, home, 2), dg.DagsterInstance.ephemeral())


def _folder(site: Site) -> Path:
    snapshot = current_snapshot(site.home, "crm")
    assert snapshot is not None
    return site.home.snapshot("crm", snapshot.folder)


def _damage(path: Path) -> None:
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(4)
        stream.write(b"\xde\xad\xbe\xef" * ((size - 8) // 8))


def _run_twice(location: CodeLocation) -> None:
    """Run the pipeline; if it notices damage, run it again, which must succeed."""
    results = [location.stage(), location.build_all(), location.run("merged_profiles")]
    if not all(result.success for result in results):
        location.publish()


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_snapshot_is_made_again_by_running_again(location: CodeLocation, name: str) -> None:
    """Fails: one bad block under `staged/` and every run fails, for ever, until someone finds out about --force."""
    location.stage()
    _damage(_folder(location.site) / name)
    _run_twice(location)
    publication = read_publication(location.site.home)
    assert publication is not None
    assert publication.record_count == 60
    assert inspect_shards(location.site).obstacles == {}


def test_a_shard_names_the_damaged_source_and_what_reads_it_again(location: CodeLocation) -> None:
    location.stage()
    _damage(_folder(location.site) / "shard_01.parquet")
    text = failure_text(location.build_all())
    assert "The staged rows of crm are damaged" in text
    assert current_snapshot(location.site.home, "crm") is None


def test_shards_of_a_snapshot_that_was_made_again_are_the_same(location: CodeLocation) -> None:
    """Fails: repairing a snapshot costs every shard a rebuild."""
    location.publish()
    before = _manifests(location.site)
    _damage(_folder(location.site) / "quarantine.parquet")
    _run_twice(location)
    assert _manifests(location.site) == before


def _manifests(site: Site) -> dict[str, Manifest | None]:
    return {name: read_shard(site.home, name).manifest for name in site.shard_ids}


@pytest.fixture
def staged(sources: Path, home: Home) -> Site:
    """Every source staged for two shards."""
    site = factory.site_at(home, 2)
    customers = [factory.row(f"c{number}") for number in range(60)]
    factory.write_exports(sources, crm=[*customers, factory.row("")], billing=customers)
    factory.stage_all(factory.staging_request(sources, site))
    return site


def test_sound_snapshots_are_left_alone(staged: Site) -> None:
    snapshots = current_snapshots(staged)
    require_undamaged(staged, factory.LIMITS, snapshots)
    assert current_snapshots(staged) == snapshots


@pytest.mark.parametrize("name", ["shard_00.parquet", "shard_01.parquet", "quarantine.parquet"])
@pytest.mark.parametrize("how", ["overwritten", "truncated", "removed", "another sound file"])
def test_a_damaged_snapshot_is_withdrawn_and_the_others_stay(staged: Site, name: str, how: str) -> None:
    snapshots = current_snapshots(staged)
    path = _folder(staged) / name
    match how:
        case "overwritten":
            _damage(path)
        case "truncated":
            path.write_bytes(path.read_bytes()[:-10])
        case "removed":
            path.unlink()
        case "another sound file":
            product = staged.home.snapshot("product", snapshots["product"].folder)
            path.write_bytes((product / name).read_bytes())
    with pytest.raises(DamagedSnapshotError, match="The staged rows of crm are damaged: ") as caught:
        require_undamaged(staged, factory.LIMITS, snapshots)
    assert caught.value.advice == (Advice(Action.RUN),)
    assert caught.value.subject == "crm"
    assert load_snapshot(staged.home, "crm", snapshots["crm"].folder) is None
    with pytest.raises(ConfigError, match="Source crm not staged for 2 shards"):
        current_snapshots(staged)


def test_every_damaged_source_is_named(staged: Site) -> None:
    snapshots = current_snapshots(staged)
    for name in ("crm", "support"):
        (staged.home.snapshot(name, snapshots[name].folder) / "shard_01.parquet").write_bytes(b"")
    with pytest.raises(DamagedSnapshotError, match="The staged rows of crm, support are damaged"):
        require_undamaged(staged, factory.LIMITS, snapshots)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"source": "crm"}', "null"])
def test_an_accounting_that_cannot_be_read_is_no_snapshot(staged: Site, text: str) -> None:
    """Fails: a file of half its length ends every command in a traceback."""
    (_folder(staged) / "snapshot.json").write_text(text)
    assert current_snapshot(staged.home, "crm") is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"folder": 5}', '"crm"', '{"folder": "nowhere"}'])
def test_a_pointer_that_cannot_be_read_points_nowhere(staged: Site, text: str) -> None:
    staged.home.source_pointer("crm").write_text(text)
    assert current_snapshot(staged.home, "crm") is None


def test_a_snapshot_withdrawn_by_another_process_is_gone_at_the_next_look(staged: Site) -> None:
    """Fails: a code server remembers what it read, and shards are built from damaged rows for ever."""
    folder = _folder(staged)
    assert load_snapshot(staged.home, "crm", folder.name) is not None
    (folder / "snapshot.json").unlink()
    assert load_snapshot(staged.home, "crm", folder.name) is None
