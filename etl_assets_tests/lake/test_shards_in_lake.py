"""Shards in a lake: who may write what, what is reused, and what is built again."""

import json
from pathlib import Path

import pytest

from etl_assets.engine import faults
from etl_assets.engine.lake.store import Store, at_once
from etl_assets.engine.published.inspecting import fetch_state, inspect
from etl_assets.engine.published.lake_names import MANIFESTS, PROFILES_FOLDER, STAGED, profiles_key
from etl_assets.engine.published.lake_shards import LakeManifest, publish_in_lake, read_lake_manifest
from etl_assets.engine.published.shards import ShardInput, Unfit
from etl_assets.engine.published.snapshots import current_snapshot
from etl_assets.engine.published.status import Status
from etl_assets.engine.routing import shard_number
from etl_assets.engine.site import Site
from etl_assets.engine.steps import lake_build, sending
from etl_assets.engine.steps.committing import commit_shards
from etl_assets.engine.steps.stage import stage
from etl_assets.errors import AccountingError, ConfigError, ProfileError, ShardSetError, SourceChangedError, StoreError
from etl_assets_tests.factory import LIMITS, row, staging_request, write_exports
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.fault_proxy import Effect, FaultProxy
from etl_assets_tests.lake.lake_runs import build_lake, run_lake, stage_lake, statuses


@pytest.fixture
def exports(sources: Path) -> Path:
    """Exports of thirty customers in one source."""
    return write_exports(sources, crm=[row(f"C{number}") for number in range(30)])


def store_of(site: Site) -> Store:
    """The lake's store."""
    assert site.lake is not None
    return site.lake


def manifest_of(site: Site, shard_id: str) -> LakeManifest:
    """The manifest of a shard that is fit to merge."""
    fetch_state(site)
    found = {one.shard_id: one for one in inspect(site).manifests}[shard_id]
    assert isinstance(found, LakeManifest)
    return found


