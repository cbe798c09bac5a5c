"""What an asset tells Dagster about a result: schemas, previews and tables; nothing is decided here."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from etl_assets.engine.published.preview import Glance
from etl_assets.engine.published.tables import TABLES
from etl_assets.project.contract import CUSTOMER_ID, Source

PREVIEW_ROWS = 5
# Keys under which Dagster's asset catalog looks for these facts.
COLUMN_SCHEMA, ROW_COUNT, TABLE_NAME = "dagster/column_schema", "dagster/row_count", "dagster/table_name"


def source_schema(source: Source) -> dg.TableSchema:
    """The columns of a source by the contract."""
    columns = [dg.TableColumn(CUSTOMER_ID, "VARCHAR", "The customer; the routing key")]
    columns += [dg.TableColumn(column.name, column.type.value, column.description) for column in source.columns]
    return dg.TableSchema(columns)


def table_facts(glance: Glance, path: Path, table: str, record_count: int) -> dict[str, Any]:
    """Name, schema, row count and a preview of a published profile table, under the keys Dagster's catalog reads."""
    meanings = TABLES["merged_profiles"][1]
    seen = glance(path, table, PREVIEW_ROWS)
    return {
        COLUMN_SCHEMA: dg.TableSchema([dg.TableColumn(name, kind, meanings.get(name)) for name, kind in seen.columns]),
        ROW_COUNT: record_count,
        TABLE_NAME: f"{path.stem}.{table}",
        "preview": markdown_table([name for name, _ in seen.columns], seen.rows),
        "path": dg.MetadataValue.path(path),
    }


def markdown_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> dg.MarkdownMetadataValue:
    """Rows as a table that the UI renders; nulls are empty."""
    lines = [_line(names), _line(["---"] * len(names)), *(_line(row) for row in rows)]
    return dg.MetadataValue.md("\n".join(lines))


def counts_table(title: str, counts: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """Counts by name, largest first."""
    names = sorted(counts, key=lambda name: (-counts[name], name))
    return markdown_table([title, "count"], [(name, counts[name]) for name in names])


def _line(cells: Sequence[object]) -> str:
    # A bar or a line break in a customer's name must not break the table.
    texts = ("" if cell is None else str(cell).replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(texts)} |"
