"""What the merge refuses: a set that is incomplete, stale, damaged or overtaken. The last warehouse then stays."""

import contextlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine import duck
from etl_assets.engine.hashing import SetHash, set_hash_sql
from etl_assets.engine.published import holding
from etl_assets.engine.published.shards import ShardSet, hashed_columns, inspect_shards
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.published.warehouse import hash_by_shard, read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps import merge as merging
from etl_assets.errors import AccountingError, Action, Advice, ConfigError, ShardSetError, WriteError
from etl_assets_tests import factory
from etl_assets_tests.engine.steps.twelve_customers import (
    IDS,
    build,
    change_manifest,
    ids_in,
    leftovers,
    merge,
    restage,
    shard_of,
)


def _assert_refused(site: Site, obstacles: Mapping[str, str], *, allow_partial: bool = False) -> None:
    """The merge names exactly these shards, why, and how to build them; the last warehouse stays byte for byte."""
    before = site.home.warehouse.read_bytes()
    with pytest.raises(ShardSetError) as caught:
        merge(site, allow_partial=allow_partial)
    message = str(caught.value)
    for shard_id in site.shard_ids:
        assert (f"{shard_id}: " in message) == (shard_id in obstacles)
        assert f"{shard_id}: {obstacles.get(shard_id, '')}" in message or shard_id not in obstacles
    assert caught.value.advice == (Advice(Action.RUN, shards=tuple(obstacles)),)
    assert caught.value.subject == next(iter(obstacles))
    assert site.home.warehouse.read_bytes() == before
    assert leftovers(site) == []


# Each test has its control in test_merge.py: the same shards as they were are merged.


@pytest.mark.parametrize("suffix", ["duckdb", "json"])
def test_a_missing_shard_is_refused(published: Site, suffix: str) -> None:
    (published.home.shards / f"shard_01.{suffix}").unlink()
    _assert_refused(published, {"shard_01": "missing"})


def test_every_shard_in_the_way_is_named_at_once(published: Site) -> None:
    published.home.shard_file("shard_01").unlink()
    published.home.shard_file("shard_02").write_bytes(b"not a database")
    _assert_refused(published, {"shard_01": "missing", "shard_02": "damaged (its file has 14 bytes, "})


def test_a_shard_of_other_source_data_is_refused(published: Site, tmp_path: Path) -> None:
    """The classic of retries: one shard missed the new export, and old and new records would stand side by side."""
    restage(published, tmp_path / "new", email="new@x.example")
    _assert_refused(published, {shard_of(published, IDS[0]): "built from other source data"})


def test_a_shard_of_another_version_is_refused(published: Site) -> None:
    change_manifest(published, "shard_00", code_version="older")
    _assert_refused(published, {"shard_00": "built by another version of the project or the engine"})


def test_shards_of_another_number_of_shards_are_refused(few_shards_made: Path, published: Site) -> None:
    """After ETL_NUM_SHARDS was changed, a customer could stand in an old shard and in a new one."""
    two = factory.site_at(published.home, 2)
    factory.stage_all(factory.staging_request(few_shards_made / "sources", two))
    build(two, "shard_00", "shard_01")
    factory.stage_all(factory.staging_request(few_shards_made / "sources", published))
    words = "built for another number of shards (2, not 3)"
    _assert_refused(published, {"shard_00": words, "shard_01": words})


def test_a_shard_under_the_name_of_another_is_refused(published: Site) -> None:
    for suffix in ("duckdb", "json"):
        shutil.copyfile(published.home.shards / f"shard_00.{suffix}", published.home.shards / f"shard_01.{suffix}")
    _assert_refused(published, {"shard_01": "holds another shard (shard_00)"})


def test_the_file_of_another_shard_beside_a_sound_manifest_is_refused(published: Site) -> None:
    path = published.home.shard_file("shard_01")
    shutil.copyfile(published.home.shard_file("shard_00"), path)
    change_manifest(published, "shard_01", size_bytes=path.stat().st_size)
    _assert_refused(published, {"shard_01": "damaged (its content is not what its manifest says)"})


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE profiles SET mrr = 1 WHERE mrr IS NOT NULL",
        "UPDATE profiles SET shard_id = NULL",
        "DELETE FROM profiles WHERE customer_id = (SELECT min(customer_id) FROM profiles)",
        "INSERT INTO profiles SELECT * FROM profiles LIMIT 1",
        "DELETE FROM profiles",
        "INSERT INTO profiles SELECT * REPLACE ('another' AS customer_id) FROM profiles LIMIT 1",
        "ALTER TABLE profiles DROP COLUMN plan",
        "DROP TABLE profiles",
    ],
)
def test_a_shard_whose_rows_are_not_what_its_manifest_says_is_refused(published: Site, change: str) -> None:
    _alter(published, "shard_01", change)
    _assert_refused(published, {"shard_01": "damaged ("})


def _alter(site: Site, shard_id: str, *statements: str) -> None:
    """Change the rows of a shard so that its size does not tell."""
    path = site.home.shard_file(shard_id)
    factory.alter(path, *statements)
    change_manifest(site, shard_id, size_bytes=path.stat().st_size)


