"""Every published table declared once: its columns, their types and what they mean.

The statements that create, fill and comment a table follow from its declaration, and so do `query --help` and the
tables of the documentation.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import duckdb

from etl_assets.engine.duck import transaction
from etl_assets.engine.sql_text import identifier, literal
from etl_assets.project.contract import IDEMPOTENCY_COLUMN, ISSUES_COLUMN, SHARD_COLUMN, SOURCES_COLUMN, Contract

# Names of tables do not depend on what is declared.
_ANY_CONTRACT = Contract(name="any", sources=({"name": "any", "columns": ["any"]},))  # type: ignore[arg-type]


@dataclass(frozen=True)
class TableColumn:
    """One column; `attribute` is where an object that is inserted keeps its value, if not under the column's name."""

    name: str
    type: str
    meaning: str
    attribute: str | None = None


@dataclass(frozen=True)
class Table:
    """A published table; `columns` is empty where a query decides what they are."""

    name: str
    meaning: str
    columns: tuple[TableColumn, ...]

    def create(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the empty table in the connection's current database."""
        columns = ", ".join(f"{identifier(column.name)} {column.type}" for column in self.columns)
        connection.execute(f"CREATE TABLE {identifier(self.name)} ({columns})")

    def insert(self, connection: duckdb.DuckDBPyConnection, rows: Iterable[object]) -> None:
        """Add objects, dataclasses as a rule, in one statement: a row costs more than its values by far."""
        listed = list(rows)
        if not listed:
            return
        values = [[_value(row, column) for row in listed] for column in self.columns]
        unnested = ", ".join(_unnested(column) for column in self.columns)
        connection.execute(f"INSERT INTO {identifier(self.name)} SELECT {unnested}", values)

    def comment(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Write the meanings into the database, for the columns that the table has."""
        table = identifier(self.name)
        present = {row[0] for row in connection.execute(f"DESCRIBE {table}").fetchall()}
        # One transaction: each of a hundred comments would be synced on its own.
        with transaction(connection):
            connection.execute(f"COMMENT ON TABLE {table} IS {literal(self.meaning)}")
            for column in self.columns:
                if column.name in present and column.meaning:
                    connection.execute(
                        f"COMMENT ON COLUMN {table}.{identifier(column.name)} IS {literal(column.meaning)}"
                    )


def _value(row: object, column: TableColumn) -> Any:
    value = getattr(row, column.attribute or column.name)
    if not column.type.endswith("[]"):
        return value
    # A list in a list of lists would be unnested to its items.
    return {"items": list(value)}


def _unnested(column: TableColumn) -> str:
    if column.type.endswith("[]"):
        return f"unnest(?::STRUCT(items {column.type})[]).items"
    return f"unnest(?::{column.type}[])"


SHARD_MANIFEST = Table(
    "shard_manifest",
    "What each shard of this publication was made from and what it holds; one row a shard",
    (
        TableColumn("shard_id", "VARCHAR", "The shard"),
        TableColumn("shard_count", "INTEGER", "Number of shards the records are routed to"),
        TableColumn(
            "source_snapshots", "VARCHAR", "JSON: the snapshot of each source that was read", "source_snapshots_json"
        ),
        TableColumn("source_data_hash", "VARCHAR", "Hash of the shard's slices of all sources"),
        TableColumn("code_version", "VARCHAR", "Hash of the project and the engine version that decide the records"),
        TableColumn("record_count", "BIGINT", "Profiles in the shard"),
        TableColumn("content_hash", "VARCHAR", "Hash of the shard's rows, whatever their order, shard_id left out"),
        TableColumn("run_id", "VARCHAR", "The Dagster run that built it"),
        TableColumn("attempt", "INTEGER", "Which attempt of that run, from 1"),
        TableColumn("started_at", "TIMESTAMPTZ", "Start of the attempt that built it (UTC)"),
        TableColumn("ended_at", "TIMESTAMPTZ", "When it was complete (UTC)"),
        TableColumn("elapsed_ms", "BIGINT", "Time to build it, in milliseconds"),
        TableColumn("open_ms", "BIGINT", "Of that, sweeping and opening the database file"),
        TableColumn("build_ms", "BIGINT", "Of that, reading the slices, joining, computing, keying and writing"),
        TableColumn("size_bytes", "BIGINT", "Size of the shard's file"),
    ),
)
MERGED_FILES = Table(
    "merged_files",
    "The file of each shard that was merged: a later merge keeps the rows of those that are still the same",
    (
        TableColumn("shard_id", "VARCHAR", "The shard"),
        TableColumn("file_stamp", "VARCHAR", "Inode, time of change and size of its file"),
    ),
)
SHARD_ATTEMPTS = Table(
    "shard_attempts",
    "Every attempt at every shard, failed and killed ones included; the last hundred a shard",
    (
        TableColumn("shard_id", "VARCHAR", "The shard"),
        TableColumn("run_id", "VARCHAR", "The Dagster run"),
        TableColumn("attempt", "INTEGER", "Which attempt of that run, from 1", "number"),
        TableColumn("status", "VARCHAR", "succeeded, failed, killed, cancelled or reused"),
        TableColumn("started_at", "TIMESTAMPTZ", "Start (UTC)"),
        TableColumn("ended_at", "TIMESTAMPTZ", "End (UTC); null when it was killed"),
        TableColumn("elapsed_ms", "BIGINT", "Duration in milliseconds; null when it was killed"),
        TableColumn("record_count", "BIGINT", "Profiles published or reused; null when it did not get that far"),
        TableColumn("error", "VARCHAR", "What went wrong"),
    ),
)
SOURCE_SNAPSHOTS = Table(
    "source_snapshots",
    "The accounting of each source: rows_in = rows_accepted + rows_quarantined",
    (
        TableColumn("source", "VARCHAR", "The source"),
        TableColumn("snapshot", "VARCHAR", "Id of the snapshot: bytes of the files, shard count and contract", "id"),
        TableColumn("files", "VARCHAR[]", "The files it was made from"),
        TableColumn("file_rows", "BIGINT[]", "Records in each of these files, blank lines left out"),
        TableColumn("file_times", "TIMESTAMP WITH TIME ZONE[]", "When each of these files was last changed (UTC)"),
        TableColumn("rows_in", "BIGINT", "Records in the files, blank lines left out"),
        TableColumn("rows_empty", "BIGINT", "Rows of empty cells, such as ,,,, which are left out as blank lines are"),
        TableColumn("rows_accepted", "BIGINT", "Rows that went to the shards"),
        TableColumn("rows_quarantined", "BIGINT", "Rows that went to quarantine"),
        TableColumn("cells_quarantined", "BIGINT", "Bad cells in quarantine: null in their rows, or of rejected rows"),
        TableColumn("data_hash", "VARCHAR", "xxh3_128 of the files' bytes"),
        TableColumn("size_bytes", "BIGINT", "Size of the files"),
        TableColumn("extra_columns", "VARCHAR[]", "Columns of the files that the contract does not name; ignored"),
    ),
)
PUBLICATION = Table(
    "publication",
    "This publication as a whole; one row",
    (
        TableColumn("published_at", "TIMESTAMPTZ", "When it was made (UTC)"),
        TableColumn("run_id", "VARCHAR", "The Dagster run that made it"),
        TableColumn("record_count", "BIGINT", "Profiles in merged_profiles"),
        TableColumn(
            "digest",
            "VARCHAR",
            "Number of rows and two sums over hashes of all rows, shard_id left out: equal for equal input and "
            "code_version, whatever the number of shards",
        ),
        TableColumn("shard_count", "INTEGER", "Number of shards"),
        TableColumn("code_version", "VARCHAR", "Code version of the shards"),
        TableColumn("set_hash", "VARCHAR", "Hash of the shard manifests it was made from"),
        TableColumn("is_partial", "BOOLEAN", "True when shards are missing because a partial merge was asked for"),
        TableColumn("missing_shards", "VARCHAR[]", "Those shards"),
        TableColumn("duplicates_dropped", "BIGINT", "Records left out because their key was in another shard too"),
    ),
)
SOURCE_OVERLAP = Table(
    "source_overlap",
    "How many keys each source shares with each other source; a row a pair, both ways",
    (
        TableColumn("source", "VARCHAR", "The source"),
        TableColumn("other_source", "VARCHAR", "The source that it is compared with"),
        TableColumn("key_count", "BIGINT", "Keys of the source"),
        TableColumn("shared_count", "BIGINT", "Of these, keys that the other source has too"),
        TableColumn("only_count", "BIGINT", "Keys of the source that no other source has"),
        TableColumn("all_count", "BIGINT", "Keys that every source has"),
    ),
)
PUBLICATION_NOTICES = Table(
    "publication_notices",
    "What was noticed about this publication; what warns fails the check nothing_unusual",
    (
        TableColumn("kind", "VARCHAR", "What it is about, in one word"),
        TableColumn("subject", "VARCHAR", "The source or the column"),
        TableColumn("finding", "VARCHAR", "What was noticed, with its numbers"),
        TableColumn("figures", "VARCHAR", "JSON: the numbers by name", "figures_json"),
        TableColumn("is_warning", "BOOLEAN", "Whether it warns; else it is only worth knowing"),
    ),
)

PUBLICATION_FIGURES = Table(
    "publication_figures",
    "Counts of this publication and of up to nine before it, which the next one is compared with",
    (
        TableColumn("published_at", "TIMESTAMPTZ", "The publication: when it was made (UTC)"),
        TableColumn("input_hash", "VARCHAR", "Hash of the exports and of how they are read"),
        TableColumn(
            "code_version", "VARCHAR", "Code version of the shards; only publications of the same are compared"
        ),
        TableColumn(
            "kind", "VARCHAR", "What is counted: rows, profiles, rejected, invalid_cells, nulls, words or value"
        ),
        TableColumn("source", "VARCHAR", "The source, for rows and rejects; else empty"),
        TableColumn("column_name", "VARCHAR", "The column of merged_profiles, for nulls, words and values; else empty"),
        TableColumn("value", "VARCHAR", "The reason of rejects, or the word of the column; else empty"),
        TableColumn("amount", "BIGINT", "How many; for words, how many distinct ones"),
        TableColumn("total", "BIGINT", "Of how many; null where it is a share of nothing"),
    ),
)


def quarantine_table(contract: Contract) -> Table:
    """The rejected rows and cells of all sources."""
    key = contract.key.name
    return Table(
        "quarantine",
        "Every rejected row and cell of the current snapshots, and why",
        (
            TableColumn("source", "VARCHAR", "The source"),
            TableColumn("file", "VARCHAR", "The file, relative to the folder of the exports"),
            TableColumn(
                "line_number",
                "BIGINT",
                "Physical line on which the record starts, the header being line 1 (Parquet, sheet: row number)",
            ),
            TableColumn(
                key,
                "VARCHAR",
                f"The key; for unmapped_{key} and ambiguous_{key} the id in the source; null if none could be read",
            ),
            TableColumn("raw_text", "VARCHAR", "The record as it is in the file (Parquet: as JSON, a sheet: as CSV)"),
            TableColumn(
                "reason",
                "VARCHAR",
                f"missing_{key}, unmapped_{key}, ambiguous_{key}, missing:<column>, superseded, malformed_row, "
                "not_utf8 or invalid:<column>",
            ),
            TableColumn(
                "cell",
                "VARCHAR",
                "A bad cell: null in its row, or of a row that is rejected for another reason; null for the row",
            ),
        ),
    )


def profiles_table(contract: Contract, *, name: str = "merged_profiles") -> Table:
    """The profiles; which columns there are is decided by the project's SQL, so this one is never created empty."""
    meanings = contract.meanings() | {
        contract.key.name: "The key; unique",
        SOURCES_COLUMN: "The sources that have a record of this key, in contract order",
        SHARD_COLUMN: "The shard that holds the profile",
        IDEMPOTENCY_COLUMN: f"{contract.key.name}, a colon and the xxh3_128 of its source records; unique",
    }
    if any(source.has_issues for source in contract.sources):
        meanings[ISSUES_COLUMN] = "What is missing because it was invalid: <source>.<column>, or <source>: row rejected"
    return Table(
        name,
        f"One profile for each of the {contract.entity} in the accepted input",
        tuple(TableColumn(column, "", meaning) for column, meaning in meanings.items()),
    )


def table_names() -> tuple[str, ...]:
    """The names of the warehouse's tables, which are the same for every project."""
    return tuple(table.name for table in warehouse_tables(_ANY_CONTRACT))


def warehouse_tables(contract: Contract) -> tuple[Table, ...]:
    """Every table of the warehouse, the profiles first."""
    return (
        profiles_table(contract),
        SHARD_MANIFEST,
        SHARD_ATTEMPTS,
        quarantine_table(contract),
        SOURCE_SNAPSHOTS,
        PUBLICATION,
        SOURCE_OVERLAP,
        PUBLICATION_NOTICES,
        PUBLICATION_FIGURES,
        MERGED_FILES,
    )
