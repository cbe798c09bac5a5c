"""The published warehouse: what it says of itself, and whether its rows are those that were published."""

import contextlib
from collections.abc import Iterator

import duckdb
import numpy as np
import numpy.typing as npt

from etl_assets.engine import duck, keys
from etl_assets.engine.files.publishing import Home, scratch_directory
from etl_assets.engine.steps import build as shard

# Hashes of rows read at a time: 8 MB.
_PAGE_ROWS = 1_000_000


def read_publication(home: Home) -> dict[str, object] | None:
    """The `publication` row of the warehouse; None when nothing is published or it cannot be read."""
    if not home.warehouse.exists():
        return None
    try:
        with contextlib.closing(shard.open_read_only(home.warehouse)) as connection:
            cursor = connection.execute("SELECT * FROM publication")
            names = [column[0] for column in cursor.description or []]
            row = cursor.fetchone()
    except (duckdb.Error, OSError):
        return None
    return dict(zip(names, row, strict=True)) if row else None


@contextlib.contextmanager
def opened(home: Home, limits: duck.Limits) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for reading the whole of the published warehouse; duckdb.Error when it cannot be opened.

    To count distinct customers takes as much memory as there are customers, unless it is limited and may spill.
    """
    with scratch_directory(home) as scratch, duck.workbench(limits, scratch, folders=[home.root]) as connection:
        connection.execute(f"ATTACH {duck.literal(str(home.warehouse))} AS warehouse (READ_ONLY)")
        connection.execute("USE warehouse")
        yield connection


def damage(home: Home, limits: duck.Limits) -> str | None:
    """Read the published warehouse whole; returns what is wrong with its profiles, or None."""
    publication = read_publication(home)
    if publication is None:
        return "it cannot be read"
    try:
        with opened(home, limits) as connection:
            found = digest_profiles(connection)
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    return None if found == (publication["digest"], publication["record_count"]) else "its rows are not those published"


def digest_profiles(connection: duckdb.DuckDBPyConnection) -> tuple[str, int]:
    """xxh3_128 over the rows in customer_id order, and their number; what shard a customer is in does not matter.

    A row stands in it by DuckDB's 64-bit hash of all its columns but `shard_id`, so every published value counts.
    Compare digests of one code version: another DuckDB may hash otherwise. Deliberately not over the rows' text, which
    no version changes: that of all columns took five times as long, that of some would miss a change in the others.

    Leaves the temp table `row_hashes` (shard_id, row_hash) in customer_id order; it spills when it is big.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE row_hashes AS "
        f"SELECT shard_id, {shard.row_hash_sql(connection, 'merged_profiles')} AS row_hash FROM merged_profiles "
        "ORDER BY customer_id"
    )
    digest, record_count = keys.RowDigest(), 0
    while len(page := _page_of_hashes(connection, record_count)):
        digest.add(page)
        record_count += len(page)
    return digest.hexdigest(), record_count


def _page_of_hashes(connection: duckdb.DuckDBPyConnection, first: int) -> npt.NDArray[np.uint64]:
    """The next hashes; by pages, because one result has no bound."""
    page = connection.execute(
        "SELECT row_hash FROM row_hashes WHERE rowid >= ? AND rowid < ? ORDER BY rowid", [first, first + _PAGE_ROWS]
    ).fetchnumpy()
    return np.asarray(page["row_hash"], np.uint64)
