"""How the records of a source become the cells of a Parquet file or the lines of a CSV file, as SQL."""

from dataclasses import dataclass

from etl_assets.project.contract import Source
from etl_assets.samples.customers import KEY, records_sql
from etl_assets.samples.flaws import Dirt, text_columns, wanted_sql

MACROS = (
    """CREATE MACRO csv_field(cell) AS
        CASE WHEN contains(cell, ',') OR contains(cell, '"') OR contains(cell, chr(10))
        THEN '"' || replace(cell, '"', '""') || '"' ELSE cell END""",
)


@dataclass(frozen=True)
class Export:
    """One source's file: everything that decides its rows. `dirt` is None for clean data."""

    sources: tuple[Source, ...]
    source: Source
    seed: int
    dirt: Dirt | None


def cells_sql(export: Export, numbers: str) -> str:
    """SQL for the records at the positions of `numbers`: typed when clean; as text, with the flaws, when dirty."""
    records = records_sql(export.sources, export.source, export.seed, wanted_sql(numbers, export.dirt))
    if export.dirt is None:
        return records
    columns = ", ".join(
        f"{export.dirt.flawed_sql(name, f'CAST({name} AS VARCHAR)')} AS {name}" for name in export.source.required
    )
    return f"SELECT position, version, flaw, {columns} FROM ({records})"


def lines_sql(export: Export, numbers: str) -> str:
    """SQL for position, version and CSV line (without its line ending) of the records at the positions of `numbers`."""
    texts = {KEY, *text_columns(export.source)}
    # Numbers and dates need no quotes, except that dirt may have made texts of them.
    fields = ", ',', ".join(
        f"csv_field({name})" if export.dirt or name in texts else name for name in export.source.required
    )
    line = "line" if export.dirt is None else export.dirt.flawed_sql(None, "line")
    return f"""
        SELECT position, version, {line} AS line
        FROM (
            SELECT position, version, flaw, concat({fields}) AS line
            FROM ({cells_sql(export, numbers)})
        )"""
