"""From the partitions that one COPY wrote to one slice file a shard, each without the rows that later ones replaced.

Of a source with one record a key, that is all but the last row of a key. Of one with many, all but the last row of each
`row_key`, in whichever shards they are; without a `row_key`, no row replaces another.
"""

from collections.abc import Sequence
from pathlib import Path

import duckdb

from etl_assets.engine.files import folder_entries, publishing, sweeping
from etl_assets.engine.published.measuring import measure_rejected_keys, measure_slices
from etl_assets.engine.published.snapshots import REJECTED_KEYS_FILE, SUPERSEDED, Slice
from etl_assets.engine.reading.judging import FILE_INDEX, PARTITION, REJECTED, SOURCE_ROW, no_rows_sql
from etl_assets.engine.reading.rules import BAD_CELLS, ISSUES, REASON, ambiguous_key, unmapped_key
from etl_assets.engine.sql_text import identifier, identifiers, literal, pattern, pattern_list, pattern_literal
from etl_assets.project.contract import Source

# The newer encodings are a fifth smaller and read in two thirds of the time. The search for a dictionary is given up
# early, because addresses and names have none.
PARQUET = "FORMAT parquet, COMPRESSION snappy, PARQUET_VERSION v2, DICTIONARY_SIZE_LIMIT 5000"
# Keys of superseded rows that may have been the last ones.
_DOUBTFUL = "doubtful"


def finish_slices(
    connection: duckdb.DuckDBPyConnection, source: Source, shard_ids: Sequence[str], target: Path
) -> list[Slice]:
    """Give every shard its slice file, without superseded rows; those join the rejected ones.

    Leaves the temp table `rejected` (file_index, source_row, key, reason, cell) for the quarantine.
    """
    connection.execute(
        "CREATE TEMP TABLE rejected (file_index SMALLINT, source_row BIGINT, key VARCHAR, reason VARCHAR, cell VARCHAR)"
    )
    connection.execute(f"CREATE TEMP TABLE {_DOUBTFUL} (key VARCHAR)")
    nothing = no_rows_sql(source)
    rejected = target / "rejected.parquet"
    _take_partition(connection, nothing, target, REJECTED, rejected)
    connection.execute(
        f"INSERT INTO rejected SELECT {FILE_INDEX}, {SOURCE_ROW}, {identifier(source.key.name)}, {REASON}, NULL "
        "FROM read_parquet(?)",
        [pattern(rejected)],
    )
    _record_cells(connection, source, [rejected], "")
    sweeping.remove(rejected)
    paths = {shard_id: target / f"{shard_id}.parquet" for shard_id in shard_ids}
    # The join with a key map gives rows in any order. Sums of fractions over the rows of a key depend on it.
    is_mixed = source.key_map is not None and source.has_many
    for number, path in enumerate(paths.values()):
        _take_partition(connection, nothing, target, number, path, is_mixed=is_mixed)
    measured = measure_slices(connection, source, list(paths.values()))
    if source.has_many:
        doubled = _supersede_records(connection, source, list(paths.values())) if source.row_key else []
    else:
        doubled = [path for path, figures in measured.items() if figures.key_count < figures.record_count]
        for path in doubled:
            _supersede(connection, source, [path], source.key.name)
    for path in doubled:
        _drop_superseded(connection, path)
    measured |= measure_slices(connection, source, doubled)
    with_issues = [path for path, figures in measured.items() if figures.issue_count]
    rejected_keys = _write_rejected_keys(connection, source, shard_ids, target)
    if with_issues:
        _record_cells(connection, source, with_issues, "invalid:")
    return [Slice(shard_id, *measured[path], *rejected_keys.get(shard_id, (0, ""))) for shard_id, path in paths.items()]


def _record_cells(connection: duckdb.DuckDBPyConnection, source: Source, paths: Sequence[Path], prefix: str) -> None:
    """Record the bad cells: those that became null, and those of rejected rows besides the one that is the reason."""
    connection.execute(
        f"INSERT INTO rejected SELECT {FILE_INDEX}, {SOURCE_ROW}, {identifier(source.key.name)}, "
        f"'{prefix}' || unnest(string_split({ISSUES}, ',')), unnest({BAD_CELLS}) "
        f"FROM read_parquet({pattern_list(paths)}) WHERE {ISSUES} IS NOT NULL"
    )


