"""The profiles of shards, copied into the warehouse that is being merged."""

from collections.abc import Sequence

import duckdb

from etl_assets.engine.published.shards import FILES_A_STATEMENT, PROFILES, Manifest, refusal, verify_shards
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import pattern_list


def copy_shards(
    site: Site, connection: duckdb.DuckDBPyConnection, manifests: Sequence[Manifest], *, append: bool
) -> None:
    """Copy the profiles of these shards, many a statement; `append` to a table that exists.

    Deliberately not from attached files with UNION ALL: its branches run one after another, so that a shard of one row
    group keeps all threads but one idle.
    """
    for first in range(0, len(manifests), FILES_A_STATEMENT):
        batch = manifests[first : first + FILES_A_STATEMENT]
        paths = pattern_list(site.home.shard_file(manifest.shard_id) for manifest in batch)
        verb = f"INSERT INTO {PROFILES_TABLE}" if first or append else f"CREATE TABLE {PROFILES_TABLE} AS"
        try:
            connection.execute(f"{verb} SELECT * FROM read_duckdb({paths}, table_name = '{PROFILES}')")
        except duckdb.InterruptException:
            raise
        except duckdb.Error as error:
            # DuckDB raises errors of several types for a damaged file, and they do not name the file.
            damaged = verify_shards(site.home, batch)
            if not damaged:
                raise
            raise refusal(damaged) from error
