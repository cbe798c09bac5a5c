"""The contract as SQL: how the cells of an export become typed values, and which rows break which rule.

Names of the engine's own columns begin with an underscore, which no name of a contract does.
"""

from collections.abc import Iterator, Sequence

from etl_assets.engine.reading.parquet import bounded_sql
from etl_assets.engine.reading.quarantine import MALFORMED, Reading
from etl_assets.engine.sql_text import identifier, identifiers, literal, pattern_literal
from etl_assets.project.contract import Column, ColumnType, Source

MACROS = ("strip", "blank_to_null", "parse_int", "parse_float", "parse_date")
# Rows that broke a rule go to this partition of the one COPY that writes a source.
REJECTED = -1
# The file of a row, its place in it, the rule that it broke, and the partition that it is written to.
FILE_INDEX, SOURCE_ROW, REASON, PARTITION = "_file_index", "_source_row", "_reason", "_shard"
# Whether a row is longer than any may be. Only Parquet has such rows: in a CSV file they are damage, and left out.
_OVERLONG = "_overlong"
_PARSERS = {ColumnType.INT: "parse_int", ColumnType.FLOAT: "parse_float", ColumnType.DATE: "parse_date"}
_READ_BUFFER_BYTES = 8 << 20


def judged_rows_sql(source: Source, readings: Sequence[Reading]) -> str:
    """Every row of these files: the typed columns, where it came from, the first rule it broke, and its partition."""
    may_be_overlong = any(reading.export.is_parquet for reading in readings)
    rows = "\nUNION ALL\n".join(_rows_sql(source, reading, may_be_overlong=may_be_overlong) for reading in readings)
    parsed = ", ".join(f"{_parsed(column)} AS {identifier(column.name)}" for column in source.columns)
    cells = "".join(f", {_cell(column.name)}" for column in source.columns if column.type is not ColumnType.TEXT)
    key = identifier(source.key.name)
    return f"""
        WITH cells AS ({rows}),
        parsed AS (
            SELECT {FILE_INDEX}, {SOURCE_ROW}, nullif(strip({_cell(source.key.name)}), '') AS {key}, {parsed}{cells}
                {f", {_OVERLONG}" if may_be_overlong else ""}
            FROM cells
        ),
        judged AS (SELECT *, {_reason_sql(source, may_be_overlong=may_be_overlong)} AS {REASON} FROM parsed)
        SELECT {identifiers(source.required)}, {FILE_INDEX}, {SOURCE_ROW}, {REASON},
            CASE WHEN {REASON} IS NULL THEN route({key}) ELSE {REJECTED} END AS {PARTITION}
        FROM judged"""


def no_rows_sql(source: Source) -> str:
    """A relation of the same columns, but the partition, without rows."""
    columns = ", ".join(f"NULL::{column.type.duckdb} AS {identifier(column.name)}" for column in source.columns)
    return (
        f"SELECT NULL::VARCHAR AS {identifier(source.key.name)}, {columns}, NULL::SMALLINT AS {FILE_INDEX}, "
        f"NULL::BIGINT AS {SOURCE_ROW}, NULL::VARCHAR AS {REASON} WHERE false"
    )


def _rows_sql(source: Source, reading: Reading, *, may_be_overlong: bool) -> str:
    """One file's rows as text cells in contract order, numbered from 1 in file order."""
    export = reading.export
    cells = ", ".join(
        f"CAST({identifier(reading.column(name))} AS VARCHAR) AS {_cell(name)}" for name in source.required
    )
    path = pattern_literal(reading.readable)
    if export.is_parquet:
        return _measured_rows_sql(
            source,
            reading,
            f"SELECT {reading.number}::SMALLINT AS {FILE_INDEX}, file_row_number + 1 AS {SOURCE_ROW}, {cells} "
            f"FROM read_parquet({path}, file_row_number = true)",
        )
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(export.columns)))
    # Explicit columns, no sniffing: a type guessed from the first rows is wrong for the last ones.
    return f"""
        SELECT {reading.number}::SMALLINT AS {FILE_INDEX}, row_number() OVER () AS {SOURCE_ROW}, {cells}
            {f", false AS {_OVERLONG}" if may_be_overlong else ""}
        FROM read_csv({path}, columns = {{{columns}}}, auto_detect = false, header = true, delim = ',', quote = '"',
            escape = '"', strict_mode = true, compression = 'none', buffer_size = {_READ_BUFFER_BYTES},
            store_rejects = true, rejects_limit = 0, rejects_table = '{reading.rejects_table}',
            rejects_scan = '{reading.rejects_table}_scan')"""


def _measured_rows_sql(source: Source, reading: Reading, rows: str) -> str:
    """A Parquet file's rows under the limits of a CSV file: an overlong row has no texts, and all texts have an end."""
    from etl_assets.engine.reading.records import MAX_RECORD_BYTES

    size = " + ".join(f"coalesce(strlen({_cell(name)}), 0)" for name in source.required)
    overlong = bounded_sql("_size", f"_size > {MAX_RECORD_BYTES}", reading.number, reading.limit_bytes)
    # Those that are written as they are; the others are null anyway when they are too long for a number or a date.
    texts = {source.key.name, *(column.name for column in source.columns if column.type is ColumnType.TEXT)}
    cells = ", ".join(
        f"CASE WHEN {_OVERLONG} THEN NULL ELSE {_cell(name)} END AS {_cell(name)}" if name in texts else _cell(name)
        for name in source.required
    )
    return f"""
        SELECT {FILE_INDEX}, {SOURCE_ROW}, {cells}, {_OVERLONG}
        FROM (SELECT *, {overlong} AS {_OVERLONG} FROM (SELECT *, {size} AS _size FROM ({rows})))"""


def _cell(name: str) -> str:
    return identifier(f"_cell_{name}")


def _parsed(column: Column) -> str:
    if column.type is ColumnType.TEXT:
        return f"blank_to_null({_cell(column.name)})"
    return f"{_PARSERS[column.type]}({_cell(column.name)})"


def _reason_sql(source: Source, *, may_be_overlong: bool) -> str:
    """The first rule of the contract that a row breaks, as SQL; null for a sound row."""
    key = source.key
    whens = [
        *([f"WHEN {_OVERLONG} THEN {literal(MALFORMED)}"] if may_be_overlong else []),
        f"WHEN {identifier(key.name)} IS NULL THEN {literal(f'missing_{key.name}')}",
        f"WHEN length({identifier(key.name)}) > {key.max_chars} THEN {literal(f'invalid:{key.name}')}",
    ]
    for column in source.columns:
        if column.type is not ColumnType.TEXT:
            whens.append(f"WHEN {' OR '.join(_broken_rules(column))} THEN {literal(f'invalid:{column.name}')}")
    return f"CASE {' '.join(whens)} END"


def _broken_rules(column: Column) -> Iterator[str]:
    name = identifier(column.name)
    yield f"({name} IS NULL AND blank_to_null({_cell(column.name)}) IS NOT NULL)"
    if column.min is not None:
        yield f"{name} < {column.min}"
    if column.max is not None:
        yield f"{name} > {column.max}"
