"""Where rejected rows and cells go: each keeps its source, file, physical line, raw text and reason.

DuckDB numbers the rows it accepts and names the records it refuses, but knows no physical lines and keeps no raw text.
A file is scanned again only if rows were rejected, to look up just those records.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from etl_assets.engine.reading.exports import Export
from etl_assets.engine.reading.parquet import bounded_sql
from etl_assets.engine.reading.surveying import data_blocks
from etl_assets.engine.sql_text import identifier, literal, parquet_sql, pattern
from etl_assets.project.contract import Source

# numpy takes 0.1 s to import; commands that stage nothing do without.
if TYPE_CHECKING:
    from etl_assets.engine.reading.records import Block, Offsets

# A rejected record: the number of its row if DuckDB accepted it, its line, its text, and why it cannot be read.
_Located = tuple[int | None, int, str, str | None]
# Rows handed to DuckDB at a time.
_BATCH_ROWS = 20_000
# The reason of a row whose structure cannot be trusted, or that is longer than one may be.
MALFORMED = "malformed_row"
# The reason of one that holds bytes that are no UTF-8, in a file that is declared as that.
NOT_UTF8 = "not_utf8"


@dataclass(frozen=True)
class Reading:
    """One file as DuckDB reads it: `readable` leads to the file, or to a copy of its sound records.

    Its texts together may be as long as `limit_bytes`. `is_unended` says that its last line has no line break.
    """

    export: Export
    number: int
    readable: Path
    record_count: int
    limit_bytes: int
    is_copy: bool = False
    is_unended: bool = False
    empty_row_count: int = 0

    @property
    def rejects_table(self) -> str:
        """Where DuckDB notes the records of this file that it refused."""
        return f"csv_rejects_{self.number}"

    def column(self, name: str) -> str:
        """A contract column as SQL."""
        return self.read_as(self.export.found[name])

    def read_as(self, spelled: str) -> str:
        """A file's column as SQL: by position in CSV, by its name in Parquet, or the text that a folder names."""
        if not self.export.is_parquet:
            return f"c{self.export.columns.index(spelled)}"
        if spelled not in self.export.partition:
            return identifier(spelled)
        text = self.export.partition[spelled]
        return "NULL" if text is None else literal(text)


def write(
    connection: duckdb.DuckDBPyConnection, source: Source, readings: Sequence[Reading], target: Path
) -> tuple[dict[str, int], dict[str, int]]:
    """Write the quarantine of a source from the temp table `rejected` and DuckDB's rejects.

    `rejected` holds (file_index, source_row, key, reason, cell); source_row counts the rows DuckDB accepted from 1, and
    `cell` is null where the whole row was rejected. Returns counts by reason: of rows, and of cells.
    """
    connection.execute(
        "CREATE TEMP TABLE located (file_index SMALLINT, source_row BIGINT, line_number BIGINT, raw_text VARCHAR, "
        "reason VARCHAR)"
    )
    for reading in readings:
        (_locate_parquet if reading.export.is_parquet else _locate_csv)(connection, reading)
    names = [reading.export.name for reading in readings]
    connection.execute(
        f"""
        COPY (
            SELECT {literal(source.name)} AS source, list_extract({_text_list(names)}, l.file_index + 1) AS file,
                l.line_number, r.key AS {identifier(source.key.name)}, l.raw_text,
                coalesce(r.reason, l.reason) AS reason, r.cell
            FROM located l LEFT JOIN rejected r ON l.file_index = r.file_index AND l.source_row = r.source_row
            ORDER BY l.file_index, l.line_number, r.reason
        ) TO {literal(str(target))} (FORMAT parquet, COMPRESSION snappy)"""
    )
    rows = connection.execute(
        "SELECT reason, count(*) FILTER (cell IS NULL), count(cell) FROM read_parquet(?) GROUP BY ALL ORDER BY reason",
        [pattern(target)],
    ).fetchall()
    of_rows = {reason: row_count for reason, row_count, _ in rows if row_count}
    return of_rows, {reason: cell_count for reason, _, cell_count in rows if cell_count}


def _text_list(values: Sequence[str]) -> str:
    return "[" + ", ".join(literal(value) for value in values) + "]"


