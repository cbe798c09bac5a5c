"""What a lake keeps and what it removes."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from etl_assets.engine.lake.store import Store
from etl_assets.engine.published import attempts
from etl_assets.engine.published.inspecting import fetch_state
from etl_assets.engine.published.lake_names import (
    ATTEMPTS,
    MANIFESTS,
    PROFILES_FOLDER,
    PUBLICATIONS,
    STAGED,
    profiles_key,
)
from etl_assets.engine.published.lake_versions import lake_table
from etl_assets.engine.published.mirroring import attempt_names
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.engine.steps import vacuuming
from etl_assets.engine.steps.committing import commit_shards
from etl_assets.engine.steps.vacuuming import vacuum
from etl_assets_tests.factory import LIMITS, row, write_exports
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.lake_runs import build_lake, run_lake, stage_lake, statuses


def publish(site: Site, sources: Path, names: list[str]) -> None:
    """Publish a version in which every customer has another name."""
    write_exports(sources, crm=[row(f"C{number}", company_name=name) for number, name in enumerate(names)])
    run_lake(sources, site, run_id="-".join(names)[:20])


@pytest.fixture
def site(url: str, sources: Path, tmp_path: Path) -> Site:
    """A lake with four versions."""
    site = site_in(url, tmp_path / "machine")
    for number in range(4):
        publish(site, sources, [f"name {number}"] * 12)
    return site


def store_of(site: Site) -> Store:
    assert site.lake is not None
    return site.lake


def test_old_versions_go_and_the_kept_ones_stay_whole(site: Site) -> None:
    """Fails: what was deleted from the exports stays for ever, or a version that is kept cannot be read."""
    store = store_of(site)
    removed = vacuum(site, 1, grace_s=-60)
    assert removed
    files = {key for key in store.list(PROFILES_FOLDER) if key.endswith(".parquet")}
    versions = [lake_table(site).at(number) for number in (2, 3)]
    assert files == {profiles_key(name) for version in versions for name in version.files}
    assert len(store.list(MANIFESTS)) == 6
    assert set(store.list(PUBLICATIONS)) == {version.document for version in versions}
    markers = [key for key in store.list(STAGED) if key.endswith("snapshot.json")]
    # That of the other sources, which have no rows, is the same in all versions.
    assert len([key for key in markers if "/crm/" in key]) == 2
    assert DeltaTable(f"{site.lake_url}/profiles", version=2).to_pyarrow_table().num_rows == 12
    assert vacuum(site, 1, grace_s=-60) == [], "it is not done at once"


def test_of_the_attempts_at_a_shard_the_newest_are_kept(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a lake gets slower with every day, for each machine reads every attempt that there ever was."""
    names = attempt_names(store_of(site).list(ATTEMPTS), site.shard_ids)
    assert {len(of_shard) for of_shard in names.values()} == {4}
    monkeypatch.setattr(attempts, "MAX_KEPT", 3)
    other = site_in(str(site.lake_url), tmp_path / "other")
    fetch_state(other)
    assert len(attempts.read_attempts(other.home, site.shard_ids)) == 3 * site.shard_count
    monkeypatch.setattr(attempts, "MAX_KEPT", 2)
    assert not [key for key in vacuum(site, 3) if key.startswith(ATTEMPTS)], "they are young"
    vacuum(site, 3, grace_s=-60)
    kept = attempt_names(store_of(site).list(ATTEMPTS), site.shard_ids)
    assert kept == {shard_id: sorted(of_shard)[-2:] for shard_id, of_shard in names.items()}


def test_nothing_that_is_young_is_removed(site: Site) -> None:
    """Fails: a run of another machine loses what it has just put."""
    before = store_of(site).list("")
    # Each merge of the fixture has looked, too.
    assert len([key for key in before if key.startswith(MANIFESTS)]) == 12
    assert vacuum(site, 0) == []
    assert store_of(site).list("").keys() == before.keys()


def test_after_it_everything_works_as_before(site: Site, sources: Path) -> None:
    """Fails: it removes what the next run needs, or an older state cannot be built again."""
    vacuum(site, 0, grace_s=-60)
    stage_lake(sources, site)
    assert set(statuses(build_lake(site)).values()) == {Status.REUSED}
    write_exports(sources, crm=[row(f"C{number}", company_name="name 0") for number in range(12)])
    stage_lake(sources, site)
    assert set(statuses(build_lake(site)).values()) == {Status.SUCCEEDED}
    assert commit_shards(site, LIMITS, run_id="back").publication.record_count == 12


def test_shards_that_wait_for_their_merge_stay(site: Site, sources: Path) -> None:
    """Fails: shards that were built over night are gone before the merge that takes them."""
    write_exports(sources, crm=[row(f"C{number}", company_name="new") for number in range(12)])
    stage_lake(sources, site)
    build_lake(site)
    vacuum(site, 0, grace_s=-60)
    assert set(statuses(build_lake(site)).values()) == {Status.REUSED}


def test_what_a_killed_run_left_while_it_wrote_is_removed(site: Site) -> None:
    """Fails: objects that no one will ever name pile up in the store."""
    store = store_of(site)
    store.put("probe/0123", b"")
    # What obstore and deltalake leave of a put into a folder.
    unfinished = ("publications/some.json#1", "profiles/_delta_log/_commit_0123.json.tmp")
    for name in unfinished if store.folder else ():
        assert store.folder
        (store.folder / name).write_bytes(b"half")
    vacuum(site, 3)
    assert "probe/0123" in store.list(""), "it is young"
    vacuum(site, 3, grace_s=-60)
    assert "probe/0123" not in store.list("")
    for name in unfinished if store.folder else ():
        assert store.folder
        assert not (store.folder / name).exists()


def test_a_run_that_publishes_meanwhile_keeps_everything(
    site: Site, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: files are removed that a version names which was committed while it was decided what to remove."""
    real = vacuuming.inspect_all  # type: ignore[attr-defined]

    def while_another_publishes(given: Site) -> object:
        monkeypatch.setattr(vacuuming, "inspect_all", real)
        publish(site_in(str(site.lake_url), tmp_path / "other"), sources, ["name 0"] * 12)
        return real(given)

    monkeypatch.setattr(vacuuming, "inspect_all", while_another_publishes)
    assert vacuum(site, 0, grace_s=-60) == []
    now = lake_table(site).current()
    assert now is not None
    assert {profiles_key(name) for name in now.files} <= store_of(site).list(PROFILES_FOLDER).keys()
