"""One record a key in the merged profiles; routing makes it so, since all records of a key are in one shard."""

from dataclasses import dataclass

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.sql_text import identifier
from etl_assets.engine.steps.near_keys import has_near_keys
from etl_assets.project.contract import IDEMPOTENCY_COLUMN, SHARD_COLUMN, Contract


@dataclass(frozen=True)
class Distinct:
    """How distinct the keys are: records dropped because their key was there, and whether others look alike."""

    dropped_count: int = 0
    has_near_keys: bool = False


def drop_duplicates(connection: duckdb.DuckDBPyConnection, contract: Contract) -> Distinct:
    """Keep one record a key."""
    # Keys that differ in their plain form differ: of most data, nothing else is asked.
    if not has_near_keys(connection, contract):
        return Distinct()
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
    return Distinct(dropped, has_near_keys=True)