def _locate_csv(connection: duckdb.DuckDBPyConnection, reading: Reading) -> None:
    """Look up the lines of one CSV file's rejected records."""
    import numpy as np

    refused = _refused_records(connection, reading)
    rows = _numbers(
        connection, f"SELECT DISTINCT source_row FROM rejected WHERE file_index = {reading.number} ORDER BY 1"
    )
    if not len(refused) and not len(rows) and not reading.is_copy:
        return
    # The n-th accepted row comes after n - 1 accepted records and the refused ones between them.
    wanted = (rows - 1) + np.searchsorted(refused - np.arange(len(refused)), rows - 1, side="right")
    sound_before = 0
    batch: list[_Located] = []
    for block in data_blocks(reading.export):
        sound = np.flatnonzero(~block.damaged & ~block.blank)
        lower, upper = np.searchsorted(wanted, [sound_before, sound_before + len(sound)])
        for row, number in zip(rows[lower:upper].tolist(), wanted[lower:upper].tolist(), strict=True):
            batch.append((row, *_line(block, int(sound[number - sound_before])), None))
        lower, upper = np.searchsorted(refused, [sound_before, sound_before + len(sound)])
        broken = [*(int(sound[number - sound_before]) for number in refused[lower:upper].tolist())]
        broken += np.flatnonzero(block.damaged).tolist()
        batch += [(None, *_line(block, index), _reason(block, index)) for index in broken]
        sound_before += len(sound)
        while len(batch) >= _BATCH_ROWS:
            _insert(connection, reading.number, batch[:_BATCH_ROWS])
            del batch[:_BATCH_ROWS]
    if batch:
        _insert(connection, reading.number, batch)


def _refused_records(connection: duckdb.DuckDBPyConnection, reading: Reading) -> "Offsets":
    """0-based numbers of the sound records that DuckDB refused; its line 1 is the header, and it counts records."""
    return _numbers(connection, f"SELECT DISTINCT line - 2 FROM {reading.rejects_table} ORDER BY 1")


def _numbers(connection: duckdb.DuckDBPyConnection, query: str) -> "Offsets":
    import numpy as np

    # As an array from the start: ten million numbers as Python objects are a gigabyte.
    (values,) = connection.execute(query).fetchnumpy().values()
    return np.asarray(values, np.int64)


def _line(block: "Block", index: int) -> tuple[int, str]:
    r"""Physical line and text of a record; bytes that are not UTF-8 are written as \xNN."""
    return int(block.lines[index]), block.raw(index).decode("utf-8", errors="backslashreplace")


def _reason(block: "Block", index: int) -> str:
    """Why a record cannot be read: its bytes, else its structure."""
    raw = block.raw(index)
    try:
        # A record that was cut may end within a character.
        codecs.getincrementaldecoder("utf-8")().decode(raw, final=block.is_whole(index))
    except UnicodeDecodeError:
        return NOT_UTF8
    return MALFORMED


def _insert(connection: duckdb.DuckDBPyConnection, number: int, batch: list[_Located]) -> None:
    rows, lines, texts, reasons = (list(values) for values in zip(*batch, strict=True))
    connection.execute(
        "INSERT INTO located SELECT ?::SMALLINT, unnest(?::BIGINT[]), unnest(?::BIGINT[]), unnest(?::VARCHAR[]), "
        "unnest(?::VARCHAR[])",
        [number, rows, lines, texts, reasons],
    )


def _locate_parquet(connection: duckdb.DuckDBPyConnection, reading: Reading) -> None:
    """A Parquet row's line is its number, its raw text the row as JSON, cut as the text of a CSV record is."""
    from etl_assets.engine.reading.records import MAX_RAW_BYTES

    rows = parquet_sql(reading.readable, "file_row_number = true")
    cells = ", ".join(f"{identifier(name)} := {reading.read_as(name)}" for name in reading.export.columns)
    raw_text = bounded_sql("strlen(raw_text)", "raw_text", reading.number, reading.limit_bytes)
    connection.execute(
        f"""
        INSERT INTO located
        SELECT {reading.number}, row_number, row_number, {raw_text}, NULL
        FROM (
            SELECT file_row_number + 1 AS row_number,
                left(to_json(struct_pack({cells}))::VARCHAR, {MAX_RAW_BYTES}) AS raw_text
            FROM {rows} row
            SEMI JOIN (SELECT source_row FROM rejected WHERE file_index = {reading.number}) r
                ON row.file_row_number + 1 = r.source_row
        )"""
    )
