"""What the sources share, and the warning of a source that shares almost nothing."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.notices import read_notices
from etl_assets.engine.published.overlap import (
    SourceOverlap,
    measure_overlap,
    overlap_notices,
    overlap_rows,
    read_overlap,
)
from etl_assets_tests import factory

NAMES = factory.PROJECT.contract.source_names


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect()) as opened:
        yield opened


def _profiles(connection: duckdb.DuckDBPyConnection, *sources: Sequence[str]) -> None:
    connection.execute("CREATE OR REPLACE TABLE merged_profiles (sources VARCHAR[])")
    connection.executemany("INSERT INTO merged_profiles VALUES (?)", [[list(names)] for names in sources])


def test_each_source_says_how_many_keys_it_shares_with_each_other(connection: duckdb.DuckDBPyConnection) -> None:
    """Fails: nobody sees that two systems hardly know each other's customers."""
    _profiles(connection, "abc", "abc", "ab", "b", "b", "c")
    assert measure_overlap(connection, "abc") == (
        SourceOverlap("a", 3, 0, 2, {"b": 3, "c": 2}),
        SourceOverlap("b", 5, 2, 2, {"a": 3, "c": 2}),
        SourceOverlap("c", 3, 1, 2, {"a": 2, "b": 2}),
    )


def test_a_source_without_keys_and_a_single_source_are_no_special_case(connection: duckdb.DuckDBPyConnection) -> None:
    _profiles(connection, "a", "a")
    assert measure_overlap(connection, "ab") == (
        SourceOverlap("a", 2, 2, 0, {"b": 0}),
        SourceOverlap("b", 0, 0, 0, {"a": 0}),
    )
    assert measure_overlap(connection, "a") == ()


def test_thirty_sources_are_counted_by_the_sets_they_occur_in(connection: duckdb.DuckDBPyConnection) -> None:
    """Fails: a project with many systems waits for a billion sets, or runs out of memory."""
    names = [f"s{number:02}" for number in range(30)]
    connection.execute(
        "CREATE TABLE merged_profiles AS SELECT list_filter(?, lambda name: hash(name || i) % 2 = 0) AS sources "
        "FROM range(20000) rows(i)",
        [names],
    )
    connection.execute("SET memory_limit = '256MB'")
    found = measure_overlap(connection, names)
    (expected,) = connection.execute(
        "SELECT count(*) FROM merged_profiles WHERE list_contains(sources, 's03') AND list_contains(sources, 's29')"
    ).fetchall()
    assert found[3].shared_counts["s29"] == found[29].shared_counts["s03"] == expected[0] > 0
    assert len(list(overlap_rows(found))) == 30 * 29


@pytest.mark.parametrize(
    ("key_count", "only_count", "record_count", "is_noticed"),
    [
        (20, 20, 80, True),
        (19, 19, 80, False),
        # Others with ten keys in all.
        (1000, 1000, 1010, False),
        # A pilot with a hundred customers, all of them known: of the million, that is very few.
        (1_000_000, 999_900, 1_000_000, False),
        (1000, 990, 2000, False),
        (1000, 991, 2000, True),
    ],
)
def test_a_source_that_shares_almost_none_of_what_it_could_share_is_noticed(
    connection: duckdb.DuckDBPyConnection, key_count: int, only_count: int, record_count: int, is_noticed: bool
) -> None:
    """Fails: the wrong key column was exported, every profile is half empty, and all is green."""
    one = SourceOverlap("crm", key_count, only_count, 0, {"billing": key_count - only_count})
    connection.execute(
        "CREATE TABLE merged_profiles AS SELECT unnest(['\u200b7', 'c7']) AS customer_id, "
        "unnest([['crm'], ['billing']]) AS sources"
    )
    notices = list(overlap_notices([one], factory.PROJECT.contract, record_count, connection))
    assert [notice.subject for notice in notices] == ["crm"] * is_noticed
    if is_noticed:
        assert f"shares {key_count - only_count} of its {key_count:,} customers" in notices[0].finding
        assert "such as '\\u200b7' here and 'c7' there" in notices[0].finding


def test_the_warehouse_keeps_the_overlap_and_its_notices(sources: Path, home: Home) -> None:
    """Fails: `status` after the run, or another program, does not know what the run has printed."""
    rows = {name: [factory.row(f"{name}-{number}") for number in range(20)] for name in NAMES}
    rows["billing"] = rows["crm"]
    merged = factory.run_engine(factory.write_exports(sources, **rows), factory.site_at(home))
    assert read_overlap(home, NAMES) == merged.noticed.overlap
    assert read_notices(home) == merged.noticed.notices
    assert [(notice.kind, notice.subject) for notice in merged.noticed.notices if notice.is_warning] == [
        ("no_overlap", "product"),
        ("no_overlap", "support"),
    ]
    shared = "SELECT shared_count FROM source_overlap WHERE (source, other_source) = ('crm', 'billing')"
    assert factory.query(home.warehouse, shared) == [(20,)]


def test_without_a_warehouse_there_is_no_overlap(home: Home) -> None:
    assert (read_overlap(home, NAMES), read_notices(home)) == ((), ())
