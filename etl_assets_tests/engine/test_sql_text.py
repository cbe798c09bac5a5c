"""Names, literals and file patterns in SQL: any text is itself, whatever it holds."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.engine.sql_text import identifier, identifiers, literal, pattern_list, pattern_literal, statement

# DuckDB takes no NUL in a statement, and no text holds half of a surrogate pair.
_TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect()) as opened:
        yield opened


@settings(deadline=None)
@given(text=_TEXTS)
def test_a_literal_is_the_text(connection: duckdb.DuckDBPyConnection, text: str) -> None:
    """Fails: a folder called `it's` ends a run, or a name in an export is run as SQL."""
    assert connection.execute(f"SELECT {literal(text)}").fetchall() == [(text,)]


@settings(deadline=None)
@given(name=_TEXTS.filter(bool))
def test_an_identifier_is_the_name(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    cursor = connection.execute(f"SELECT t.{identifier(name)} FROM (SELECT 1 AS {identifier(name)}) t")
    assert [column[0] for column in cursor.description or []] == [name]


def test_a_list_of_columns_may_name_its_relation() -> None:
    assert identifiers(["a", 'b"c']) == '"a", "b""c"'
    assert identifiers(iter(["a", "b"]), of='x"y') == '"x""y"."a", "x""y"."b"'
    assert identifiers([]) == ""


@pytest.mark.parametrize(
    "name", ["[ab].csv", "*.csv", "?.csv", "a{b}.csv", "it's.csv", "[!a].csv", "a[b.csv", "plain.csv"]
)
def test_a_pattern_reads_its_own_file_and_no_other(tmp_path: Path, name: str) -> None:
    """Fails: `[ab].csv` is read as a.csv and b.csv, another customer's rows among them."""
    for other in ("a.csv", "b.csv", "ab.csv", name):
        (tmp_path / other).write_text(f"name\n{other}\n")
    with duckdb.connect() as connection:
        read = connection.execute(f"SELECT name FROM read_csv({pattern_literal(tmp_path / name)}, header = true)")
        assert read.fetchall() == [(name,)]
        both = connection.execute(
            f"SELECT name FROM read_csv({pattern_list([tmp_path / name, tmp_path / 'a.csv'])}, header = true)"
        )
        assert sorted(both.fetchall()) == sorted([(name,), ("a.csv",)])


def test_a_statement_is_the_text_of_its_file() -> None:
    assert statement("strip").startswith("-- ")
    with pytest.raises(FileNotFoundError):
        statement("no_such_statement")
