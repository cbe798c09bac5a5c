"""Which statements `query` runs: by their words, not by what DuckDB calls them."""

import contextlib
from collections.abc import Iterator

import duckdb
import pytest

from etl_assets.cli.statements import other_word, reading_statement
from etl_assets.errors import ConfigError


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect()) as opened:
        yield opened


_OTHERS = [
    "WITH a AS (COPY (SELECT 1) TO (current_setting('temp_directory') || '/x.csv')) FROM a",
    "WITH a AS (COPY\u00a0(SELECT 1) TO 'x') FROM a",
    "WITH a AS NOT MATERIALIZED (/*x*/ copy t to 'x') FROM a",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x'",
    "EXPLAIN COPY t TO 'x'",
    "COPY (PIVOT t ON a) TO 'x'",
    "CREATE TEMP TABLE t2 AS PIVOT t ON a",
    "EXPLAIN ANALYZE CREATE TABLE memory.main.t AS SELECT 1",
    "EXPLAIN ANALYZE SET VARIABLE x = 1",
    "EXPLAIN (ANALYZE, FORMAT json) WITH a AS (SELECT 1) INSERT INTO t FROM a",
    "WITH a AS (PIVOT t ON x) INSERT INTO t FROM a",
    "EXPLAIN CALL pragma_version()",
    "EXPLAIN EXECUTE p",
    "EXPLAIN PRAGMA version",
    "INSERT INTO t PIVOT t ON a",
    "EXPLAIN ANALYZE (FORMAT json) COPY t TO 'x'",
    "EXPLAIN (ANALYZE) COPY t TO 'x'",
    "EXPLAIN ANALYZE INSERT INTO t SELECT 1,2",
    "WITH a AS (DELETE FROM t RETURNING *) FROM a",
    "WITH a AS (SELECT 1) DELETE FROM t",
    "EXPLAIN WITH a AS (SELECT 1) UPDATE t SET a = 1",
    "EXPLAIN (FORMAT html) COPY t TO 'x'",
    "WITH a AS (WITH b AS (COPY t TO 'x') FROM b) FROM a",
    "WITH a AS (PIVOT t ON a), b AS (COPY t TO 'x') FROM a",
    "EXPLAIN ANALYZE DROP TABLE t",
    "EXPLAIN ANALYZE VACUUM",
    "EXPLAIN ANALYZE PREPARE p AS COPY t TO 'x'",
    "EXPLAIN CHECKPOINT",
    "EXPLAIN LOAD x",
    "EXPLAIN BEGIN",
    "EXPLAIN ANALYZE LOAD 'x'",
    "WITH a AS (COPY \"t\" TO 'x') FROM a",
    "FROM (WITH a AS (COPY t TO 'x') FROM a)",
    "SELECT (WITH a AS (COPY t TO 'x') SELECT 1)",
]
_READING = [
    "SELECT 1",
    "((SELECT 1))",
    "EXPLAIN ((SELECT 1))",
    "EXPLAIN (FORMAT json) SELECT 1",
    "EXPLAIN ANALYZE (SELECT 1)",
    "EXPLAIN (ANALYZE, FORMAT json) (SELECT 1)",
    "(FROM t)",
    'SELECT max("copy") FROM (SELECT 1 AS "copy")',
    "SELECT max(copy), sum(update) FROM (SELECT 1 AS copy, 2 AS update)",
    "SELECT 'COPY (', \"x\".a AS copy FROM t x",
    "PIVOT t ON a",
    "FROM (PIVOT t ON a)",
    "EXPLAIN PIVOT t ON a",
    "WITH x AS (PIVOT t ON a) FROM x",
    "SUMMARIZE t",
    "DESCRIBE t",
    "SHOW TABLES",
    "VALUES (1),(2)",
    "TABLE t",
    "UNPIVOT t ON a",
    "SELECT comment FROM duckdb_columns()",
    "SELECT count(comment) FROM duckdb_columns()",
    "SELECT replace('a','b','c')",
    "-- x\nSELECT 1; -- copy",
    "SELECT 1;",
    "FROM t SELECT a",
    "WITH a AS (SELECT 1) FROM a",
    "EXPLAIN WITH a AS (SELECT 1) FROM a",
    "EXPLAIN DESCRIBE t",
    "EXPLAIN SUMMARIZE t",
    "SELECT 1 UNION (SELECT 2)",
    "SELECT * FROM t WHERE (a = 1) AND x IN (SELECT 1)",
    "SELECT row_number() OVER (ORDER BY a) FROM t",
    "SELECT '(COPY x'",
    "SELECT (1) use",
    "EXPLAIN FROM t",
    "SELECT 1 WHERE true AND (SELECT true)",
    "DESC t",
    "SHOW ALL TABLES",
    "EXPLAIN VALUES (1)",
    "EXPLAIN (SELECT 1)",
    "EXPLAIN (FROM t)",
]


@pytest.mark.parametrize("sql", _OTHERS)
def test_a_statement_that_does_more_than_read_is_refused(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Fails: DuckDB calls it SELECT, EXPLAIN or MULTI, and it writes."""
    with pytest.raises(ConfigError, match=r"The warehouse is read-only: a statement of type [A-Z]+ is not run"):
        reading_statement(connection, sql)


@pytest.mark.parametrize("sql", _READING)
def test_a_statement_that_reads_is_run_whatever_its_names_are(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Fails: a column called copy cannot be asked for."""
    assert reading_statement(connection, sql).type.name in {"SELECT", "EXPLAIN", "MULTI"}


def test_the_refusal_names_the_kind_of_statement_and_how_to_write_a_name(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ConfigError) as caught:
        reading_statement(connection, "WITH a AS (copy t TO 'x') FROM a")
    assert "a statement of type COPY is not run, nor inside another one" in str(caught.value)
    assert '"copy"' in str(caught.value)


def test_a_space_that_is_not_ascii_hides_no_word(connection: duckdb.DuckDBPyConnection) -> None:
    """DuckDB's parser takes it for a space, its tokenizer for a letter."""
    for space in ("\u00a0", "\u3000", "\u200b", "\ufeff", "\u2060", "\x0b"):
        with pytest.raises(ConfigError, match="type COPY"):
            reading_statement(connection, f"WITH a AS ({space}COPY{space}(SELECT 1) TO 'x') FROM a")


def test_positions_of_words_are_those_of_bytes() -> None:
    assert other_word("WITH a AS (SELECT 'é東😀'), b AS (COPY t TO 'x') FROM b") == "COPY"
    assert other_word("SELECT 'é東😀 (COPY t' AS \"(COPY t\" -- (COPY t") is None
