"""Whether two results hold the same profiles: every customer and every field except `shard_id` and `issues`.

The time of a way counts only when its profiles are the same. Fields are compared in the pipeline's types. An integer of
another width counts as the same; a date as text, or a whole number as a float, does not.
"""

import contextlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

_MEMORY_LIMIT = "2GB"
# No peer has shards, or keeps what is wrong with the records of a customer.
_NOT_COMPARED = frozenset({"shard_id", "issues"})
_TABLES = ("merged_profiles", "profiles", "shard_profiles")
# Types that count as one: of a value only its amount is compared, and the idempotency key has its text.
_ALIKE = (frozenset({"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}), frozenset({"DECIMAL(18,2)", "DOUBLE"}))
# How many differences a message names.
_SHOWN = 3


class DifferentError(Exception):
    """The profiles differ from those of the reference; the text says how."""


def check_equal(reference: Path, result: Path) -> None:
    """Raise DifferentError when `result` does not hold the profiles of `reference`.

    Each is a DuckDB file (with one of `_TABLES`), a Parquet file or a folder of Parquet files.
    """
    expected_types, expected = _reference(reference)
    with contextlib.closing(_connect()) as connection:
        try:
            relation = _open(connection, result, "result")
            _check_columns(expected_types, _types(connection, relation))
            if _digest(connection, relation, expected_types) == expected:
                return
            reason = _explain(connection, _open(connection, reference, "reference"), relation, list(expected_types))
        except duckdb.Error as error:
            raise DifferentError(f"cannot be read: {str(error).splitlines()[0]}") from error
    raise DifferentError(reason)


@cache
def _reference(path: Path) -> tuple[dict[str, str], tuple[int, int]]:
    """Types and digest of the reference, which does not change while this process lives."""
    with contextlib.closing(_connect()) as connection:
        relation = _open(connection, path, "reference")
        types = _types(connection, relation)
        return types, _digest(connection, relation, types)


def _connect() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"memory_limit": _MEMORY_LIMIT})


def _open(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> str:
    """The SQL name of the relation that holds the profiles in `path`."""
    if not path.exists():
        raise DifferentError(f"{path.name} does not exist")
    if path.suffix == ".duckdb":
        connection.execute(f"ATTACH '{_quoted(path)}' AS {name} (READ_ONLY)")
        for table in _TABLES:
            rows = connection.execute(
                "SELECT 1 FROM duckdb_tables() WHERE database_name = ? AND table_name = ?", [name, table]
            )
            if rows.fetchone():
                return f"{name}.{table}"
        raise DifferentError(f"{path.name} has no table {' or '.join(_TABLES)}")
    return f"read_parquet('{_quoted(path / '*.parquet' if path.is_dir() else path)}')"


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _types(connection: duckdb.DuckDBPyConnection, relation: str) -> dict[str, str]:
    rows = connection.execute(f"DESCRIBE FROM {relation}").fetchall()
    return {row[0]: row[1] for row in rows if row[0] not in _NOT_COMPARED}


def _check_columns(expected: dict[str, str], actual: dict[str, str]) -> None:
    problems = [
        *(f"no column {name}" for name in expected if name not in actual),
        *(f"a column {name} too many" for name in actual if name not in expected),
        *(
            f"{name} is {actual[name]}, not {type_}"
            for name, type_ in expected.items()
            if name in actual and actual[name] != type_ and not any({actual[name], type_} <= alike for alike in _ALIKE)
        ),
    ]
    if problems:
        raise DifferentError(_some(problems))


def _digest(connection: duckdb.DuckDBPyConnection, relation: str, types: dict[str, str]) -> tuple[int, int]:
    """The number of rows and the sum of their hashes: the same in any order, but not when a row comes twice."""
    fields = ", ".join(f"{name}::{type_}" for name, type_ in types.items())
    row = connection.execute(f"SELECT count(*), coalesce(sum(hash({fields})::HUGEINT), 0) FROM {relation}").fetchone()
    assert row is not None, "an aggregate always returns a row"
    return int(row[0]), int(row[1])


def _explain(connection: duckdb.DuckDBPyConnection, reference: str, result: str, columns: list[str]) -> str:
    """The differences in words."""
    problems = []
    for what, one, other in (("missing", reference, result), ("too many", result, reference)):
        count, example = _one(
            connection,
            f"SELECT count(*), min(customer_id) FROM {one} AS one "
            f"WHERE NOT EXISTS (FROM {other} AS other WHERE other.customer_id = one.customer_id)",
        )
        if count:
            problems.append(f"{count:,} customers {what}, such as {example}")
    doubled, example = _one(
        connection,
        f"SELECT count(*), min(customer_id) FROM (SELECT customer_id FROM {result} GROUP BY ALL HAVING count(*) > 1)",
    )
    if doubled:
        problems.append(f"{doubled:,} customers more than once, such as {example}")
    problems += _different_fields(connection, reference, result, columns)
    return _some(problems) or "the rows have other hashes"


def _different_fields(
    connection: duckdb.DuckDBPyConnection, reference: str, result: str, columns: list[str]
) -> Iterator[str]:
    for name in columns:
        count, example = _one(
            connection,
            f"SELECT count(*), min({{'customer': customer_id, 'expected': a.{name}, 'actual': b.{name}}}) "
            f"FROM {reference} AS a JOIN {result} AS b USING (customer_id) WHERE a.{name} IS DISTINCT FROM b.{name}",
        )
        if count:
            customer_id, expected, actual = example.values()
            yield f"{name} differs for {count:,} customers, such as {customer_id}: {actual!r}, not {expected!r}"


def _one(connection: duckdb.DuckDBPyConnection, statement: str) -> tuple[int, Any]:
    row = connection.execute(statement).fetchone()
    assert row is not None, "an aggregate always returns a row"
    return int(row[0]), row[1]


def _some(problems: list[str]) -> str:
    more = len(problems) - _SHOWN
    return "; ".join(problems[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
