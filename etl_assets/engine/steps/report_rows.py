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
    # Compared as they are written, so that DuckDB passes over row groups whose keys lie elsewhere: a hundredth of the
    # time of looking at every key in lower case.
    spellings = sorted({spelt for word in _WORDS for spelt in (word, word.capitalize(), word.title(), word.upper())})
    rows = connection.execute(
        f"SELECT DISTINCT {key} FROM read_parquet({pattern_literal(folder)} || '/shard_*.parquet') "
        f"WHERE {key} IN ({', '.join(map(literal, spellings))}) ORDER BY 1 LIMIT {_KEYS_KEPT}"
    ).fetchall()
    return tuple(key for (key,) in rows)
