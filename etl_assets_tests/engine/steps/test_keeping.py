"""A merge that starts from the published warehouse: the same result, and never more than what was verified."""

from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.files import publishing
from etl_assets.engine.published.tables import table_names
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps import keeping
from etl_assets.errors import ShardSetError
from etl_assets_tests import factory
from etl_assets_tests.engine.steps.twelve_customers import (
    IDS,
    MANY,
    build,
    change_manifest,
    ids_in,
    merge,
    restage,
    shard_of,
    without_times,
)


def _everything(path: Path) -> dict[str, list[Any]]:
    """All rows of all tables, in an order of their own, and what each table and column is said to mean."""
    tables = {name: factory.query(path, f"SELECT * FROM {name} ORDER BY ALL") for name in table_names()}
    for name in ("publication", "publication_figures"):
        tables[name] = factory.query(path, f"SELECT * EXCLUDE (published_at) FROM {name} ORDER BY ALL")
    comments = (
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    )
    return tables | {"comments": factory.query(path, comments)}


def _build_one_again(site: Site) -> str:
    """Build the shard of the first customer again from the same sources; returns the shard."""
    shard_id = shard_of(site, IDS[0])
    build(site, shard_id)
    return shard_id


def test_where_nothing_has_changed_no_shard_is_read(many: Site, copied: list[list[str]]) -> None:
    before = _everything(many.home.warehouse)
    merge(many, run_id="first")
    assert copied == [[]]
    assert _everything(many.home.warehouse) == before


def test_where_one_shard_was_built_again_its_rows_are_replaced_and_the_result_is_the_same(
    many: Site, copied: list[list[str]]
) -> None:
    """Fails: the rows of before stay, or accounts and comments are those of the last publication."""
    shard_id = _build_one_again(many)
    from_the_last = merge(many)
    assert copied == [[shard_id]]
    tables_from_the_last = _everything(many.home.warehouse)
    many.home.warehouse.unlink()
    from_nothing = merge(many)
    assert copied[1:] == [list(many.shard_ids)]
    assert tables_from_the_last == _everything(many.home.warehouse)
    assert without_times(from_the_last) == without_times(from_nothing)


def test_where_a_source_has_changed_nothing_is_kept(many: Site, copied: list[list[str]]) -> None:
    """Fails: what was deleted from an export stays in the warehouse's file."""
    name_of = "SELECT company_name FROM merged_profiles WHERE customer_id = 'cust_0'"
    assert factory.query(many.home.warehouse, name_of) == [("Alpine Labs",)]
    restage(many, many.home.root.parent / "changed", company_name="Other")
    build(many, shard_of(many, IDS[0]))
    merge(many)
    assert copied == [list(many.shard_ids)]
    assert factory.query(many.home.warehouse, name_of) == [("Other",)]


def test_a_linked_warehouse_is_no_base(many: Site, copied: list[list[str]], tmp_path: Path) -> None:
    """Fails: a link that someone put there makes the pipeline copy a file that only its user may read."""
    others = tmp_path / "others.duckdb"
    many.home.warehouse.rename(others)
    before = others.read_bytes()
    many.home.warehouse.symlink_to(others)
    assert read_publication(many.home) is None
    merge(many)
    assert copied == [list(many.shard_ids)]
    assert not many.home.warehouse.is_symlink()
    assert others.read_bytes() == before


