"""What is said of ids that a spreadsheet has damaged: the digits are lost, so the only help is another export."""

from pathlib import Path

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.reading.null_cells import is_damaged_key_sql
from etl_assets.engine.sql_text import identifier, literal, parquet_sql
from etl_assets.errors import shown
from etl_assets.project.contract import Source

_CHARS_SHOWN = 40


def damaged_text(source: Source, quarantine: Path) -> str:
    """A sentence about the damaged ids among the rejected rows; empty when there are none."""
    key = identifier(source.key.name)
    with duck.reader(quarantine.parent) as connection:
        try:
            row = connection.execute(
                f"SELECT count(*), min({key}) FROM {parquet_sql(quarantine)} WHERE cell IS NULL "
                f"AND reason = {literal(f'invalid:{source.key.name}')} "
                f"AND {is_damaged_key_sql(key, len(source.key_headers))}"
            ).fetchone()
        except duckdb.Error:
            return ""
    if row is None or not row[0]:
        return ""
    rows = "row has an id" if row[0] == 1 else "rows have ids"
    return (
        f" {row[0]:,} {rows} that a spreadsheet damaged, such as {shown(row[1][:_CHARS_SHOWN])}: the digits are lost. "
        "Export the ids as text from the system itself. In a spreadsheet, import the file with this column as Text, "
        "not by opening it. If these are the ids, write key: {damaged: keep}."
    )