def _write_rejected_keys(
    connection: duckdb.DuckDBPyConnection, source: Source, shard_ids: Sequence[str], target: Path
) -> dict[str, tuple[int, str]]:
    """Write which keys lost a row, in the shards' order; returns the number of keys and their hash by shard.

    Without rows that a later one replaced, and without keys that no profile can have: an id that stands for no key may
    be the key of someone else.
    """
    key = source.key
    left_out = (SUPERSEDED, f"invalid:{key.name}", unmapped_key(key), ambiguous_key(key))
    path = target / REJECTED_KEYS_FILE
    doubtful = f"UNION SELECT key FROM {_DOUBTFUL}" if source.latest_by else ""
    reasons = ", ".join(map(literal, left_out))
    keys = f"SELECT key FROM rejected WHERE key IS NOT NULL AND reason NOT IN ({reasons}) {doubtful}"
    connection.execute(
        f"COPY (SELECT DISTINCT key, route(key) AS shard FROM ({keys}) ORDER BY shard, key) "
        f"TO {literal(str(path))} ({PARQUET})"
    )
    return {shard_ids[number]: figures for number, figures in measure_rejected_keys(connection, path).items()}


def _take_partition(
    connection: duckdb.DuckDBPyConnection,
    nothing: str,
    target: Path,
    number: int,
    path: Path,
    *,
    is_mixed: bool = False,
) -> None:
    """Move the one file COPY wrote for a partition to its name; a partition without rows becomes an empty file.

    If `is_mixed`, its rows are brought into the order of the files.
    """
    folder = target / f"{PARTITION}={number}"
    files = folder_entries.list_files(folder, ".parquet")
    if len(files) == 1 and not is_mixed:
        publishing.rename(files[0], path)
        sweeping.remove_empty(folder)
        return
    # Without its own column: a partition is no part of a slice.
    rows = f"SELECT * FROM read_parquet({pattern_literal(folder)} || '/*.parquet', hive_partitioning = false)"
    if is_mixed:
        rows += f" ORDER BY {FILE_INDEX}, {SOURCE_ROW}"
    connection.execute(f"COPY ({rows if files else nothing}) TO {literal(str(path))} ({PARQUET})")
    sweeping.remove(folder)


def _supersede_records(connection: duckdb.DuckDBPyConnection, source: Source, paths: Sequence[Path]) -> list[Path]:
    """Record which rows of all slices together are superseded; returns the slices that hold any.

    A record may have moved to another key, and so to another shard: only the last one counts there too.
    """
    columns = identifiers(source.row_key)
    rows = f"read_parquet({pattern_list(paths)})"
    counts = connection.execute(f"SELECT count(*), count(DISTINCT ({columns})) FROM {rows}").fetchone()
    assert counts is not None, "an aggregate always returns a row"
    if counts[0] == counts[1]:
        return []
    _supersede(connection, source, paths, *source.row_key)
    found = connection.execute(
        f"SELECT DISTINCT filename FROM read_parquet({pattern_list(paths)}, filename = true) "
        f"SEMI JOIN {_superseded_sql()} USING ({FILE_INDEX}, {SOURCE_ROW})"
    ).fetchall()
    return [path for path in paths if (str(path),) in found]


def _supersede(connection: duckdb.DuckDBPyConnection, source: Source, paths: Sequence[Path], *columns: str) -> None:
    """Record all but the last of the rows with equal columns: by the source's own order, else by that of its files."""
    latest = f"{identifier(source.latest_by)} DESC NULLS LAST, " if source.latest_by else ""
    window = (
        f"row_number() OVER (PARTITION BY {identifiers(columns)} ORDER BY {latest}{FILE_INDEX} DESC, {SOURCE_ROW} DESC)"
    )
    rows = f"read_parquet({pattern_list(paths)})"
    key = identifier(source.key.name)
    if source.latest_by:
        # Of a row whose own order is unreadable, no one knows whether it is the last one.
        is_unreadable = f"contains(',' || {ISSUES} || ',', {literal(f',{source.latest_by},')})"
        connection.execute(
            f"INSERT INTO {_DOUBTFUL} SELECT {key} FROM (SELECT {key}, {ISSUES} FROM {rows} QUALIFY {window} > 1) "
            f"WHERE {is_unreadable}"
        )
    connection.execute(
        f"INSERT INTO rejected SELECT {FILE_INDEX}, {SOURCE_ROW}, {key}, '{SUPERSEDED}', NULL "
        f"FROM {rows} QUALIFY {window} > 1"
    )


def _superseded_sql() -> str:
    return (
        f"(SELECT file_index AS {FILE_INDEX}, source_row AS {SOURCE_ROW} FROM rejected WHERE reason = '{SUPERSEDED}') r"
    )


def _drop_superseded(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    """Write the slice again, without the rows that are recorded as superseded."""
    deduped = path.with_suffix(".deduped")
    connection.execute(
        f"COPY (SELECT * FROM read_parquet({pattern_literal(path)}) t "
        f"ANTI JOIN {_superseded_sql()} USING ({FILE_INDEX}, {SOURCE_ROW})) TO {literal(str(deduped))} ({PARQUET})"
    )
    publishing.rename(deduped, path)