def test_a_shard_with_a_damaged_block_is_refused(published: Site) -> None:
    path = published.home.shard_file("shard_01")
    data = path.read_bytes()
    place = data.index(b"ada@alpine.example")
    path.write_bytes(data[:place] + b"A" + data[place + 1 :])
    _assert_refused(published, {"shard_01": "damaged ("})


def test_rows_of_another_shard_in_a_shard_file_are_refused(published: Site) -> None:
    """The customer would stand in the result twice, or hide the loss of another."""
    _alter(
        published,
        "shard_01",
        f"ATTACH '{published.home.shard_file('shard_00')}' AS donor (READ_ONLY)",
        "INSERT INTO profiles SELECT * FROM donor.profiles LIMIT 1",
    )
    _assert_refused(published, {"shard_01": "damaged ("})


def test_rows_in_a_shard_that_says_it_has_none_are_refused(published: Site) -> None:
    change_manifest(published, "shard_01", record_count=0, content_hash=str(SetHash()))
    _assert_refused(published, {"shard_01": "damaged ("})


def test_a_manifest_whose_count_is_not_that_of_its_rows_publishes_nothing(published: Site) -> None:
    change_manifest(published, "shard_01", record_count=0)
    _assert_refused(published, {"shard_01": "damaged (its manifest cannot be read)"})


def test_a_customer_of_two_shards_whose_manifests_agree_is_kept_once(published: Site) -> None:
    """Should two shard files ever hold the same customer by their own books, the result still holds it once."""
    path = published.home.shard_file("shard_01")
    two_of_the_other = "SELECT * REPLACE ('shard_01' AS shard_id) FROM donor.profiles ORDER BY customer_id LIMIT 2"
    _alter(
        published,
        "shard_01",
        f"ATTACH '{published.home.shard_file('shard_00')}' AS donor (READ_ONLY)",
        f"INSERT INTO profiles {two_of_the_other}",
    )
    content = _hash_of(path)
    change_manifest(published, "shard_01", record_count=content.count, content_hash=str(content))
    first = read_publication(published.home)
    publication = merge(published).publication
    assert first is not None
    assert publication.duplicates_dropped == 2
    assert publication.record_count == len(IDS)
    assert publication.digest == first.digest
    keys = "SELECT count(*), count(DISTINCT idempotency_key) FROM merged_profiles"
    assert factory.query(published.home.warehouse, keys) == [(len(IDS), len(IDS))]


def _hash_of(path: Path) -> SetHash:
    with duck.opened(path) as connection:
        columns = hashed_columns(connection, "profiles")
        row = connection.execute(f"SELECT {set_hash_sql(columns)} FROM profiles").fetchone()
    assert row is not None
    return SetHash.of_row(row)


def test_sources_that_are_not_staged_for_this_number_of_shards_are_a_configuration_error(published: Site) -> None:
    before = published.home.warehouse.read_bytes()
    with pytest.raises(ConfigError, match="not staged for 4 shards"):
        merge(factory.site_at(published.home, 4))
    assert published.home.warehouse.read_bytes() == before


def test_a_quarantine_that_lost_rows_is_refused(published: Site) -> None:
    """Nothing lost: the books of the sources and the quarantine that is published must agree."""
    folder = current_snapshots(published)["product"].folder
    path = published.home.snapshot("product", folder) / "quarantine.parquet"
    with contextlib.closing(duckdb.connect()) as connection:
        kept = f"SELECT * FROM read_parquet('{path}') WHERE reason = 'superseded'"
        connection.execute(f"CREATE TABLE kept AS {kept}")
        connection.execute(f"COPY kept TO '{path}' (FORMAT parquet)")
    before = published.home.warehouse.read_bytes()
    with pytest.raises(AccountingError, match="2 quarantined rows, the sources say 3"):
        merge(published)
    assert published.home.warehouse.read_bytes() == before
    assert leftovers(published) == []


# Partial, when someone asks for it.


def test_a_partial_merge_leaves_the_unfit_shards_out_and_says_so(published: Site) -> None:
    published.home.shard_file("shard_01").unlink()
    change_manifest(published, "shard_02", code_version="older")
    publication = merge(published, allow_partial=True).publication
    assert (publication.is_partial, publication.missing_shards) == (True, ("shard_01", "shard_02"))
    assert read_publication(published.home) == publication
    found = factory.query(published.home.warehouse, "SELECT customer_id FROM merged_profiles ORDER BY 1")
    assert found == [(customer_id,) for customer_id in sorted(ids_in(published, "shard_00"))]
    assert factory.query(published.home.warehouse, "SELECT shard_id FROM shard_manifest") == [("shard_00",)]


def test_a_partial_merge_of_a_complete_set_is_complete(published: Site) -> None:
    publication = merge(published, allow_partial=True).publication
    assert (publication.is_partial, publication.missing_shards) == (False, ())
    assert publication.record_count == len(IDS)