def test_a_shard_whose_file_is_gone_is_refused_by_name_and_built_again(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: the worker says "reused", the merge says "gone", for ever."""
    site = site_in(url, tmp_path / "machine")
    run_lake(exports, site)
    lost = manifest_of(site, "shard_01")
    store_of(site).delete([profiles_key(lost.file)])
    with pytest.raises(ShardSetError, match="shard_01: damaged \\(its file is gone from the lake\\)"):
        commit_shards(site, LIMITS, run_id="again")
    assert statuses(build_lake(site, run_id="repair")) == {
        "shard_00": Status.REUSED,
        "shard_01": Status.SUCCEEDED,
        "shard_02": Status.REUSED,
    }
    again = manifest_of(site, "shard_01")
    assert (again.content_hash, again.run_id) == (lost.content_hash, "repair")
    assert again.file != lost.file
    commit_shards(site, LIMITS, run_id="again")


def test_a_file_that_was_replaced_is_not_merged(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: rows that no manifest has proved are published."""
    site = site_in(url, tmp_path / "machine")
    stage_lake(exports, site)
    build_lake(site)
    bad = manifest_of(site, "shard_00")
    store_of(site).put(profiles_key(bad.file), b"x" * bad.size_bytes)
    with pytest.raises(ShardSetError, match="shard_00: damaged \\(its file was replaced\\)"):
        commit_shards(site, LIMITS, run_id="run")
    assert statuses(build_lake(site, ["shard_00"])) == {"shard_00": Status.SUCCEEDED}
    commit_shards(site, LIMITS, run_id="run")


def test_a_manifest_is_read_once_while_it_stays_the_same(
    s3_url: str, proxy: FaultProxy, exports: Path, tmp_path: Path
) -> None:
    """Fails: a run reads each of a thousand manifests six times; or one that was replaced is not seen."""
    site = site_in(s3_url, tmp_path / "machine")
    stage_lake(exports, site)
    build_lake(site)
    proxy.reset()
    first = inspect(site).states
    assert inspect(site).states == first
    read = [path for method, path in proxy.requests() if method == "GET" and "/manifests/shard_" in path]
    assert len(read) == len(set(read)) == site.shard_count
    (key,) = [key for key in store_of(site).list(MANIFESTS) if "/shard_00/" in key]
    Store(s3_url).put(key, b"{}")
    assert inspect(site).obstacles["shard_00"].kind is Unfit.DAMAGED


def test_a_late_worker_does_not_overwrite_a_newer_shard(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: a worker that hung over night puts yesterday's shard over today's."""
    late, site = site_in(url, tmp_path / "late"), site_in(url, tmp_path / "machine")
    stage_lake(exports, late)
    write_exports(exports, crm=[row(f"C{number}", company_name="Newer") for number in range(30)])
    real = publish_in_lake

    def publish_after_the_others(*args: object, **options: object) -> LakeManifest:
        """The late worker has built from the old rows; now all others work with the new ones."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lake_build, "publish_in_lake", real)
            run_lake(exports, site, run_id="newer")
        return real(*args, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake_build, "publish_in_lake", publish_after_the_others)
        build_lake(late, ["shard_00"], run_id="late")
    assert manifest_of(site, "shard_00").run_id == "newer"
    assert len([key for key in store_of(site).list(MANIFESTS) if "/shard_00/" in key]) == 2


def test_two_workers_with_the_same_inputs_publish_one_file(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: a duplicated run leaves a manifest and a file that do not belong together."""
    site, other = site_in(url, tmp_path / "machine"), site_in(url, tmp_path / "other")
    stage_lake(exports, site)
    real = publish_in_lake

    def publish_second(*args: object, **options: object) -> LakeManifest:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lake_build, "publish_in_lake", real)
            build_lake(other, ["shard_00"], run_id="first")
        return real(*args, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake_build, "publish_in_lake", publish_second)
        result = build_lake(site, ["shard_00"], run_id="second")["shard_00"]
    assert result.manifest == manifest_of(site, "shard_00")
    assert manifest_of(site, "shard_00").run_id == "first"
    assert len(store_of(site).list(PROFILES_FOLDER)) == 1, "the second file is left behind"


def test_a_file_that_changes_after_its_proof_is_not_published(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: a disk that damages a file between its proof and its put publishes profiles that no one has checked."""
    site = site_in(url, tmp_path / "machine")
    stage_lake(exports, site)

    def publish_damaged(given: Site, inputs: ShardInput, path: Path, *others: object) -> LakeManifest:
        content = path.read_bytes()
        half = len(content) // 2
        path.write_bytes(content[:half] + bytes([content[half] ^ 0xFF]) + content[half + 1 :])
        return publish_in_lake(given, inputs, path, *others)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lake_build, "publish_in_lake", publish_damaged)
        result = build_lake(site, ["shard_00"])["shard_00"]
    assert isinstance(result.error, StoreError)
    assert "has changed since it was proved" in str(result.error)
    assert [*store_of(site).list(PROFILES_FOLDER), *store_of(site).list(MANIFESTS)] == []
    assert statuses(build_lake(site, ["shard_00"])) == {"shard_00": Status.SUCCEEDED}


@pytest.mark.parametrize("point", ["sending.attempt", "vacuum.chosen", "vacuum.markers", "vacuum.removed"])
def test_what_fails_after_the_publication_is_a_warning(
    exports: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, point: str
) -> None:
    """Fails: a shard or a version that is published counts as failed, and is made again."""
    site = site_in((tmp_path / "lake").as_uri(), tmp_path / "machine")
    faults.arm(f"{point} raise", "", is_production=False, shard_count=site.shard_count)
    try:
        merged = run_lake(exports, site)
    finally:
        faults.arm("", "", is_production=False, shard_count=site.shard_count)
    assert merged.publication.record_count == 30
    assert f"injected fault at {point}" in caplog.text


def test_requests_that_are_under_way_at_once_know_the_work_that_made_them() -> None:
    """Fails: a fault that is aimed at a shard strikes none of its requests, and a stop does not end them."""
    with faults.scope(shard_id="shard_01", attempt=2):
        scopes = at_once(lambda _: faults._scope.get(), range(4))
    assert {(scope.shard_id, scope.attempt) for scope in scopes} == {("shard_01", 2)}


def test_force_builds_again_and_replaces(url: str, exports: Path, tmp_path: Path) -> None:
    site = site_in(url, tmp_path / "machine")
    stage_lake(exports, site)
    build_lake(site, run_id="first")
    assert set(statuses(build_lake(site, run_id="second", force=True)).values()) == {Status.SUCCEEDED}
    assert manifest_of(site, "shard_02").run_id == "second"


@pytest.mark.parametrize("effect", [Effect.LOST_500, Effect.LOST_CUT, Effect.CONFLICT, Effect.UNAVAILABLE])
def test_a_manifest_whose_answer_was_lost_is_the_workers_own(
    s3_url: str, exports: Path, proxy: FaultProxy, tmp_path: Path, effect: Effect
) -> None:
    """Fails: the worker takes its own manifest for another's and removes its file."""
    site = site_in(s3_url, tmp_path / "machine")
    stage_lake(exports, site)
    proxy.add(effect, path="/manifests/")
    assert statuses(build_lake(site, ["shard_00"], run_id="mine")) == {"shard_00": Status.SUCCEEDED}
    assert proxy.hits() != [0]
    mine = manifest_of(site, "shard_00")
    assert mine.run_id == "mine"
    assert profiles_key(mine.file) in store_of(site).list(PROFILES_FOLDER)


def test_a_store_that_fails_for_good_ends_the_attempt_and_leaves_what_was_published(
    s3_url: str, exports: Path, proxy: FaultProxy, tmp_path: Path
) -> None:
    site = site_in(s3_url, tmp_path / "machine")
    merged = run_lake(exports, site)
    proxy.add(Effect.FORBIDDEN, path="/profiles/", count=None)
    failed = build_lake(site, ["shard_00"], run_id="second", force=True)["shard_00"]
    assert isinstance(failed.error, ConfigError)
    assert "the store refuses access" in str(failed.error)
    proxy.reset()
    assert commit_shards(site, LIMITS, run_id="third").publication.digest == merged.publication.digest


def test_a_shard_with_a_row_of_another_shard_is_not_published(
    url: str, exports: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a key in two shards is published twice, for the merge looks at no row."""
    site = site_in(url, tmp_path / "machine")
    stage_lake(exports, site)
    real = shard_number
    monkeypatch.setattr(lake_build, "shard_number", lambda shard_id: (real(shard_id) + 1) % 3)
    results = build_lake(site)
    assert all(isinstance(one.error, ProfileError | AccountingError) for one in results.values())
    assert store_of(site).list(MANIFESTS) == {}


def test_slices_that_are_gone_end_in_words(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: a lake that someone has tidied ends in an error of DuckDB about a file of the scratch."""
    stage_lake(exports, site_in(url, tmp_path / "machine"))
    other = site_in(url, tmp_path / "other")
    store_of(other).delete([key for key in store_of(other).list(STAGED) if key.endswith("shard_01.parquet")])
    result = build_lake(other, ["shard_01"])["shard_01"]
    assert isinstance(result.error, StoreError)
    assert "is gone from the store" in str(result.error)


def test_shards_of_other_inputs_are_named_as_what_they_are(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: "missing" sends a person to look for a shard that is there, from other rows."""
    site = site_in(url, tmp_path / "machine")
    stage_lake(exports, site)
    fetch_state(site)
    assert {one.kind for one in inspect(site).obstacles.values()} == {Unfit.MISSING}
    build_lake(site)
    write_exports(exports, crm=[row(f"C{number}", company_name="Newer") for number in range(30)])
    stage_lake(exports, site)
    assert {one.kind for one in inspect(site).obstacles.values()} == {Unfit.OTHER_DATA}


def test_a_slow_staging_does_not_put_an_old_pointer_over_a_newer_one(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: a machine that hung while it read yesterday's exports makes them current again."""
    slow, quick = site_in(url, tmp_path / "slow"), site_in(url, tmp_path / "quick")
    stage_lake(exports, quick)
    source = slow.contract.sources[0]
    real = stage

    def stage_while_another_is_quicker(*args: object, **options: object) -> object:
        staged = real(*args, **options)  # type: ignore[arg-type]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sending, "stage", real)
            write_exports(exports, crm=[row(f"C{number}", company_name="Newest") for number in range(30)])
            stage_lake(exports, quick)
        return staged

    write_exports(exports, crm=[row(f"C{number}", company_name="Newer") for number in range(30)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sending, "stage", stage_while_another_is_quicker)
        with pytest.raises(SourceChangedError, match="was staged by another run meanwhile"):
            sending.stage_and_send(source, staging_request(exports, slow))
    newest = current_snapshot(quick.home, source.name)
    fetch_state(slow)
    assert newest is not None
    assert current_snapshot(slow.home, source.name) == newest


def test_objects_among_the_attempts_that_are_none_are_passed_over(exports: Path, tmp_path: Path) -> None:
    """Fails: a file that someone has left in the lake ends every merge with a traceback."""
    site = site_in((tmp_path / "lake").as_uri(), tmp_path / "here")
    for name in ("note.txt", "shard_00/deep/note.json", "shard_00/note.json", "elsewhere/1.json"):
        store_of(site).put(f"attempts/{name}", b"{}")
    assert run_lake(exports, site).publication.record_count == 30


@pytest.mark.parametrize("name", ["../../shard_00.parquet", "shard_00.parquet", "/etc/passwd"])
def test_a_manifest_that_names_a_path_is_none(exports: Path, tmp_path: Path, name: str) -> None:
    site = site_in((tmp_path / "lake").as_uri(), tmp_path / "here")
    run_lake(exports, site)
    text = json.dumps(manifest_of(site, "shard_00").to_json(), default=str)
    found = json.loads(text)
    assert read_lake_manifest(json.dumps(found)) is not None
    assert read_lake_manifest(json.dumps(found | {"file": name})) is None
