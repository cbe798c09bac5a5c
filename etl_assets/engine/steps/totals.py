"""Rows that are no records but sums of them: a report ends in `Grand Total`, which would pass for a key."""

from pathlib import Path

import duckdb

from etl_assets.engine.sql_text import identifier, literal, pattern_literal
from etl_assets.project.contract import Source

# Words that reports and spreadsheets write into the first cell of such a row, in lower case.
_WORDS = (
    *("total", "totals", "grand total", "subtotal", "sub total", "total:", "sum", "average", "count"),
    *(
        "summe",
        "gesamt",
        "gesamtsumme",
        "gesamtergebnis",
        "total général",
        "totale",
        "totaal",
        "suma",
        "всего",
        "итого",
    ),
)
_KEYS_KEPT = 3


def total_keys(connection: duckdb.DuckDBPyConnection, source: Source, folder: Path) -> tuple[str, ...]:
    """The first keys of accepted rows that are words for a sum; `folder` has the slices."""
    key = identifier(source.key.name)
    words = ", ".join(map(literal, _WORDS))
    rows = connection.execute(
        f"SELECT DISTINCT {key} FROM read_parquet({pattern_literal(folder)} || '/shard_*.parquet') "
        # The length first: keys of another one are not looked at.
        f"WHERE length({key}) BETWEEN 3 AND 20 AND lower(trim({key})) IN ({words}) ORDER BY 1 LIMIT {_KEYS_KEPT}"
    ).fetchall()
    return tuple(key for (key,) in rows)
