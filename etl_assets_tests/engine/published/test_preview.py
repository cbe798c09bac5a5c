"""Reading what is published: whose shard count it is, tables described, previews and timings."""

from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import preview as published
from etl_assets.errors import ConfigError
from etl_assets_tests.factory import alter, query, row, run_engine, write_exports


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three shards, customers a to h; nobody changes it."""
    folder = tmp_path_factory.mktemp("published")
    write_exports(folder / "sources", crm=[row(name, industry="") for name in "hgfedcba"])
    run_engine(folder / "sources", Home(folder / "home"))
    return Home(folder / "home")


def test_an_empty_home_takes_any_shard_count(home: Home) -> None:
    published.refuse_other_shard_count(home, 7)
    assert not home.root.exists()


def test_a_warehouse_of_the_same_shard_count_is_taken(warehouse: Home) -> None:
    published.refuse_other_shard_count(warehouse, 3)


def test_a_warehouse_of_another_shard_count_is_refused_with_every_way_out(warehouse: Home) -> None:
    """A typing error in ETL_NUM_SHARDS makes every published shard worthless."""
    with pytest.raises(ConfigError) as refused:
        published.refuse_other_shard_count(warehouse, 4)
    text = str(refused.value)
    assert f"{warehouse.warehouse} was published from 3 shards, but ETL_NUM_SHARDS is 4" in text
    for way_out in ("ETL_NUM_SHARDS=3", "another ETL_HOME", "etl-assets run --force"):
        assert way_out in text


def test_force_takes_a_warehouse_of_another_shard_count(warehouse: Home) -> None:
    published.refuse_other_shard_count(warehouse, 4, force=True)


def test_a_warehouse_that_cannot_be_read_is_in_nobodys_way(home: Home) -> None:
    """A damaged warehouse could never be replaced by a sound one."""
    home.root.mkdir()
    home.warehouse.write_bytes(b"not a database")
    published.refuse_other_shard_count(home, 4)


def test_a_table_is_described_in_column_order(warehouse: Home) -> None:
    with published.looking() as glance:
        columns = glance(warehouse.warehouse, "merged_profiles", 0).columns
        of_shard = glance(warehouse.shard_file("shard_00"), "profiles", 0).columns
    assert columns[:2] == [("customer_id", "VARCHAR"), ("email", "VARCHAR")]
    assert dict(columns)["sources"] == "VARCHAR[]"
    assert dict(columns)["last_contact"] == "DATE"
    assert of_shard == columns


def test_a_preview_is_the_first_customers_in_order_and_nulls_stay_null(warehouse: Home) -> None:
    with published.looking() as glance:
        seen = glance(warehouse.warehouse, "merged_profiles", 3)
        everything = glance(warehouse.warehouse, "merged_profiles", 100)
    names, rows = [name for name, _ in seen.columns], seen.rows
    assert [found[names.index("customer_id")] for found in rows] == ["a", "b", "c"]
    assert [found[names.index("industry")] for found in rows] == [None, None, None]
    assert len(everything.rows) == 8


def test_timings_are_the_slowest_shards_first(sources: Path, home: Home) -> None:
    """The shard that everybody waits for is cut off the table."""
    write_exports(sources, crm=[row(name) for name in "abcd"])
    run_engine(sources, home)
    alter(home.warehouse, "UPDATE shard_manifest SET elapsed_ms = 5 + 10 * (shard_id = 'shard_01')::INT")
    names, rows = published.shard_timings(home, 10)
    assert names[:3] == ["shard_id", "record_count", "elapsed_ms"]
    assert [(found[0], found[2]) for found in rows] == [("shard_01", 15), ("shard_00", 5), ("shard_02", 5)]
    counts = dict(query(home.warehouse, "SELECT shard_id, count(*) FROM merged_profiles GROUP BY 1"))
    assert {found[0]: found[1] for found in rows} == {
        name: counts.get(name, 0) for name in ("shard_00", "shard_01", "shard_02")
    }
    assert [found[0] for found in published.shard_timings(home, 2)[1]] == ["shard_01", "shard_00"]
