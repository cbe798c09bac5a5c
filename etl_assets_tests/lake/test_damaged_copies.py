"""Staged rows whose copy on a machine, or whose object in the lake, does not hold what was written."""

from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.lake.store import Store
from etl_assets.engine.published.lake_names import STAGED
from etl_assets.engine.published.mirroring import fetch_sources, fetch_whole
from etl_assets.engine.published.snapshots import REJECTED_KEYS_FILE, current_snapshots
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.errors import ConfigError, DamagedSnapshotError, GoneError, ProfileError, StoreError
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets_tests.lake.lake_runs import build_lake, run_lake, stage_lake, statuses

SLICE = "shard_01.parquet"
PROJECT = Project(
    Contract.model_validate(
        {
            "name": "visitors",
            "entity": "clients",
            "key": {"name": "client", "max_chars": 5},
            "sources": {"web": {"columns": {"visits": {"type": "int", "required": True}}}},
        }
    ),
    "SELECT base.client, web.visits, base.sources, base.issues, base.shard_id, base.idempotency_key FROM clients",
)


def site_at(folder: Path, tmp_path: Path) -> Site:
    """A machine with this ETL_HOME; all of them have the same lake, in a folder."""
    url = (tmp_path / "lake").as_uri()
    return Site(PROJECT, Home(folder).of_lake(url), 3, lake_url=url)


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    """Thirty clients, each with a newer row that was rejected."""
    folder = tmp_path / "exports"
    folder.mkdir()
    rows = [f"c{number},{number}" for number in range(30)] + [f"c{number},many" for number in range(30)]
    (folder / "web.csv").write_text("\n".join(["client,visits", *rows, ""]))
    return folder


@pytest.fixture
def staged(exports: Path, tmp_path: Path) -> Site:
    """Everything staged."""
    site = site_at(tmp_path / "machine", tmp_path)
    stage_lake(exports, site)
    return site


@pytest.fixture
def other(staged: Site, tmp_path: Path) -> Site:
    """A machine that has nothing."""
    return site_at(tmp_path / "other", tmp_path)


def store_of(site: Site) -> Store:
    assert site.lake is not None
    return site.lake


def objects(site: Site, name: str) -> list[str]:
    """The keys of the objects of this name among the staged rows."""
    return [key for key in store_of(site).list(STAGED) if key.endswith(name)]


def copies(site: Site, name: str) -> list[Path]:
    """The copies of this name."""
    return list(site.home.staged.glob(f"web/*/{name}"))


@pytest.mark.parametrize("name", [SLICE, REJECTED_KEYS_FILE])
def test_a_damaged_copy_is_fetched_again(other: Site, name: str) -> None:
    """Fails: a worker with a bad disk sector builds no shard any more, or withdraws what is sound in the lake."""
    fetch_sources(other)
    fetch_whole(other, current_snapshots(other).values())
    for path in copies(other, name):
        assert current_snapshots(other)["web"].slice_of("shard_01").rejected_count
        path.write_bytes(path.read_bytes()[:-9])
    before = store_of(other).list(STAGED)
    result = build_lake(other, ["shard_01"])["shard_01"]
    assert isinstance(result.error, StoreError)
    assert "fetched again" in str(result.error)
    assert statuses(build_lake(other)) == dict.fromkeys(other.shard_ids, Status.SUCCEEDED)
    assert store_of(other).list(STAGED) == before


def test_an_error_of_the_project_is_not_called_damage(
    staged: Site, other: Site, exports: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a machine that has fetched only what it needs takes the rest for lost, and can build nothing any more."""
    # Without rejected rows, whose keys are not fetched then.
    (exports / "web.csv").write_text("client,visits\n" + "".join(f"c{number},1\n" for number in range(30)))
    stage_lake(exports, staged)

    def refused(*_: object) -> None:
        raise ProfileError("A profile breaks a promise.")

    with monkeypatch.context() as patch:
        patch.setattr("etl_assets.engine.steps.lake_build.validate", refused)
        error = build_lake(other, ["shard_01"])["shard_01"].error
    assert isinstance(error, ProfileError), error
    assert statuses(build_lake(other, ["shard_01"])) == {"shard_01": Status.SUCCEEDED}


def test_nothing_is_written_through_a_link_in_the_place_of_a_snapshot(
    staged: Site, other: Site, tmp_path: Path
) -> None:
    """Fails: whoever can write to ETL_HOME chooses the folder that a run writes to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    link = other.home.snapshot("web", current_snapshots(staged)["web"].folder)
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    fetch_sources(other)
    assert list(elsewhere.iterdir()) == []
    assert isinstance(build_lake(other, ["shard_01"])["shard_01"].error, ConfigError)


@pytest.mark.parametrize("has_copy", [True, False])
def test_what_is_damaged_in_the_lake_is_withdrawn_and_sent_again(
    staged: Site, other: Site, exports: Path, tmp_path: Path, has_copy: bool
) -> None:
    """Fails: no machine can build the shard any more, and staging the same exports says that nothing has changed."""
    for key in objects(staged, SLICE):
        store_of(staged).put(key, b"no Parquet")
    assert isinstance(build_lake(other, ["shard_01"])["shard_01"].error, DamagedSnapshotError)
    error = build_lake(other, ["shard_01"])["shard_01"].error
    assert isinstance(error, ConfigError)
    assert "Source web not staged" in str(error)
    stage_lake(exports, staged if has_copy else site_at(tmp_path / "third", tmp_path))
    # A copy that is damaged, of a snapshot that was sent again under its name, is found and fetched again.
    results = [build_lake(other, ["shard_01"])["shard_01"] for _ in range(2)]
    assert results[-1].error is None, results[-1].error


def test_what_is_gone_from_the_lake_is_sent_again(staged: Site, other: Site, exports: Path) -> None:
    """Fails: staging the same exports says that nothing has changed, and workers go on saying that it is gone."""
    store_of(staged).delete(objects(staged, SLICE))
    assert isinstance(build_lake(other, ["shard_01"])["shard_01"].error, GoneError)
    assert isinstance(build_lake(other, ["shard_01"])["shard_01"].error, ConfigError)
    stage_lake(exports, staged)
    assert statuses(build_lake(other)) == dict.fromkeys(other.shard_ids, Status.SUCCEEDED)
    run_lake(exports, staged)
