"""The relations that a project's `sql/profiles.sql` reads, over the slices of one shard or of several.

Each source is a relation of its own name. The entity's relation has one row for each key: a struct for each source
with one record a key, null fields where it has none, and `base`: key, sources, issues, shard_id, idempotency_key.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from etl_assets.engine.files.layout import Home
from etl_assets.engine.keys import RECORDS, SOURCE_NAME, encoding_sql, records_sql
from etl_assets.engine.published.shards import ShardInput
from etl_assets.engine.published.snapshots import REJECTED_KEYS_FILE
from etl_assets.engine.reading.rules import ISSUES
from etl_assets.engine.routing import shard_key_sql, shard_number
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, identifiers, literal, pattern_list, pattern_literal
from etl_assets.project.contract import (
    BASE,
    IDEMPOTENCY_COLUMN,
    ISSUES_COLUMN,
    SHARD_COLUMN,
    SOURCES_COLUMN,
    Contract,
    Source,
)

# What a profile's issues say of a source whose row of this key went to quarantine.
ROW_REJECTED = "row rejected"
_IS_REJECTED = "_is_rejected"


@dataclass(frozen=True)
class Relations:
    """The slices as SQL by source; `rejected` has the keys that lost a row, `shard` is SQL for a row's shard."""

    contract: Contract
    slices: Mapping[str, str]
    shard: str
    rejected: Mapping[str, str] = field(default_factory=dict)

    def joined(self) -> str:
        """The slices joined by key; of a source with many records, their encodings in one row a key."""
        using = f"USING ({identifier(self.contract.key.name)})"
        first, *others = [
            f"{_row_a_key(source, self.slices[source.name])} AS {identifier(source.name)}"
            for source in self.contract.sources
        ]
        full = "".join(f"\nFULL JOIN {other} {using}" for other in others)
        # A key whose every row was rejected has no profile.
        left = "".join(f"\nLEFT JOIN {keys} AS {_rejected_name(name)} {using}" for name, keys in self.rejected.items())
        return first + full + left

    def base_fields(self) -> dict[str, str]:
        """The columns that the engine adds to the sources': name and SQL over the joined slices."""
        key = identifier(self.contract.key.name)
        names = ", ".join(f"{identifier(name)}.{SOURCE_NAME}" for name in self.contract.source_names)
        return {
            self.contract.key.name: key,
            SOURCES_COLUMN: f"list_filter([{names}], lambda name: name IS NOT NULL)",
            ISSUES_COLUMN: self._issues_sql(),
            SHARD_COLUMN: self.shard,
            IDEMPOTENCY_COLUMN: f"{key} || ':' || stable_hash({encoding_sql(self.contract.sources)})",
        }

    def views(self) -> str:
        """The common table expressions of all relations."""
        contract = self.contract
        views = [
            f"{identifier(source.name)} AS (SELECT {identifiers(source.required)} FROM {self.slices[source.name]})"
            for source in contract.sources
        ]
        base = ", ".join(f"{identifier(name)} := {value}" for name, value in self.base_fields().items())
        structs = [f"struct_pack({base}) AS {BASE}"]
        structs += [
            f"{_struct_sql(source)} AS {identifier(source.name)}" for source in contract.sources if not source.has_many
        ]
        return ", ".join(
            [*views, f"{identifier(contract.entity)} AS (SELECT {', '.join(structs)} FROM {self.joined()})"]
        )

    def _issues_sql(self) -> str:
        """What a profile lacks because it was invalid: cells by source and column, and sources that lost a row."""
        marks, found = [], []
        for source in self.contract.sources:
            cells = f"{identifier(source.name)}.{ISSUES}"
            if source.has_issues:
                marks.append(cells)
                names = f"list_transform(string_split({cells}, ','), lambda name: '{source.name}.' || name)"
                found.append(f"coalesce({names}, [])")
            if source.name in self.rejected:
                marks.append(f"{_rejected_name(source.name)}.{_IS_REJECTED}")
                found.append(f"CASE WHEN {marks[-1]} THEN ['{source.name}: {ROW_REJECTED}'] ELSE [] END")
        if not marks:
            return "[]::VARCHAR[]"
        # Nearly every profile has none, and making lists takes long.
        nothing = " AND ".join(f"{mark} IS NULL" for mark in marks)
        return f"CASE WHEN {nothing} THEN []::VARCHAR[] ELSE flatten([{', '.join(found)}]) END"


