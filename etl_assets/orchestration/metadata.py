"""The metadata of a result: schemas, previews and tables; nothing is decided here.

Values that come from customers are plain table values, which the UI shows and never renders.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from etl_assets.engine.published.preview import Glance
from etl_assets.engine.published.tables import profiles_table
from etl_assets.project.contract import Contract, Source

PREVIEW_ROWS = 5
# Keys of a check's evidence: how many rows fail it, the first of them, and why it could not be run.
FAILING_ROWS, FIRST_ROWS, CHECK_ERROR = "failing_rows", "first_rows", "error"
# Keys under which Dagster's asset catalog looks for these facts.
COLUMN_SCHEMA, ROW_COUNT, TABLE_NAME = "dagster/column_schema", "dagster/row_count", "dagster/table_name"


def source_schema(source: Source) -> dg.TableSchema:
    """The columns of a source by the contract."""
    columns = [dg.TableColumn(source.key.name, "VARCHAR", "The key; decides the shard")]
    columns += [dg.TableColumn(column.name, column.duckdb, column.meaning or None) for column in source.columns]
    return dg.TableSchema(columns)


def table_facts(glance: Glance, contract: Contract, path: Path, table: str, record_count: int) -> dict[str, Any]:
    """Name, schema, row count and a preview of a published profile table, under the keys Dagster's catalog reads."""
    meanings = {column.name: column.meaning for column in profiles_table(contract).columns}
    seen = glance(path, table, PREVIEW_ROWS)
    return {
        COLUMN_SCHEMA: dg.TableSchema([dg.TableColumn(name, kind, meanings.get(name)) for name, kind in seen.columns]),
        "preview": table_value(seen.shown, seen.rows),
        **row_count(path, table, record_count),
    }


def row_count(path: Path, table: str, record_count: int) -> dict[str, Any]:
    """Name, place and row count of a published profile table."""
    return {
        ROW_COUNT: record_count,
        TABLE_NAME: f"{path.stem}.{table}",
        "path": dg.MetadataValue.path(path),
    }


def lake_row_count(url: str, table: str, record_count: int) -> dict[str, Any]:
    """As `row_count`, for a table or a file of it in an object store."""
    return {ROW_COUNT: record_count, TABLE_NAME: table, "uri": dg.MetadataValue.text(url)}


def table_value(names: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.TableMetadataValue:
    """Rows as a table of plain values; nulls are empty."""
    records = [dg.TableRecord({name: plain(cell) for name, cell in zip(names, row, strict=True)}) for row in rows]
    return dg.MetadataValue.table(records, schema=dg.TableSchema([dg.TableColumn(name) for name in names]))


def counts_table(title: str, counts: Mapping[str, int]) -> dg.TableMetadataValue:
    """Counts by name, largest first."""
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return table_value([title, "count"], [(name, counts[name]) for name in names])


def plain(cell: object) -> str | int | float | bool | None:
    """A value of any of DuckDB's types as one that Dagster shows: lists joined, dates in ISO 8601, others as text."""
    if cell is None or isinstance(cell, str | int | float | bool):
        return cell
    if isinstance(cell, list):
        return ", ".join(str(item) for item in cell)
    return cell.isoformat() if isinstance(cell, date) else str(cell)
