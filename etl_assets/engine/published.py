"""Reading what is published: table descriptions, previews and timings, for whoever shows them. Nothing is written."""

import contextlib
from pathlib import Path

from etl_assets.engine import merge, shard
from etl_assets.engine.errors import ConfigError
from etl_assets.engine.storage import Home


def refuse_other_shard_count(home: Home, shard_count: int, *, force: bool = False) -> None:
    """ConfigError when the published warehouse was made of another number of shards; `force` lets it be replaced."""
    publication = merge.read_publication(home)
    if publication is None or force or publication["shard_count"] == shard_count:
        return
    published = publication["shard_count"]
    raise ConfigError(
        f"{home.warehouse} was published from {published} shards, but ETL_NUM_SHARDS is {shard_count}. Keep it with "
        f"ETL_NUM_SHARDS={published}, choose another ETL_HOME, or rebuild it for {shard_count} shards: "
        "etl-assets run --force"
    )


def describe_table(path: Path, table: str) -> list[tuple[str, str]]:
    """Names and types of a published table's columns."""
    with contextlib.closing(shard.open_read_only(path)) as connection:
        return [(row[0], row[1]) for row in connection.execute(f"DESCRIBE {table}").fetchall()]


def preview(path: Path, table: str, limit: int) -> tuple[list[str], list[tuple[object, ...]]]:
    """Column names and the first rows of a published profile table, in customer order."""
    return _rows(path, f"SELECT * FROM {table} ORDER BY customer_id LIMIT {limit}")


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
