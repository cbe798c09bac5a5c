"""Parquet exports: the limits that a CSV file has by its nature, and which of several files is damaged.

In a CSV file a row takes at least a byte a cell, and a text as many bytes as it has. Parquet writes a repeated value
once, so that two kilobytes can hold millions of rows, and a megabyte some gigabytes of text.
"""

import re
from collections.abc import Iterable

import duckdb

from etl_assets.engine.reading.exports import Export, reason
from etl_assets.engine.reading.unpacking import unpacks_to_more
from etl_assets.engine.sql_text import parquet_sql, pattern_literal
from etl_assets.errors import Action, Advice, InputError

_BEYOND = "etl_assets: beyond the limit of file"


def row_count(export: Export, limit_bytes: int) -> int:
    """Rows of a Parquet file by its footer; InputError when it is wrong, or declares more cells than `limit_bytes`."""
    with export.held() as path, export.reader() as connection:
        file = pattern_literal(path)
        try:
            (promised,) = _numbers(connection, f"SELECT sum(num_rows)::BIGINT FROM parquet_file_metadata({file})")
            (listed,) = _numbers(
                connection,
                "SELECT coalesce(sum(row_group_num_rows), 0)::BIGINT FROM "
                f"(SELECT DISTINCT row_group_id, row_group_num_rows FROM parquet_metadata({file}))",
            )
        except duckdb.Error as error:
            export.stop.check()
            raise _damaged(export, reason(error, export, path)) from error
    if promised != listed:
        raise _damaged(export, f"{promised} rows in all, {listed} in its row groups")
    if promised * len(export.columns) > limit_bytes:
        raise unpacks_to_more(export.stat, limit_bytes)
    return promised


def _numbers(connection: duckdb.DuckDBPyConnection, query: str) -> list[int]:
    row = connection.execute(query).fetchone()
    assert row is not None, "an aggregate always returns a row"
    return [int(value) for value in row]


def bounded_sql(size: str, value: str, file_number: int, limit_bytes: int) -> str:
    """`value`, unless the `size` of this row and all before it is beyond the limit; the error is for `file_beyond`.

    The window is a running total: DuckDB computes it while the rows stream by, and stops at the first one beyond.
    """
    return (
        f"CASE WHEN sum({size}) OVER (ROWS UNBOUNDED PRECEDING) > {limit_bytes} "
        f"THEN error('{_BEYOND} {file_number}') ELSE {value} END"
    )


def file_beyond(error: duckdb.Error) -> int | None:
    """The number of the file whose texts are beyond the limit, if that is what the error says."""
    found = re.search(rf"{_BEYOND} (\d+)", str(error))
    return int(found[1]) if found else None


def require_readable(exports: Iterable[Export]) -> None:
    """Raise InputError for the first Parquet file that cannot be read to its end: DuckDB does not name it.

    Each is read over a connection of its own: after one damaged file, DuckDB may refuse everything on a connection.
    """
    for export in exports:
        if not export.is_parquet:
            continue
        with export.held() as path, export.reader() as connection:
            try:
                connection.execute(f"SELECT max(hash(row)) FROM {parquet_sql(path)} row").fetchone()
            except duckdb.OutOfMemoryException:
                # Large values are no damage.
                continue
            except duckdb.Error as error:
                export.stop.check()
                raise _damaged(export, reason(error, export, path)) from error


def _damaged(export: Export, why: str) -> InputError:
    return InputError(
        f"{export.shown} is a damaged Parquet file ({why}).", Advice(Action.EXPORT_AGAIN), subject=export.name
    )
