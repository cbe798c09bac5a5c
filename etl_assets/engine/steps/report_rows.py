"""Rows of a report that are no records: its sums, a header in the middle, and the line of dashes below one.

Each passes for a record with a key of its own. They are accepted and reported, because such a key may be a real one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.engine.reading.quarantine import Reading
from etl_assets.engine.sql_text import identifier, literal, pattern_literal
from etl_assets.project.contract import Source

# Words that reports and spreadsheets write into the first cell of a sum, in lower case.
_SUMS = (
    *("total", "totals", "grand total", "subtotal", "sub total", "total:", "sum", "average", "count"),
    *("summe", "gesamt", "gesamtsumme", "gesamtergebnis", "total général", "total general", "total geral", "totale"),
    *("totale complessivo", "totaal", "eindtotaal", "suma", "suma końcowa", "всего", "итого", "общий итог"),
)
# What programs for databases draw below a header.
_RULES = tuple(mark * count for mark in "-=" for count in range(2, 65))
_KEYS_KEPT = 3


def report_rows(
    connection: duckdb.DuckDBPyConnection, source: Source, readings: Sequence[Reading], folder: Path
) -> dict[str, Any]:
    """The first accepted keys that are words for a sum, and those of headers; `folder` has the slices.

    By the names of the fields of the snapshot.
    """
    key = identifier(source.key.name)
    headers = {"/".join(name.strip() for name in reading.export.key_columns) for reading in readings}
    # Compared as they are written, so that DuckDB passes over row groups whose keys lie elsewhere: a hundredth of the
    # time of looking at every key in lower case.
    sums = _spelled(_SUMS)
    wanted = sorted({*sums, *_spelled(headers), *_RULES})
    rows = connection.execute(
        f"SELECT DISTINCT {key} FROM read_parquet({pattern_literal(folder)} || '/shard_*.parquet') "
        f"WHERE {key} IN ({', '.join(map(literal, wanted))}) ORDER BY 1"
    ).fetchall()
    found = [key for (key,) in rows]
    return {
        "total_keys": tuple(key for key in found if key in sums)[:_KEYS_KEPT],
        "header_keys": tuple(key for key in found if key not in sums)[:_KEYS_KEPT],
    }


def _spelled(words: Sequence[str] | set[str]) -> set[str]:
    return {spelt for word in words for spelt in (word, word.lower(), word.capitalize(), word.title(), word.upper())}
