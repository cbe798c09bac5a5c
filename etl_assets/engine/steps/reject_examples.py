"""What rejected rows look like: one example for each of the most frequent reasons, and the line that reads them.

When a source exceeds the limit of rejects, its message shows a file, a line and a cell, not only a count. Personal
data is masked; of a row whose structure is broken, only the place is shown where a column of its source is personal.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.published.preview import MASK
from etl_assets.engine.published.snapshots import SUPERSEDED
from etl_assets.engine.reading.diagnosis import yaml_line
from etl_assets.engine.reading.quarantine import MALFORMED, NOT_UTF8
from etl_assets.engine.reading.remedies import BadRow, bad_text, words_for_cells, words_for_rows
from etl_assets.engine.sql_text import parquet_sql
from etl_assets.errors import shown
from etl_assets.project.contract import Column, Source

_REASONS_SHOWN, _CHARS_SHOWN = 3, 60
# Rows of a reason that are looked at.
_LOOKED_AT = 1_000


class _Reject(NamedTuple):
    file: str
    line: int
    reason: str
    cell: str | None
    text: str | None


def examples_text(source: Source, quarantine: Path, row_count: int) -> str:
    """Sentences with examples and the line of the contract that reads them; empty when nothing can be told."""
    try:
        found = _rejects(quarantine)
    except duckdb.Error:
        return ""
    reasons = sorted(found, key=lambda reason: (-found[reason].total, reason))
    reasons = [reason for reason in reasons if reason != NOT_UTF8][:_REASONS_SHOWN]
    listed = "; ".join(_example(source, found[reason].rows[0]) for reason in reasons)
    texts = [f" For example: {listed}."] if listed else []
    texts += _not_utf8(found.get(NOT_UTF8))
    line = _line(source, found, row_count)
    if line:
        texts.append(f" Write for {source.name} in etl_assets.yaml: {shown(line)}")
    return "".join(texts) + ("." if texts and not texts[-1].endswith(".") else "")


class _Rows(NamedTuple):
    """The number of rejects of one reason, and the first of them."""

    total: int
    rows: list[_Reject]


def _rejects(quarantine: Path) -> dict[str, _Rows]:
    with duck.reader(quarantine.parent) as connection:
        rows = connection.execute(
            "SELECT file, line_number, reason, cell, raw_text, reason_count FROM ("
            "SELECT file, line_number, reason, cell, left(raw_text, 4000) AS raw_text, "
            "count(*) OVER (PARTITION BY reason) AS reason_count, "
            "row_number() OVER (PARTITION BY reason ORDER BY file, line_number) AS place "
            f"FROM {parquet_sql(quarantine)} WHERE reason <> '{SUPERSEDED}') WHERE place <= {_LOOKED_AT} "
            "ORDER BY reason, place"
        ).fetchall()
    found: dict[str, list[_Reject]] = defaultdict(list)
    counts: dict[str, int] = {}
    for *reject, total in rows:
        found[reject[2]].append(_Reject(*reject))
        counts[reject[2]] = total
    return {reason: _Rows(counts[reason], rejects) for reason, rejects in found.items()}


def _example(source: Source, reject: _Reject) -> str:
    """A row as `file:line column 'cell'`, or with its text where no column is personal."""
    place = f"{shown(reject.file)}:{reject.line}"
    column = _column(source, reject.reason)
    if column is not None and reject.cell is not None:
        return f"{place} {column.name} {_quoted(MASK if column.pii else reject.cell)}"
    is_personal = source.has_personal_ids or any(one.pii for one in source.columns) or reject.text is None
    return f"{place} {reject.reason}" + ("" if is_personal else f" {_quoted(reject.text or '')}")


def _quoted(text: str) -> str:
    return f"'{shown(text[:_CHARS_SHOWN])}{'…' if len(text) > _CHARS_SHOWN else ''}'"


def _column(source: Source, reason: str) -> Column | None:
    name = reason.partition(":")[2]
    return next((column for column in source.columns if column.name == name), None)


def _not_utf8(found: _Rows | None) -> Iterator[str]:
    facts = bad_text([reject.text or "" for reject in found.rows]) if found else None
    if found and facts:
        like = f"; looks like {facts.encoding}" if facts.encoding else ""
        place = f"{shown(found.rows[0].file)}, line {found.rows[0].line}"
        yield f" Not UTF-8: {place}, byte 0x{facts.byte:02X}{like}."


def _line(source: Source, found: dict[str, _Rows], row_count: int) -> str:
    """The word `csv` that reads what was rejected, as far as that can be told."""
    first = next((rows.rows[0] for rows in found.values()), None)
    if first is None:
        return ""
    dialect = source.dialect_of(first.file)
    columns: dict[Column, Sequence[str]] = {}
    for reason, rows in found.items():
        column = _column(source, reason)
        cells = [reject.cell for reject in rows.rows if reject.cell is not None]
        if column is not None and cells:
            columns[column] = cells
    words = words_for_cells(columns, row_count, dialect)
    malformed = found.get(MALFORMED)
    if malformed and len({reject.file for reject in malformed.rows}) == 1 and malformed.total <= _LOOKED_AT:
        rows_of_file = [BadRow(reject.line, reject.text or "") for reject in malformed.rows]
        words |= words_for_rows(rows_of_file, row_count, dialect)
    if NOT_UTF8 in found and dialect.encoding == "utf-8":
        facts = bad_text([reject.text or "" for reject in found[NOT_UTF8].rows])
        words |= {"encoding": facts.encoding} if facts and facts.encoding else {}
    return yaml_line(dialect, words) if words else ""
