"""Published tables at a glance: columns, a few masked rows, timings; for metadata. Writes nothing."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.tables import SHARD_MANIFEST
from etl_assets.engine.sql_text import identifier
from etl_assets.project.contract import IDEMPOTENCY_COLUMN, SHARD_COLUMN, SOURCES_COLUMN, Contract

MASK = "•••"
MAX_COLUMNS = 12


@dataclass(frozen=True)
class TableGlance:
    """A published table at a glance: all its columns with their types, and its first rows in key order.

    `rows` has the columns that `shown` lists; personal data is masked.
    """

    columns: list[tuple[str, str]]
    shown: list[str]
    rows: list[tuple[object, ...]]


Glance = Callable[[Path, str, int], TableGlance]


@contextlib.contextmanager
def glancing(contract: Contract, *folders: Path) -> Iterator[Glance]:
    """A function that reads the first `limit` rows of a published profile table: `glance(path, table, limit)`.

    It can be called for many files: opening a connection takes ten times as long as reading a few rows.
    """
    with duck.reader(*folders) as connection:

        def glance(path: Path, table: str, limit: int) -> TableGlance:
            with duck.attached(connection, path, table):
                described = connection.execute(f"DESCRIBE opened.{identifier(table)}").fetchall()
                columns = [(str(name), str(kind)) for name, kind, *_ in described]
                shown = shown_columns(contract, [name for name, _ in columns])
                return TableGlance(columns, shown, _first_rows(connection, contract, table, shown, limit))

        yield glance


def shown_columns(contract: Contract, columns: Sequence[str]) -> list[str]:
    """A dozen columns at most: the key, names, declared profile columns and the sources first; hashes not at all.

    Masked columns are not among the first: the UI shows four to six columns without scrolling.
    """
    personal = contract.personal_columns
    declared = [column.name for column in contract.profile if column.name not in personal]
    first = [contract.key.name, *_names(columns), *declared, SOURCES_COLUMN]
    wanted = dict.fromkeys([*(name for name in first if name in columns), *columns])
    return [name for name in wanted if name not in (IDEMPOTENCY_COLUMN, SHARD_COLUMN)][:MAX_COLUMNS]


def _names(columns: Sequence[str]) -> list[str]:
    return [name for name in columns if name == "name" or name.endswith("_name")]


def _first_rows(
    connection: duckdb.DuckDBPyConnection, contract: Contract, table: str, shown: Sequence[str], limit: int
) -> list[tuple[object, ...]]:
    personal = contract.personal_columns
    cells = ", ".join(
        f"CASE WHEN {identifier(name)} IS NOT NULL THEN '{MASK}' END AS {identifier(name)}"
        if name in personal
        else identifier(name)
        for name in shown
    )
    key = identifier(contract.key.name)
    rows = connection.execute(f"SELECT {cells} FROM opened.{identifier(table)} ORDER BY {key} LIMIT {limit}").fetchall()
    return [tuple(row) for row in rows]


def shard_timings(home: Home, limit: int) -> tuple[list[str], list[tuple[object, ...]]]:
    """Column names and a row a shard of the published warehouse, the slowest `limit` of them, slowest first.

    As narrow as the place that an asset's page has for it on a screen of 1400 pixels; `shard_manifest` has the rest.
    """
    with duck.opened(home.warehouse, SHARD_MANIFEST.name) as connection:
        cursor = connection.execute(
            "SELECT shard_id AS shard, record_count AS records, elapsed_ms, attempt, left(run_id, 8) AS run "
            f"FROM shard_manifest ORDER BY elapsed_ms DESC, shard_id LIMIT {limit}"
        )
        return [column[0] for column in cursor.description or []], cursor.fetchall()
