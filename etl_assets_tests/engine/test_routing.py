"""Which shard a customer belongs to: pinned, because moving customers makes every published shard stale."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from etl_assets.engine.files.layout import Home
from etl_assets.engine.routing import route, shard_key, shard_keys, shard_number
from etl_assets.project.settings import MAX_SHARDS
from etl_assets_tests import factory

# xxh3_64 of the UTF-8 bytes; the first two are vectors of the reference implementation.
_HASHES = {
    "": 0x2D06800538D394C2,
    "a": 0xE6C632B61E964E1F,
    "cust_00000042": 0xEA501E61620CDE9D,
    "cust_00000043": 0x4DA489050CBBB0BE,
    "ünïcödé": 0xC5DBB4AF33BAF371,
    "東京 🚀": 0x2208E01F8BB692BB,
    'O\'Brien\n"quoted"': 0x81858C7C64A4C844,
    "x" * 128: 0x4CA37E83F6CDDD17,
}
# The routes for 1, 3, 10, 64, 101 and 1000 shards.
_SHARD_COUNTS = (1, 3, 10, 64, 101, 1000)
_ROUTES = {
    "": (0, 1, 8, 2, 63, 138),
    "a": (0, 1, 9, 31, 82, 719),
    "cust_00000042": (0, 0, 5, 29, 8, 85),
    "cust_00000043": (0, 0, 8, 62, 51, 518),
    "ünïcödé": (0, 2, 9, 49, 99, 569),
    "東京 🚀": (0, 0, 1, 59, 52, 211),
    'O\'Brien\n"quoted"': (0, 2, 8, 4, 1, 108),
    "x" * 128: (0, 0, 1, 23, 48, 231),
}


@pytest.mark.parametrize(("customer_id", "digest"), _HASHES.items())
def test_the_route_is_the_pinned_hash_modulo_the_number_of_shards(customer_id: str, digest: int) -> None:
    assert [route(customer_id, count) for count in range(1, 200)] == [digest % count for count in range(1, 200)]


@pytest.mark.parametrize(("customer_id", "routes"), _ROUTES.items())
def test_customers_stay_in_the_shards_they_were_pinned_to(customer_id: str, routes: tuple[int, ...]) -> None:
    assert tuple(route(customer_id, count) for count in _SHARD_COUNTS) == routes


@pytest.mark.parametrize("shard_count", [1, 3, 10])
def test_sql_routes_a_customer_as_python_does_and_every_source_agrees(
    sources: Path, home: Home, shard_count: int
) -> None:
    """A source that disagreed would give a customer two half profiles in two shards."""
    ids = [customer_id for customer_id in _ROUTES if customer_id]
    rows = [factory.row(customer_id) for customer_id in ids]
    factory.write_exports(sources, crm=rows, billing=rows[::-1], product=rows, support=rows[2:] + rows[:2])
    factory.run_engine(sources, factory.site_at(home, shard_count))
    position = _SHARD_COUNTS.index(shard_count)
    found = factory.query(home.warehouse, "SELECT customer_id, shard_id, sources FROM merged_profiles")
    assert {row[0]: row[1] for row in found} == {
        customer_id: f"shard_{_ROUTES[customer_id][position]:02d}" for customer_id in ids
    }
    assert {tuple(row[2]) for row in found} == {("crm", "billing", "product", "support")}


def test_customers_spread_evenly_over_the_shards() -> None:
    """A lopsided route makes one shard the wall that the whole run waits for."""
    sizes = [0] * 10
    for number in range(20_000):
        sizes[route(f"cust_{number:08d}", 10)] += 1
    assert min(sizes) > 1_850
    assert max(sizes) < 2_150


@given(st.text(max_size=128), st.integers(1, MAX_SHARDS))
def test_a_route_is_always_a_number_of_a_shard(customer_id: str, shard_count: int) -> None:
    assert 0 <= route(customer_id, shard_count) < shard_count


def test_shards_are_called_with_two_digits_up_to_a_hundred_and_three_beyond() -> None:
    assert shard_keys(1) == ["shard_00"]
    assert shard_keys(100)[:2] == ["shard_00", "shard_01"]
    assert shard_keys(100)[-1] == "shard_99"
    assert shard_keys(101)[-1] == "shard_100"
    assert shard_keys(101)[3] == "shard_003"
    assert shard_key(3, 10) == "shard_03"


@pytest.mark.parametrize("shard_count", [1, 10, 100, 101, MAX_SHARDS])
def test_shard_names_are_unique_and_sort_as_their_numbers_do(shard_count: int) -> None:
    """The UI and the file listing show shards by name."""
    keys = shard_keys(shard_count)
    assert len(set(keys)) == shard_count
    assert sorted(keys) == keys


@pytest.mark.parametrize("shard_count", [1, 100, 101, MAX_SHARDS])
def test_a_shards_number_is_read_from_its_name_and_from_the_bare_number(shard_count: int) -> None:
    """Fails: `CHAOS_FAIL_SHARD=3` means no shard where names have three digits."""
    assert [shard_number(key) for key in shard_keys(shard_count)] == list(range(shard_count))
    assert [shard_number(key.removeprefix("shard_")) for key in shard_keys(shard_count)] == list(range(shard_count))
    assert [shard_number(str(number)) for number in range(shard_count)] == list(range(shard_count))