def over_slices(site: Site, given: Sequence[ShardInput]) -> Relations:
    """The relations over the slices of these shards."""
    contract, first = site.contract, given[0]
    is_one = len(given) == 1
    rejected = {source.name: _rejected_sql(site.home, given, source) for source in contract.sources}
    return Relations(
        contract,
        {source.name: _slice_sql(site.home, given, source) for source in contract.sources},
        literal(first.shard_id) if is_one else shard_key_sql(identifier(contract.key.name), first.shard_count),
        {name: keys for name, keys in rejected.items() if keys},
    )


def over_nothing(contract: Contract) -> Relations:
    """The same relations without rows, to bind a query to."""
    return Relations(contract, {source.name: _no_rows_sql(source) for source in contract.sources}, literal(""))


def base_types(contract: Contract) -> dict[str, str]:
    """The columns of `base` and their types in DuckDB."""
    return {
        contract.key.name: "VARCHAR",
        SOURCES_COLUMN: "VARCHAR[]",
        ISSUES_COLUMN: "VARCHAR[]",
        SHARD_COLUMN: "VARCHAR",
        IDEMPOTENCY_COLUMN: "VARCHAR",
    }


def needed_of_base(contract: Contract) -> dict[str, str]:
    """Those of them that every profile must have: its issues only where a record may have any."""
    is_whole = not any(source.has_issues for source in contract.sources)
    return {name: kind for name, kind in base_types(contract).items() if name != ISSUES_COLUMN or not is_whole}


def _row_a_key(source: Source, rows: str) -> str:
    if not source.has_many:
        return rows
    key = identifier(source.key.name)
    issues = f"list(string_split({ISSUES}, ',')) FILTER ({ISSUES} IS NOT NULL)"
    return (
        f"(SELECT '{source.name}' AS {SOURCE_NAME}, {key}, {records_sql(source)} AS {RECORDS}, "
        f"array_to_string(list_sort(list_distinct(flatten({issues}))), ',') AS {ISSUES} FROM {rows} GROUP BY {key})"
    )


def _struct_sql(source: Source) -> str:
    fields = ", ".join(
        f"{identifier(column.name)} := {identifier(source.name)}.{identifier(column.name)}" for column in source.columns
    )
    return f"struct_pack({fields})"


def _slice_sql(home: Home, given: Sequence[ShardInput], source: Source) -> str:
    """A source's slices as a relation, with the source's name on every row so that presence shows after the joins."""
    paths = [home.snapshot(source.name, g.snapshots[source.name].folder) / f"{g.shard_id}.parquet" for g in given]
    columns = identifiers([*source.required, ISSUES])
    return f"(SELECT '{source.name}' AS {SOURCE_NAME}, {columns} FROM read_parquet({pattern_list(paths)}))"


def _no_rows_sql(source: Source) -> str:
    """A relation like that of a slice, without rows."""
    columns = ", ".join(f"NULL::{column.duckdb} AS {identifier(column.name)}" for column in source.columns)
    key = identifier(source.key.name)
    return (
        f"(SELECT '{source.name}' AS {SOURCE_NAME}, NULL::VARCHAR AS {key}, {columns}, NULL::VARCHAR AS {ISSUES} "
        "WHERE false)"
    )


def _rejected_name(source: str) -> str:
    return identifier(f"_rejected_{source}")


def _rejected_sql(home: Home, given: Sequence[ShardInput], source: Source) -> str:
    """The keys of these shards that lost a row of the source; empty when none did."""
    numbers: dict[Path, list[str]] = {}
    for g in given:
        snapshot = g.snapshots[source.name]
        if snapshot.slice_of(g.shard_id).rejected_count:
            path = home.snapshot(source.name, snapshot.folder) / REJECTED_KEYS_FILE
            numbers.setdefault(path, []).append(str(shard_number(g.shard_id)))
    parts = [
        f"SELECT key AS {identifier(source.key.name)}, true AS {_IS_REJECTED} "
        f"FROM read_parquet({pattern_literal(path)}) WHERE shard IN ({', '.join(shards)})"
        for path, shards in numbers.items()
    ]
    return f"({' UNION ALL '.join(parts)})" if parts else ""
