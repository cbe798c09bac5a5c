"""Which snapshots stay: the current ones, and those that someone reads. Nothing else of a folder is touched."""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from etl_assets.engine.duck import Limits
from etl_assets.engine.files import locks, sweeping
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import holding
from etl_assets.engine.published.holding import current_held, held, inspected_held, sweep_replaced, sweep_unused
from etl_assets.engine.published.snapshots import Snapshot, current_folder, current_snapshot, current_snapshots
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.engine.steps import accounting
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards
from etl_assets.errors import ConfigError, SourceChangedError
from etl_assets.orchestration.retry import is_transient
from etl_assets.project.contract import Contract, Source
from etl_assets_tests import factory
from etl_assets_tests.factory import PROJECT

OLD = "0123456789abcdef"


@pytest.fixture
def staged(sources: Path, site: Site) -> Site:
    """Eight customers, staged for three shards."""
    factory.write_exports(sources, crm=[factory.row(name) for name in "abcdefgh"])
    factory.stage_all(factory.staging_request(sources, site))
    return site


def _names(site: Site) -> set[str]:
    return {path.name for path in (site.home.staged / "crm").iterdir()}


def _copy_of_current(site: Site, name: str) -> Path:
    """A snapshot of an earlier day."""
    folder = current_folder(site.home, "crm")
    assert folder is not None
    return Path(shutil.copytree(site.home.snapshot("crm", folder), site.home.snapshot("crm", name)))


