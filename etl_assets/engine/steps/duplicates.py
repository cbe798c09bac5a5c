"""One record a key in the merged profiles."""

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.sql_text import identifier
from etl_assets.project.contract import IDEMPOTENCY_COLUMN, SHARD_COLUMN, Contract


def drop_duplicates(connection: duckdb.DuckDBPyConnection, contract: Contract) -> int:
    """Keep one record a key; routing makes this a no-op, since all records of a key are in one shard."""
    key = identifier(contract.key.name)
    key_count = f"SELECT count(DISTINCT {key}) FROM {PROFILES_TABLE}"
    dropped = duck.scalar(connection, f"SELECT count(*) - ({key_count}) FROM {PROFILES_TABLE}")
    assert isinstance(dropped, int), "a difference of counts"
    if dropped:
        order = f"ORDER BY {IDEMPOTENCY_COLUMN}, {SHARD_COLUMN}, rowid"
        connection.execute(
            f"""
            DELETE FROM {PROFILES_TABLE} WHERE rowid IN (
                SELECT rowid FROM {PROFILES_TABLE} QUALIFY row_number() OVER (PARTITION BY {key} {order}) > 1
            )"""
        )
    return dropped