def test_a_partial_merge_of_nothing_is_refused(published: Site) -> None:
    """An empty warehouse is never a success."""
    shutil.rmtree(published.home.shards)
    _assert_refused(published, dict.fromkeys(published.shard_ids, "missing"), allow_partial=True)


def test_a_partial_merge_does_not_take_a_shard_whose_rows_are_damaged(published: Site) -> None:
    """Damage that shows only when the rows are read stops even a partial merge; it never lets bad rows through."""
    _alter(published, "shard_01", "UPDATE profiles SET mrr = 1 WHERE mrr IS NOT NULL")
    _assert_refused(published, {"shard_01": "damaged ("}, allow_partial=True)


# Meanwhile.


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> "Meanwhile":
    """Do something while a merge checks what it has written."""
    return Meanwhile(monkeypatch)


class Meanwhile:
    """What happens during the next merges."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def do(self, work: Callable[[], object]) -> None:
        """Do it, then go on."""

        def interrupted(connection: duckdb.DuckDBPyConnection) -> dict[str, SetHash]:
            work()
            return hash_by_shard(connection)

        self._monkeypatch.setattr(merging, "hash_by_shard", interrupted)

    def stop(self) -> None:
        """Do it no more."""
        self._monkeypatch.undo()


def _assert_overtaken(site: Site) -> None:
    before = site.home.warehouse.read_bytes()
    with pytest.raises(ShardSetError, match="changed while it was merged") as caught:
        merge(site)
    assert caught.value.advice == (Advice(Action.RUN),)
    assert site.home.warehouse.read_bytes() == before
    assert leftovers(site) == []


def test_a_shard_published_again_during_the_merge_is_refused(published: Site, meanwhile: Meanwhile) -> None:
    """The warehouse would hold the old records of a shard whose new ones are already published."""
    meanwhile.do(lambda: build(published, "shard_01", run_id="meanwhile"))
    _assert_overtaken(published)
    meanwhile.stop()
    assert merge(published).publication.record_count == len(IDS)


def test_a_shard_published_again_before_its_snapshots_are_held_is_merged_as_it_is_now(
    published: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the merge reads slices that the other run has swept, or refuses a complete set."""

    def then_published(site: Site) -> ShardSet:
        found = inspect_shards(site)
        with monkeypatch.context() as patch:
            patch.setattr(holding, "inspect", inspect_shards)
            restage(published, published.home.root.parent / "new", email="new@x.example")
            build(published, shard_of(published, IDS[0]), run_id="meanwhile")
        return found

    monkeypatch.setattr(holding, "inspect", then_published)
    merge(published)
    rows = factory.query(published.home.warehouse, f"SELECT email FROM merged_profiles WHERE customer_id = '{IDS[0]}'")
    assert rows == [("new@x.example",)]


def test_sources_staged_again_during_the_merge_are_refused(
    published: Site, tmp_path: Path, meanwhile: Meanwhile
) -> None:
    meanwhile.do(lambda: restage(published, tmp_path / "new", email="new@x.example"))
    _assert_overtaken(published)


def test_a_shard_that_vanishes_during_the_merge_is_named(published: Site, meanwhile: Meanwhile) -> None:
    meanwhile.do(lambda: published.home.manifest("shard_02").unlink(missing_ok=True))
    _assert_refused(published, {"shard_02": "missing"})


def test_a_merge_that_was_overtaken_by_the_same_publication_goes_on(published: Site, meanwhile: Meanwhile) -> None:
    """The control: a file that was touched is another stamp, but the set is the same."""
    path = published.home.manifest("shard_01")
    meanwhile.do(lambda: path.write_text(path.read_text()))
    assert merge(published).publication.record_count == len(IDS)


def test_a_merge_that_fails_half_way_leaves_the_last_warehouse_and_no_temporary_file(
    published: Site, meanwhile: Meanwhile
) -> None:
    def out_of_disk() -> None:
        raise OSError(28, "No space left on device")

    before = published.home.warehouse.read_bytes()
    meanwhile.do(out_of_disk)
    with pytest.raises(OSError, match="No space left"):
        merge(published)
    assert published.home.warehouse.read_bytes() == before
    assert leftovers(published) == []


def test_a_warehouse_that_cannot_be_read_back_is_not_published(
    published: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a disk that loses what it is given costs yesterday's result, and no reader can open today's."""

    def lost_by_the_disk(connection: duckdb.DuckDBPyConnection) -> None:
        close(connection)
        if not damaged:
            [path] = published.home.root.glob(".tmp-warehouse*")
            with path.open("r+b") as stream:
                stream.seek(path.stat().st_size // 4)
                stream.write(b"\xff" * (path.stat().st_size // 2))
            damaged.append(path)

    close, damaged = merging.close, list[Path]()
    before = published.home.warehouse.read_bytes()
    monkeypatch.setattr(merging, "close", lost_by_the_disk)
    with pytest.raises(WriteError, match="could not be read back after it was written") as caught:
        merge(published)
    assert caught.value.advice == (Advice(Action.CHECK_DISK),)
    assert damaged
    assert published.home.warehouse.read_bytes() == before
    assert leftovers(published) == []