@pytest.fixture(params=["a folder", "a link"])
def folder(staged: Site, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of a source's snapshots: one in the home, or a link to one on another disk."""
    folder = staged.home.staged / "crm"
    if request.param == "a link":
        folder.rename(tmp_path / "disk")
        folder.symlink_to(tmp_path / "disk", target_is_directory=True)
    return folder


STRANGE = ["photos", "0123456789ABCDEF", "0123456789abcdef0", f"{OLD}-1", f"{OLD}-abcdefg", "fedcba9876543210"]


def test_only_snapshots_are_swept_also_where_the_folder_is_a_link(staged: Site, folder: Path) -> None:
    """Staging on another disk is a link to a folder that others use. Fails: a run removes their files, recursively."""
    before = _names(staged)
    for name in STRANGE:
        (folder / name).mkdir()
        (folder / name / "precious.jpg").write_text("x")
    (folder / "a_link").symlink_to(_copy_of_current(staged, OLD), target_is_directory=True)
    withdrawn = _copy_of_current(staged, f"{OLD}-abcdef")
    (withdrawn / "snapshot.json").unlink()
    sweep_replaced(staged.home, "crm")
    assert _names(staged) == before | {*STRANGE, "a_link"}
    assert all((folder / name / "precious.jpg").read_text() == "x" for name in STRANGE)


def test_a_snapshot_whose_name_is_a_link_is_neither_used_nor_followed(staged: Site, tmp_path: Path) -> None:
    """Fails: rows of another pipeline are merged, or its snapshot is removed."""
    snapshot = current_snapshot(staged.home, "crm")
    assert snapshot is not None
    path = staged.home.snapshot("crm", snapshot.folder)
    path.rename(tmp_path / "victim")
    path.symlink_to(tmp_path / "victim", target_is_directory=True)
    assert current_snapshot(staged.home, "crm") is None
    sweep_replaced(staged.home, "crm")
    assert (tmp_path / "victim" / "snapshot.json").is_file()


def test_a_snapshot_is_not_swept_before_its_pointer_is_there(
    sources: Path, staged: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run sweeps at any moment. Fails: two runs at once, and the pointer of one names a folder that is gone."""
    sweeps: list[set[str]] = []
    check = accounting.check_reject_ratio

    def swept_by_another_run(home: Home, source: Source, snapshot: Snapshot, max_reject_ratio: float) -> None:
        sweep_replaced(staged.home, "crm")
        sweeps.append(_names(staged))
        check(home, source, snapshot, max_reject_ratio)

    monkeypatch.setattr(staging, "check_reject_ratio", swept_by_another_run)
    factory.write_exports(sources, crm=[factory.row("new")])
    new, _ = staging.stage(staged.contract.source("crm"), factory.staging_request(sources, staged))
    assert new.folder in sweeps[0]
    assert current_snapshot(staged.home, "crm") == new
    assert _names(staged) == {new.folder, "current.json"}
    # One that is there already, of which the pointer is to be set, is kept as well.
    staged.home.source_pointer("crm").unlink()
    again, reused = staging.stage(staged.contract.source("crm"), factory.staging_request(sources, staged))
    assert (again, reused) == (new, True)


@contextlib.contextmanager
def _swept_between(site: Site, monkeypatch: pytest.MonkeyPatch, times: int) -> Iterator[list[int]]:
    """Snapshots that are gone between the look and the lock, so many times."""
    looks: list[int] = []
    real = holding.hold

    def hold(home: Home, source: str, folder: str, holder: contextlib.ExitStack) -> None:
        if source == "crm":
            looks.append(len(looks))
            if len(looks) <= times:
                raise SourceChangedError("gone", subject=source)
        real(home, source, folder, holder)

    monkeypatch.setattr(holding, "hold", hold)
    yield looks


@pytest.mark.parametrize("hold", [current_held, inspected_held])
def test_snapshots_that_were_swept_meanwhile_are_looked_up_again(
    staged: Site, monkeypatch: pytest.MonkeyPatch, hold: Callable[[Site], contextlib.AbstractContextManager[object]]
) -> None:
    """Fails: two runs at once, and one of them ends in an error for nothing."""
    with _swept_between(staged, monkeypatch, 2) as looks, hold(staged):
        assert len(looks) == 3
        crm = current_snapshot(staged.home, "crm")
        assert crm is not None
        staged.home.source_pointer("crm").unlink()
        sweep_replaced(staged.home, "crm")
        assert _names(staged) == {crm.folder}
    sweep_replaced(staged.home, "crm")
    assert _names(staged) == set()


def test_a_shard_whose_snapshots_are_always_gone_is_tried_again(staged: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: it counts as a defect, and the shard is given up."""
    with _swept_between(staged, monkeypatch, 1000):
        news = list(build_shards(ShardsRequest(staged, Limits(256), "run", 1), staged.shard_ids))
    results = [entry for entry in news if isinstance(entry, ShardResult)]
    assert [result.attempt.status for result in results] == [Status.FAILED] * 3
    assert all(result.error is not None and is_transient(result.error) for result in results)


def test_shards_are_built_from_snapshots_that_no_one_sweeps(sources: Path, staged: Site) -> None:
    """Fails: sources that are staged again during a run leave its shards without slices, as a damaged snapshot."""
    factory.write_exports(sources, crm=[factory.row("new")])
    before = _names(staged)
    with contextlib.closing(build_shards(ShardsRequest(staged, Limits(256), "run", 1), ["shard_00"])) as news:
        next(news)
        factory.stage_all(factory.staging_request(sources, staged))
        assert before < _names(staged)
        results = [entry for entry in news if isinstance(entry, ShardResult)]
    assert [type(result.error) for result in results] in ([SourceChangedError], [type(None)])
    sweep_replaced(staged.home, "crm")
    assert len(_names(staged)) == 2


def test_a_removal_that_was_killed_leaves_no_snapshot(staged: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: half of a snapshot is taken for a whole one, or stays for ever."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    old = _copy_of_current(staged, OLD)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            sweep_replaced(staged.home, "crm")
    assert "snapshot.json" not in [path.name for path in old.iterdir()]
    for path in [*old.glob("[!s]*"), *old.glob("shard_0[01]*")]:
        path.unlink()
    assert [path.name for path in old.iterdir()] == ["shard_02.parquet"]
    sweep_replaced(staged.home, "crm")
    assert not old.exists()


def test_a_snapshot_without_its_accounting_cannot_be_held(staged: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its removal may have begun, where a lock could not be waited for. Fails: half of a snapshot is read."""
    monkeypatch.setattr(locks, "_REMOVAL_S", 0.05)
    snapshot = current_snapshots(staged)["crm"]
    path = staged.home.snapshot("crm", snapshot.folder)
    with locks.alone(path, path) as is_unused:
        assert is_unused
        with held(staged.home, [snapshot]):
            pass
        (path / "snapshot.json").unlink()
        with pytest.raises(SourceChangedError, match="'crm' was staged again"), held(staged.home, [snapshot]):
            pass


def _without(site: Site, source: str) -> Site:
    """The site of a project that does not declare this source any more."""
    declared = PROJECT.contract.model_dump(by_alias=True, exclude_defaults=True)
    sources = [one for one in declared["sources"] if one["name"] != source]
    contract = Contract.model_validate({**declared, "sources": sources})
    return replace(site, project=replace(PROJECT, contract=contract))


def test_the_snapshots_of_a_source_that_is_not_declared_any_more_go(staged: Site, folder: Path) -> None:
    """Fails: a customer who was erased from all exports stays in the staged rows of a source that was removed."""
    snapshot = current_snapshots(staged)["crm"]
    for name in STRANGE:
        (folder / name).mkdir()
        (folder / name / "precious.jpg").write_text("x")
    (folder / OLD).mkdir()
    (folder / OLD / "mine.parquet").write_text("x")
    others = ["photos", "Mine"]
    for name in others:
        (staged.home.staged / name / OLD).mkdir(parents=True)
        (staged.home.staged / name / OLD / "precious.jpg").write_text("x")
        (staged.home.staged / name / "current.json").write_text('{"precious": true}')
    kept = current_snapshots(staged)
    with held(staged.home, [snapshot]):
        sweep_unused(_without(staged, "crm"))
        assert _names(staged) == {snapshot.folder, OLD, *STRANGE}
    sweep_unused(_without(staged, "crm"))
    assert _names(staged) == {OLD, *STRANGE}
    assert all((folder / name / "precious.jpg").is_file() for name in STRANGE)
    assert (folder / OLD / "mine.parquet").is_file()
    for name in others:
        assert (staged.home.staged / name / OLD / "precious.jpg").is_file()
        assert (staged.home.staged / name / "current.json").is_file()
    assert all(current_snapshot(staged.home, name) == kept[name] for name in kept if name != "crm")


def test_a_folder_that_cannot_be_read_does_not_stop_a_sweep(
    staged: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`staged/` may be a disk of its own. Fails: its `lost+found` ends every run, as a failed publication."""
    real = os.scandir
    for name in ("lost+found", "old", "older"):
        (staged.home.staged / name).mkdir()
    (staged.home.staged / "older" / "current.json").write_text('{"folder": "0123456789abcdef"}')

    def scandir(path: Path) -> object:
        if Path(path).name in ("lost+found", "old"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    sweeping.sweep_home(staged.home)
    sweep_unused(staged)
    # A source may have been called "old": its records would stay.
    assert len(caplog.messages) == 2
    assert all("staged/old cannot be removed (Permission denied)" in message for message in caplog.messages)


def test_a_link_with_an_old_name_leads_to_a_source_that_stays(staged: Site) -> None:
    """Fails: a run removes the rows that it is built from, because they have a second name."""
    (staged.home.staged / "customers").symlink_to("crm", target_is_directory=True)
    before = current_snapshots(staged)
    sweep_unused(staged)
    assert current_snapshots(staged) == before


def test_shards_beyond_the_number_of_shards_go(staged: Site) -> None:
    """Fails: after ETL_NUM_SHARDS was lowered, a shard that nothing reads keeps its rows for ever."""
    shards = staged.home.shards
    shards.mkdir()
    gone = ["shard_03.duckdb", "shard_03.duckdb.wal", "shard_03.json", "shard_99.json", "shard_003.duckdb"]
    kept = [f"shard_0{number}.{suffix}" for number in range(3) for suffix in ("duckdb", "json")]
    kept += [
        "shard_3.json",
        "shard_0003.json",
        "shard_03.parquet",
        "shard_03.json.bak",
        "Shard_03.json",
        "a_shard_03.json",
    ]
    for name in [*gone, *kept]:
        (shards / name).write_text("x")
    (shards / "shard_04.duckdb").mkdir()
    (shards / "shard_05.duckdb").symlink_to("shard_00.duckdb")
    sweep_unused(staged)
    assert {path.name for path in shards.iterdir()} == {*kept, "shard_04.duckdb", "shard_05.duckdb"}


def test_a_snapshot_that_is_gone_cannot_be_held(staged: Site) -> None:
    snapshots = current_snapshots(staged)
    shutil.rmtree(staged.home.snapshot("crm", snapshots["crm"].folder))
    with pytest.raises(SourceChangedError, match="'crm' was staged again"), held(staged.home, snapshots.values()):
        pass
    with pytest.raises(ConfigError, match="crm not staged"), current_held(staged):
        pass
