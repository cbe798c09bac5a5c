"""A warehouse of another number of shards is not replaced by mistake."""

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.pipeline.preflight import refuse_other_shard_count
from etl_assets_tests.factory import row, run_engine, site_at, write_exports


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A warehouse of three shards; no test changes it."""
    folder = tmp_path_factory.mktemp("published")
    write_exports(folder / "sources", crm=[row("a")])
    run_engine(folder / "sources", site_at(Home(folder / "home"), 3))
    return Home(folder / "home")


def test_an_empty_home_takes_any_number_of_shards(home: Home) -> None:
    refuse_other_shard_count(site_at(home, 7))
    assert not home.root.exists()


def test_a_warehouse_of_the_same_number_of_shards_is_taken(warehouse: Home) -> None:
    refuse_other_shard_count(site_at(warehouse, 3))


def test_a_warehouse_of_another_number_of_shards_is_refused_with_every_way_out(warehouse: Home) -> None:
    """Fails: a typing error in ETL_NUM_SHARDS makes every published shard worthless."""
    with pytest.raises(ConfigError) as refused:
        refuse_other_shard_count(site_at(warehouse, 4))
    error = refused.value
    assert error.finding == f"{warehouse.warehouse} was published from 3 shards, but ETL_NUM_SHARDS is 4."
    assert error.advice == (
        Advice(Action.SET, "ETL_NUM_SHARDS", "3"),
        Advice(Action.SET, "ETL_HOME"),
        Advice(Action.RUN_FORCED),
    )


def test_force_takes_a_warehouse_of_another_number_of_shards(warehouse: Home) -> None:
    refuse_other_shard_count(site_at(warehouse, 4), force=True)


def test_a_warehouse_that_cannot_be_read_stops_nothing(home: Home) -> None:
    """Fails: a damaged warehouse can never be replaced by a sound one."""
    home.root.mkdir()
    home.warehouse.write_bytes(b"not a database")
    refuse_other_shard_count(site_at(home, 4))
