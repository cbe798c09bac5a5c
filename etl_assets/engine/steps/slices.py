"""From the partitions that one COPY wrote to one slice file a shard, each with the last row of every key."""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from etl_assets.engine.files import publishing
from etl_assets.engine.published.snapshots import SUPERSEDED, Slice, measure_slices
from etl_assets.engine.reading.judging import FILE_INDEX, PARTITION, REASON, REJECTED, SOURCE_ROW, no_rows_sql
from etl_assets.engine.sql_text import identifier, literal, pattern, pattern_literal
from etl_assets.project.contract import Source

# The newer encodings are a fifth smaller and read in two thirds of the time. The search for a dictionary is given up
# early, because addresses and names have none.
PARQUET = "FORMAT parquet, COMPRESSION snappy, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 5000"


def finish_slices(
    connection: duckdb.DuckDBPyConnection, source: Source, shard_ids: Sequence[str], target: Path
) -> list[Slice]:
    """Give every shard its slice file, without superseded rows; those join the rejected ones.

    Leaves the temp table `rejected` (file_index, source_row, key, reason) for the quarantine.
    """
    connection.execute(
        "CREATE TEMP TABLE rejected (file_index SMALLINT, source_row BIGINT, key VARCHAR, reason VARCHAR)"
    )
    nothing = no_rows_sql(source)
    rejected = target / "rejected.parquet"
    _take_partition(connection, nothing, target, REJECTED, rejected)
    connection.execute(
        f"INSERT INTO rejected SELECT {FILE_INDEX}, {SOURCE_ROW}, {identifier(source.key.name)}, {REASON} "
        "FROM read_parquet(?)",
        [pattern(rejected)],
    )
    publishing.remove(rejected)
    paths = {shard_id: target / f"{shard_id}.parquet" for shard_id in shard_ids}
    for number, path in enumerate(paths.values()):
        _take_partition(connection, nothing, target, number, path)
    measured = measure_slices(connection, source, list(paths.values()))
    doubled = [path for path, (record_count, key_count, _) in measured.items() if key_count < record_count]
    for path in doubled:
        _supersede(connection, source, path)
    measured |= measure_slices(connection, source, doubled)
    return [Slice(shard_id, measured[path][0], measured[path][2]) for shard_id, path in paths.items()]


def _take_partition(connection: duckdb.DuckDBPyConnection, nothing: str, target: Path, number: int, path: Path) -> None:
    """Move the one file COPY wrote for a partition to its name; a partition without rows becomes an empty file."""
    folder = target / f"{PARTITION}={number}"
    files = publishing.list_files(folder, ".parquet")
    if len(files) == 1:
        publishing.rename(files[0], path)
        publishing.remove_empty(folder)
        return
    # Without its own column: a partition is no part of a slice.
    rows = f"SELECT * FROM read_parquet({pattern_literal(folder)} || '/*.parquet', hive_partitioning = false)"
    connection.execute(f"COPY ({rows if files else nothing}) TO {literal(str(path))} ({PARQUET})")
    publishing.remove(folder)


def _supersede(connection: duckdb.DuckDBPyConnection, source: Source, path: Path) -> None:
    """Keep each key's last row in file order; the earlier ones are recorded as superseded."""
    key = identifier(source.key.name)
    window = f"row_number() OVER (PARTITION BY {key} ORDER BY {FILE_INDEX} DESC, {SOURCE_ROW} DESC)"
    connection.execute(
        f"INSERT INTO rejected SELECT {FILE_INDEX}, {SOURCE_ROW}, {key}, '{SUPERSEDED}' "
        f"FROM read_parquet(?) QUALIFY {window} > 1",
        [pattern(path)],
    )
    deduped = path.with_suffix(".deduped")
    connection.execute(
        f"COPY (SELECT * FROM read_parquet({pattern_literal(path)}) t ANTI JOIN "
        f"(SELECT file_index AS {FILE_INDEX}, source_row AS {SOURCE_ROW} FROM rejected "
        f"WHERE reason = '{SUPERSEDED}') r USING ({FILE_INDEX}, {SOURCE_ROW})) TO {literal(str(deduped))} ({PARQUET})"
    )
    publishing.rename(deduped, path)