def test_a_warehouse_that_becomes_a_link_before_it_is_copied_is_not_copied(
    many: Site, copied: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the name and the copy are two moments. Fails: the copy is of what was put there in between."""
    others = tmp_path / "others.duckdb"

    def swapped(path: Path, target: Path) -> None:
        path.rename(others)
        path.symlink_to(others)
        monkeypatch.undo()
        publishing.copy_published(path, target)

    monkeypatch.setattr(publishing, "copy_published", swapped)
    publication = merge(many, run_id="swapped").publication
    assert read_publication(many.home) == publication
    assert not many.home.warehouse.is_symlink()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE merged_profiles SET mrr = 1 WHERE customer_id = (SELECT max(customer_id) FROM merged_profiles)",
        "UPDATE merged_profiles SET shard_id = 'shard_00'",
        "DELETE FROM merged_profiles",
        "UPDATE shard_manifest SET content_hash = 'other'",
        "DELETE FROM shard_manifest",
        "UPDATE merged_files SET shard_id = 'shard_00'",
        "INSERT INTO merged_profiles SELECT * FROM merged_profiles",
        "ALTER TABLE merged_profiles DROP COLUMN mrr",
    ],
)
def test_what_someone_did_to_the_last_publication_is_not_published_again(
    many: Site, copied: list[list[str]], statement: str
) -> None:
    """Fails: the change is published again, or no merge succeeds any more."""
    published = _everything(many.home.warehouse)
    factory.alter(many.home.warehouse, statement)
    merge(many, run_id="first")
    assert _everything(many.home.warehouse) == published
    is_change_of_rows = "merged_profiles" in statement or "merged_files" in statement
    assert copied[-1] == (list(many.shard_ids) if is_change_of_rows else [])


def test_a_warehouse_of_damaged_pages_is_no_base(many: Site, copied: list[list[str]]) -> None:
    published = _everything(many.home.warehouse)
    content = bytearray(many.home.warehouse.read_bytes())
    for position in range(len(content) // 4, len(content), 4096):
        content[position] ^= 0xFF
    many.home.warehouse.write_bytes(content)
    merge(many, run_id="first")
    assert _everything(many.home.warehouse) == published
    assert copied[-1] == list(many.shard_ids)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine AS SELECT 1",
        "CREATE VIEW mine AS SELECT * FROM merged_profiles",
        "CREATE SCHEMA mine",
        "CREATE MACRO mine(a) AS a",
        "CREATE SEQUENCE mine",
        "CREATE TYPE mine AS ENUM ('a')",
        "CREATE INDEX mine ON merged_profiles (email)",
    ],
)
def test_what_someone_made_in_the_warehouse_is_not_published_again(
    many: Site, copied: list[list[str]], statement: str
) -> None:
    """Fails: whether it is still there after a merge depends on how much has changed."""
    factory.alter(many.home.warehouse, statement)
    merge(many)
    assert copied == [list(many.shard_ids)]
    assert b"mine" not in many.home.warehouse.read_bytes()


@pytest.mark.parametrize("change", ["code_version = 'older'", "shard_count = 7"])
def test_a_warehouse_of_another_version_or_number_of_shards_is_no_base(
    many: Site, copied: list[list[str]], change: str
) -> None:
    factory.alter(many.home.warehouse, f"UPDATE publication SET {change}")
    merge(many)
    assert copied == [list(many.shard_ids)]


def test_a_damaged_shard_is_refused_also_where_its_rows_are_published(many: Site) -> None:
    """Guarantee 6. Fails: the merge keeps the rows of before and says nothing of the file."""
    shard_id = _build_one_again(many)
    other = next(name for name in (shard_of(many, customer_id) for customer_id in IDS) if name != shard_id)
    path = many.home.shard_file(other)
    factory.alter(path, "UPDATE profiles SET mrr = 1")
    change_manifest(many, other, size_bytes=path.stat().st_size)
    with pytest.raises(ShardSetError, match=f"{other}: damaged"):
        merge(many)


def test_a_manifest_that_says_something_else_than_the_kept_rows_is_refused(many: Site) -> None:
    """The file is as it was merged, so its rows would be kept: they are compared with the manifest of now."""
    shard_id = shard_of(many, IDS[0])
    change_manifest(many, shard_id, content_hash="1-0000000000000000-0000000000000000")
    before = many.home.warehouse.read_bytes()
    with pytest.raises(ShardSetError, match=f"{shard_id}: damaged"):
        merge(many)
    assert many.home.warehouse.read_bytes() == before


def test_a_shard_that_is_missing_in_a_partial_merge_leaves_nothing_behind(many: Site, copied: list[list[str]]) -> None:
    many.home.shard_file("shard_03").unlink()
    publication = merge(many, allow_partial=True).publication
    assert copied == [[]]
    assert publication.missing_shards == ("shard_03",)
    for table in ("merged_profiles", "shard_manifest", "merged_files"):
        assert factory.query(many.home.warehouse, f"SELECT count(*) FROM {table} WHERE shard_id = 'shard_03'") == [(0,)]


def test_after_a_partial_publication_the_missing_shard_is_added_and_the_others_are_kept(
    many: Site, copied: list[list[str]]
) -> None:
    complete = read_publication(many.home)
    assert complete is not None
    # A small one: beside few rows, those of a large one that were deleted are a reason to start again.
    shard_id = min((shard_of(many, customer_id) for customer_id in IDS), key=lambda name: len(ids_in(many, name)))
    many.home.shard_file(shard_id).unlink()
    merge(many, allow_partial=True)
    build(many, shard_id)
    publication = merge(many).publication
    assert copied == [[], [shard_id]]
    assert (publication.digest, publication.is_partial) == (complete.digest, False)


@pytest.mark.parametrize(("limit", "value"), [("_MAX_REPLACED", 0.1), ("_MAX_STORED", 0.9)])
def test_where_much_is_or_was_replaced_a_merge_starts_from_an_empty_file(
    many: Site, copied: list[list[str]], monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    """Fails: the file grows with every merge, or a merge deletes nearly all rows one by one."""
    shard_id = _build_one_again(many)
    merge(many)
    monkeypatch.setattr(keeping, limit, value)
    build(many, shard_id)
    merge(many)
    assert copied == [[shard_id], list(many.shard_ids)]


def test_more_than_a_quarter_of_the_shards_is_not_replaced_one_by_one(many: Site, copied: list[list[str]]) -> None:
    build(many, *many.shard_ids[: MANY // 4])
    merge(many)
    build(many, *many.shard_ids[: MANY // 4 + 1])
    merge(many)
    assert copied == [list(many.shard_ids[: MANY // 4]), list(many.shard_ids)]
