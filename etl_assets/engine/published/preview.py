"""Reading what is published: table descriptions, previews and timings, for whoever shows them. Nothing is written."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from etl_assets.engine import keys
from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.publishing import Home
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published import warehouse
from etl_assets.engine.steps import build as shard
from etl_assets.errors import ConfigError


def refuse_other_shard_count(home: Home, shard_count: int, *, force: bool = False) -> None:
    """ConfigError when the published warehouse was made of another number of shards; `force` lets it be replaced."""
    publication = warehouse.read_publication(home)
    if publication is None or force or publication["shard_count"] == shard_count:
        return
    published = publication["shard_count"]
    raise ConfigError(
        f"{home.warehouse} was published from {published} shards, but ETL_NUM_SHARDS is {shard_count}. Keep it with "
        f"ETL_NUM_SHARDS={published}, choose another ETL_HOME, or rebuild it for {shard_count} shards: "
        "etl-assets run --force"
    )


def stamp(home: Home, shard_count: int) -> str:
    """Changes whenever a shard, a source's snapshot or the warehouse is published."""
    stamps = [*shardset.file_stamps(home, shard_count).values(), storage.stamp(home.warehouse)]
    return keys.stable_hash("\n".join(stamps))


@dataclass(frozen=True)
class TableGlance:
    """A published table at a glance: its columns with their types, and its first rows in customer order."""

    columns: list[tuple[str, str]]
    rows: list[tuple[object, ...]]


Glance = Callable[[Path, str, int], TableGlance]


@contextlib.contextmanager
def looking() -> Iterator[Glance]:
    """A function that looks at the first `limit` rows of a published profile table: `glance(path, table, limit)`.

    For many files, one after another: to open a connection takes ten times as long as what is asked.
    """
    with contextlib.closing(duckdb.connect()) as connection:

        def glance(path: Path, table: str, limit: int) -> TableGlance:
            with shard.attached(connection, path):
                cursor = connection.execute(f"SELECT * FROM opened.{table} ORDER BY customer_id LIMIT {limit}")
                columns = [(str(name), str(kind)) for name, kind, *_ in cursor.description or []]
                return TableGlance(columns, cursor.fetchall())

        yield glance


def shard_timings(home: Home, limit: int) -> tuple[list[str], list[tuple[object, ...]]]:
    """Column names and a row a shard of the published warehouse, the slowest `limit` of them, slowest first."""
    return _rows(
        home.warehouse,
        "SELECT shard_id, record_count, elapsed_ms, read_ms, write_ms, attempt, run_id FROM shard_manifest "
        f"ORDER BY elapsed_ms DESC, shard_id LIMIT {limit}",
    )


def _rows(path: Path, query: str) -> tuple[list[str], list[tuple[object, ...]]]:
    with contextlib.closing(shard.open_read_only(path)) as connection:
        cursor = connection.execute(query)
        return [column[0] for column in cursor.description or []], cursor.fetchall()
