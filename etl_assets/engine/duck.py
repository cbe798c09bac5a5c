"""DuckDB connections: limits, the functions SQL may call, and the lockdown for untrusted input.

Every connection is in memory; databases on disk are attached. Without limits each process would take 80 % of the
memory and every core, and spill beside whatever it has open.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

import duckdb

from etl_assets.engine import keys, routing
from etl_assets.engine.workers import Stop

# Files that DuckDB 1.5 tools (DBeaver, older drivers) can still read; the 2.0 default cannot be read by them.
STORAGE_VERSION = "v1.5.0"


@dataclass(frozen=True)
class Limits:
    """What one connection may use, and by whom it can be stopped."""

    memory_mb: int
    threads: int = 1
    stop: Stop = field(default_factory=Stop, compare=False)


@contextlib.contextmanager
def workbench(limits: Limits, scratch: Path, *, folders: Sequence[Path] = ()) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory connection that may read and write only `folders` and `scratch`, and cannot be talked out of it."""
    connection = duckdb.connect()
    try:
        connection.execute(f"SET memory_limit = '{limits.memory_mb}MB'")
        connection.execute(f"SET threads = {limits.threads}")
        connection.execute(f"SET temp_directory = {literal(str(scratch))}")
        # A Parquet time stamp with a zone is written out in this one, whatever machine this is.
        connection.execute("SET TimeZone = 'UTC'")
        # Order within a file is kept by row numbers, never by luck.
        connection.execute("SET preserve_insertion_order = true")
        lock_down(connection, [scratch, *folders])
        with limits.stop.watching(connection):
            yield connection
    finally:
        connection.close()


def lock_down(connection: duckdb.DuckDBPyConnection, folders: Sequence[Path] = ()) -> None:
    """Confine the connection to `folders`; blocks `../`, links that lead out, ATTACH outside, INSTALL and later SET."""
    resolved = [str(folder.resolve()) for folder in folders]
    # A path is checked as it is written, and readers are given it as a pattern.
    spellings = dict.fromkeys(spelling for path in resolved for spelling in (path, pattern(path)))
    allowed = ", ".join(literal(f"{spelling}/") for spelling in spellings)
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def add_routing(connection: duckdb.DuckDBPyConnection, shard_count: int) -> None:
    """Give SQL the function `route(customer_id)`."""

    def route(customer_id: str) -> int:
        return routing.route(customer_id, shard_count)

    connection.create_function("route", route, ["VARCHAR"], "SMALLINT")


def add_hashing(connection: duckdb.DuckDBPyConnection) -> None:
    """Give SQL the function `stable_hash(text)`."""
    connection.create_function("stable_hash", keys.stable_hash, ["VARCHAR"], "VARCHAR")


def add_macros(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Define the macros of the named `sql/` files."""
    for name in names:
        connection.execute(sql(name))


@cache
def sql(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (resources.files("etl_assets.engine") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string literal, for the statements that take no parameters (SET, COPY, ATTACH)."""
    return "'" + text.replace("'", "''") + "'"


def pattern(path: Path | str) -> str:
    """The pattern that only this path matches: `read_csv` and its like would take `[ab].csv` for a.csv and b.csv."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def pattern_literal(path: Path | str) -> str:
    """`path` for the readers' functions in an SQL text."""
    return literal(pattern(path))


def scalar(connection: duckdb.DuckDBPyConnection, statement: str, parameters: Sequence[object] = ()) -> object:
    """The first value of the first row of a query that returns one."""
    row = connection.execute(statement, list(parameters)).fetchone()
    assert row is not None, "an aggregate always returns a row"
    return row[0]
