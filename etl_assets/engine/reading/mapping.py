"""The key map of a source: from the ids that a system has of its own to the keys that all sources share.

A map is read as exports are: in the form of a source whose key is the id, it goes through the same patterns, headers,
dialects and limits. It becomes the temp table `_key_map`, to which the rows of the source are joined while they are
judged; whatever comes later sees keys only.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from etl_assets.engine.duck import scalar
from etl_assets.engine.files.documents import Count
from etl_assets.engine.reading import parquet_values
from etl_assets.engine.reading.forms import joined_key_sql, key_sql
from etl_assets.engine.reading.judging import KEY_MAP, cells_sql
from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.reading.quarantine import Reading
from etl_assets.engine.reading.rules import NESTED, ambiguous_key, cell_name, unmapped_key
from etl_assets.engine.reading.verified import FileStat, stat_files
from etl_assets.project.contract import Column, Source

_EXAMPLES = 3


@dataclass(frozen=True)
class Inputs:
    """The stats of all files that a source is made from: its exports, and those of its key map."""

    exports: tuple[FileStat, ...]
    maps: tuple[FileStat, ...] = ()

    @property
    def all(self) -> tuple[FileStat, ...]:
        """The exports, then the map's."""
        return self.exports + self.maps


@dataclass(frozen=True)
class UnmatchedIds:
    """The ids of a source's rows that stand for no key: how many, and those with the most rows."""

    id_count: Count
    examples: tuple[str, ...]


@dataclass(frozen=True)
class KeyMapFigures:
    """The accounting of a key map. Ignored are rows without an id or a key, malformed ones, and ids that are too long.

    `unmatched` is by the reason for which the rows of the source were rejected.
    """

    files: tuple[str, ...]
    rows_in: Count
    rows_ignored: Count
    id_count: Count
    unmatched: dict[str, UnmatchedIds] = field(default_factory=dict)


class MapSource(Source):
    """A key map in the form of a source: its key is the id, its columns make up the key that the id stands for."""

    @property
    def words_of_headers(self) -> tuple[str, str]:
        """The words of the contract that name the headers of the id, and of the key."""
        return "from", "to"

    @property
    def id_columns(self) -> frozenset[str]:
        """Its columns make up a key as the id does."""
        return frozenset(self.required)

    @property
    def needed(self) -> frozenset[str]:
        """Without any of its columns it leads nowhere."""
        return frozenset(column.name for column in self.columns)


def map_source(source: Source) -> Source | None:
    """The key map of a source as something to read; None without one."""
    declared = source.key_map
    if declared is None:
        return None
    columns = [
        Column.model_validate({"name": f"to_{number}", "from": header}) for number, header in enumerate(declared.to)
    ]
    # Unchecked: the name is where the map is in the contract, which is no name of a source.
    made = MapSource.model_construct(
        name=f"{source.name}.key_map",
        files=declared.files,
        key_from=declared.from_,
        csv=declared.csv,
        csv_by_file=declared.csv_by_file,
        sheet=declared.sheet,
        columns=tuple(columns),
    )
    return made.with_key(source.key.model_copy(update={"name": "from"}))


def find_inputs(source: Source, root: Path) -> Inputs:
    """Find the files of a source and of its key map; InputError as for `find_files`."""
    mapped = map_source(source)
    exports = stat_files(find_files(source, root), root)
    return Inputs(tuple(exports), tuple(stat_files(find_files(mapped, root), root)) if mapped else ())


def add_key_map(
    connection: duckdb.DuckDBPyConnection, source: Source, readings: Sequence[Reading]
) -> KeyMapFigures | None:
    """Make the temp table `_key_map` (id, key), an id once; its key is null where rows give it several keys.

    None for a source without a map.
    """
    mapped = map_source(source)
    if mapped is None:
        return None
    parquet_values.require_values([reading.export for reading in readings], mapped)
    to = [cell_name(column.name) for column in mapped.columns]
    key = key_sql(to[0] if len(to) == 1 else joined_key_sql(to, source.key), source.key)
    # A list or an object is no id and no key.
    nested = f" WHERE {NESTED} IS NULL" if any(reading.export.is_objects for reading in readings) else ""
    # Grouped by both: a minimum of texts would be kept in memory that has no limit, and is never spilled.
    connection.execute(
        f"CREATE TEMP TABLE {KEY_MAP} AS SELECT id, key, count(*) AS row_count "
        f"FROM (SELECT {key_sql(cell_name(mapped.key.name), source.key)} AS id, {key} AS key "
        f"FROM ({cells_sql(mapped, readings)}){nested}) "
        f"WHERE length(id) <= {source.key.max_chars} AND key IS NOT NULL GROUP BY id, key"
    )
    rows_in = sum(reading.record_count for reading in readings)
    rows_used = scalar(connection, f"SELECT coalesce(sum(row_count), 0)::BIGINT FROM {KEY_MAP}")
    connection.execute(
        f"CREATE TEMP TABLE _ambiguous AS SELECT id FROM {KEY_MAP} GROUP BY id HAVING count(*) > 1;"
        f"DELETE FROM {KEY_MAP} WHERE id IN (FROM _ambiguous);"
        f"INSERT INTO {KEY_MAP} SELECT id, NULL, 0 FROM _ambiguous;"
        "DROP TABLE _ambiguous"
    )
    id_count = scalar(connection, f"SELECT count(*) FROM {KEY_MAP}")
    assert isinstance(rows_used, int), "a sum of counts"
    assert isinstance(id_count, int), "a count"
    files = tuple(reading.export.name for reading in readings)
    return KeyMapFigures(files, rows_in, rows_in - rows_used, id_count)


def drop_key_map(connection: duckdb.DuckDBPyConnection) -> None:
    """Give the memory of the map to the steps after the join."""
    connection.execute(f"DROP TABLE IF EXISTS {KEY_MAP}")


def unmatched_ids(connection: duckdb.DuckDBPyConnection, source: Source) -> dict[str, UnmatchedIds]:
    """The ids in the temp table `rejected` that stand for no key, by reason; empty for a source without a map."""
    found = {}
    for reason in (unmapped_key(source.key), ambiguous_key(source.key)) if source.key_map else ():
        rows = connection.execute(
            "SELECT key, count(*) OVER () FROM rejected WHERE reason = ? GROUP BY key ORDER BY count(*) DESC, key "
            f"LIMIT {_EXAMPLES}",
            [reason],
        ).fetchall()
        if rows:
            found[reason] = UnmatchedIds(rows[0][1], tuple(key for key, _ in rows))
    return found
