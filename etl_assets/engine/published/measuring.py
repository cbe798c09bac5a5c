"""The figures of a snapshot's files: what it promises, and what they are checked against."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from etl_assets.engine.files.publishing import size_bytes
from etl_assets.engine.hashing import SetHash, set_hash_sql
from etl_assets.engine.reading.rules import ISSUES
from etl_assets.engine.sql_text import identifier, pattern_list, pattern_literal
from etl_assets.project.contract import Source

# Slices that one statement measures: their keys fit into little memory together.
_FILES_A_STATEMENT, _BYTES_A_STATEMENT = 64, 4 << 20


class SliceFigures(NamedTuple):
    """Rows, distinct keys, hash of the rows and rows with issues, of one slice's file."""

    record_count: int
    key_count: int
    content_hash: str
    issue_count: int


def measure_slices(
    connection: duckdb.DuckDBPyConnection, source: Source, paths: Sequence[Path]
) -> dict[Path, SliceFigures]:
    """The figures of slice files; small ones are read together, in a third of the time."""
    measured: dict[Path, SliceFigures] = {}
    for batch in _batches(paths):
        measured |= _measure(connection, source, batch)
    return measured


def measure_rejected_keys(connection: duckdb.DuckDBPyConnection, path: Path) -> dict[int, tuple[int, str]]:
    """How many keys lost a row, and their hash, by the number of the shard; without the shards that have none."""
    rows = connection.execute(
        f"SELECT shard, {set_hash_sql(['key'])} FROM read_parquet({pattern_literal(path)}) GROUP BY shard"
    ).fetchall()
    return {number: (keys.count, str(keys)) for number, *sums in rows for keys in [SetHash.of_row(sums)]}


def _measure(connection: duckdb.DuckDBPyConnection, source: Source, paths: Sequence[Path]) -> dict[Path, SliceFigures]:
    rows = f"read_parquet({pattern_list(paths)}, filename = true)"
    key = identifier(source.key.name)
    # Which cells were lost is part of a profile, too.
    hashed = [*source.required, ISSUES] if source.has_issues else source.required
    issue_count = f"count({ISSUES})" if source.has_issues else "0"
    # Deliberately two statements: beside other aggregates, counting distinct values takes three times as long.
    sums = connection.execute(
        f"SELECT filename, {issue_count}, {set_hash_sql(hashed)} FROM {rows} GROUP BY filename"
    ).fetchall()
    counts = connection.execute(f"SELECT filename, count(DISTINCT {key}) FROM {rows} GROUP BY ALL").fetchall()
    keys = dict(counts)
    figures = {
        name: SliceFigures(content.count, keys[name], str(content), issues)
        for name, issues, *values in sums
        for content in [SetHash.of_row(values)]
    }
    # A file without rows has no group.
    return {path: figures.get(str(path), SliceFigures(0, 0, str(SetHash()), 0)) for path in paths}


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    batch: list[Path] = []
    for path in paths:
        batch.append(path)
        if len(batch) == _FILES_A_STATEMENT or sum(size_bytes(one) or 0 for one in batch) >= _BYTES_A_STATEMENT:
            yield batch
            batch = []
    if batch:
        yield batch
