"""Hashes of texts, pinned, and of sets of rows: they add up, in any order, and notice every changed cell."""

import contextlib
from collections.abc import Iterator, Sequence

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.engine import duck
from etl_assets.engine.hashing import (
    STABLE_HASH_MACRO,
    SetHash,
    digest,
    set_hash_sql,
    stable_hash,
    total,
)

Row = tuple[str | None, int | None, float | None]
COLUMNS = ("name", 'quan"tity', "ratio")
_ROWS = st.lists(
    st.tuples(
        st.none() | st.text(max_size=4),
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.floats(allow_nan=False).map(lambda value: value or 0.0),
    ),
    max_size=8,
)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect()) as opened:
        duck.add_hashing(opened)
        opened.execute(STABLE_HASH_MACRO)
        yield opened


def hash_of(connection: duckdb.DuckDBPyConnection, rows: Sequence[Row]) -> SetHash:
    """The hash of these rows, as the engine asks DuckDB for it."""
    names, numbers, ratios = ([row[index] for row in rows] for index in range(3))
    relation = 'SELECT unnest(?::VARCHAR[]) AS name, unnest(?::BIGINT[]) AS "quan""tity", unnest(?::DOUBLE[]) AS ratio'
    row = connection.execute(f"SELECT {set_hash_sql(COLUMNS)} FROM ({relation})", [names, numbers, ratios]).fetchone()
    assert row is not None
    return SetHash.of_row(row)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The first two are vectors of the reference implementation.
        ("", "99aa06d3014798d86001c324468d497f"),
        ("a", "a96faf705af16834e6c632b61e964e1f"),
        ("ünïcödé 東京 🚀", "39363d468ad6088ddbf67bf8684471f3"),
        ('["v1"]', "b78fd67cd09819702049589d95272891"),
    ],
)
def test_the_hash_of_a_text_is_pinned_in_python_and_in_sql(
    connection: duckdb.DuckDBPyConnection, text: str, expected: str
) -> None:
    assert stable_hash(text) == expected
    assert duck.scalar(connection, "SELECT stable_hash(?)", [text]) == expected


@settings(deadline=None)
@given(rows=_ROWS, data=st.data())
def test_a_set_of_rows_has_one_hash_in_any_order_and_in_any_parts(
    connection: duckdb.DuckDBPyConnection, rows: list[Row], data: st.DataObject
) -> None:
    """Fails: the same customers in another number of shards look like another publication."""
    whole = hash_of(connection, rows)
    assert hash_of(connection, data.draw(st.permutations(rows))) == whole
    cut = data.draw(st.integers(0, len(rows)))
    assert total([hash_of(connection, rows[:cut]), hash_of(connection, rows[cut:])]) == whole
    assert whole.count == len(rows)


@settings(deadline=None)
@given(rows=_ROWS.filter(bool), data=st.data())
def test_one_changed_cell_changes_both_sums(
    connection: duckdb.DuckDBPyConnection, rows: list[Row], data: st.DataObject
) -> None:
    """Fails: a damaged value passes for the published one, or two independent sums are one."""
    at, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 2))
    others: list[st.SearchStrategy[str | int | float | None]] = [
        st.sampled_from(["x", "", None]),
        st.sampled_from([0, 1, None]),
        st.sampled_from([0.5, 0.0, None]),
    ]
    cell = data.draw(others[column].filter(lambda value: value != rows[at][column]))
    changed = [*rows]
    changed[at] = (*rows[at][:column], cell, *rows[at][column + 1 :])  # type: ignore[assignment]
    before, after = hash_of(connection, rows), hash_of(connection, changed)
    assert (after.count, after.first != before.first, after.second != before.second) == (before.count, True, True)


def test_cells_that_change_places_change_the_hash(connection: duckdb.DuckDBPyConnection) -> None:
    """Fails: two columns swapped, or two customers' values exchanged, look like the same data."""
    assert len({hash_of(connection, [("a", 1, 2.0)]), hash_of(connection, [("a", 2, 1.0)])}) == 2
    assert (
        len({hash_of(connection, rows) for rows in ([("a", 1, 0.0), ("b", 2, 0.0)], [("a", 2, 0.0), ("b", 1, 0.0)])})
        == 2
    )


def test_a_row_that_is_there_twice_is_not_the_row_once(connection: duckdb.DuckDBPyConnection) -> None:
    """Fails: with hashes that are combined by XOR, doubled rows would cancel out."""
    once: Row = ("a", 1, 2.0)
    assert len({hash_of(connection, [once] * times) for times in (0, 1, 2, 3)}) == 4


def test_no_rows_are_the_neutral_hash(connection: duckdb.DuckDBPyConnection) -> None:
    one = hash_of(connection, [("a", 1, 2.0)])
    assert hash_of(connection, []) == SetHash() == total([])
    assert one + SetHash() == one


def test_sums_beyond_64_bits_are_taken_modulo_2_to_the_64() -> None:
    large = SetHash.of_row((1, 2**64 - 1, 2**65 + 5))
    assert (large.first, large.second) == (2**64 - 1, 5)
    assert large + SetHash(1, 2, 3) == SetHash(2, 1, 8)


def test_a_digest_names_its_version_count_and_both_sums() -> None:
    assert digest(SetHash(12, 255, 2**63)) == "v2-12-00000000000000ff-8000000000000000"
