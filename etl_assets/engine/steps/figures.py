"""Figures of the merged profiles, which reports and the UI show: what was published at a glance."""

import duckdb

from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.sql_text import identifier
from etl_assets.project.contract import Contract


def figures_of(
    connection: duckdb.DuckDBPyConnection, contract: Contract
) -> tuple[dict[str, dict[str, int]], dict[str, float]]:
    """How often each declared value occurs, and the mean of each declared column of numbers."""
    value_counts = {}
    for column in contract.profile:
        if column.values:
            name = identifier(column.name)
            rows = dict(connection.execute(f"SELECT {name}, count(*) FROM {PROFILES_TABLE} GROUP BY 1").fetchall())
            value_counts[column.name] = {value: rows.get(value, 0) for value in column.values}
    numbers = [column.name for column in contract.profile if column.is_number and not column.values]
    means: dict[str, float] = {}
    if numbers:
        averages = ", ".join(f"coalesce(round(avg({identifier(name)}), 2), 0)::DOUBLE" for name in numbers)
        row = connection.execute(f"SELECT {averages} FROM {PROFILES_TABLE}").fetchone()
        assert row is not None, "an aggregate always returns a row"
        means = dict(zip(numbers, row, strict=True))
    return value_counts, means
