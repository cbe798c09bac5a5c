"""The contract as SQL: how the cells of an export become typed values, and which rows break which rule.

Names of the engine's own columns begin with an underscore, which no name of a contract does.
"""

from collections.abc import Sequence
from itertools import groupby

from etl_assets.engine.reading import parquet_values
from etl_assets.engine.reading.forms import joined_key_sql, key_sql, value_sql
from etl_assets.engine.reading.null_cells import cell_sql, key_cell_sql
from etl_assets.engine.reading.parquet import bounded_sql
from etl_assets.engine.reading.quarantine import Reading
from etl_assets.engine.reading.rules import (
    AMBIGUOUS,
    BAD_CELLS,
    ISSUES,
    NESTED,
    OVERLONG,
    REASON,
    UNMAPPED,
    Rules,
    cell_name,
)
from etl_assets.engine.sql_text import identifier, literal, parquet_sql, pattern_literal
from etl_assets.project.contract import Column, ColumnType, Source
from etl_assets.project.dialect import Dialect

# Rows that broke a rule go to this partition of the one COPY that writes a source.
REJECTED = -1
# The file of a row, its place in it, and the partition that it is written to.
FILE_INDEX, SOURCE_ROW, PARTITION = "_file_index", "_source_row", "_shard"
# The table of `mapping`.
KEY_MAP = "_key_map"
# Whether the default words for null count in the file of a row, where they do in some files only.
_DEFAULT_WORDS = "_default_words"
# How DuckDB writes truth values.
_TRUTH = ("true", "false")
_READ_BUFFER_BYTES = 8 << 20


def judged_rows_sql(source: Source, readings: Sequence[Reading]) -> str:
    """Every row of these files: the typed columns, where it came from, what it broke, and its partition."""
    may_be_overlong = any(reading.export.is_parquet for reading in readings)
    may_be_nested = any(reading.export.is_objects for reading in readings)
    defaults = {reading.export.cells.nulls is None for reading in readings}
    is_mixed = len(defaults) > 1
    has_defaults = _DEFAULT_WORDS if is_mixed else str(True in defaults).lower()
    rules = Rules(source, may_be_nested=may_be_nested, has_defaults=has_defaults)
    more = "".join(f", {cell_name(column.name)}" for column in source.columns if rules.of(column))
    more += (f", {OVERLONG}" if may_be_overlong else "") + (f", {NESTED}" if may_be_nested else "")
    key = identifier(source.key.name)
    # Neighbours that are written alike together: the rows stay in the order of the files.
    alike = [list(run) for _, run in groupby(readings, key=lambda reading: reading.export.cells.of_values)]
    parsed = "\nUNION ALL\n".join(
        f"SELECT {FILE_INDEX}, {SOURCE_ROW}, {key_sql(cell_name(source.key.name), source.key)} AS {key}, "
        f"{_values_sql(source, run[0].export.cells)}{more}"
        f"{f', {run[0].export.cells.nulls is None} AS {_DEFAULT_WORDS}' if is_mixed else ''} "
        f"FROM ({_all_rows_sql(source, run, may_be_overlong=may_be_overlong, may_be_nested=may_be_nested)})"
        for run in alike
    )
    return f"""
        WITH parsed AS ({parsed}),
        flagged AS (SELECT *{rules.flags()} FROM {_mapped_sql(key) if source.key_map else "parsed"}),
        judged AS (SELECT *, {rules.reason(may_be_overlong=may_be_overlong)} AS {REASON} FROM flagged)
        SELECT {key}, {", ".join(map(rules.kept, source.columns))}, {FILE_INDEX}, {SOURCE_ROW},
            {REASON}, {rules.issues()},
            CASE WHEN {REASON} IS NULL THEN route({key}) ELSE {REJECTED} END AS {PARTITION}
        FROM judged"""


def _values_sql(source: Source, dialect: Dialect) -> str:
    """The typed columns of a source, from cells of this dialect."""
    return ", ".join(
        f"{value_sql(cell_name(column.name), column, dialect)} AS {identifier(column.name)}"
        for column in source.columns
    )


def _mapped_sql(key: str) -> str:
    """The parsed rows with the key that their id stands for; where there is none, the id stays, for the quarantine."""
    return f"""(
        SELECT parsed.* REPLACE (coalesce({KEY_MAP}.key, parsed.{key}) AS {key}),
            {KEY_MAP}.id IS NULL AS {UNMAPPED}, {KEY_MAP}.key IS NULL AS {AMBIGUOUS}
        FROM parsed LEFT JOIN {KEY_MAP} ON parsed.{key} = {KEY_MAP}.id
    )"""


def no_rows_sql(source: Source) -> str:
    """A relation of the same columns, but the partition, without rows."""
    columns = ", ".join(f"NULL::{column.duckdb} AS {identifier(column.name)}" for column in source.columns)
    return (
        f"SELECT NULL::VARCHAR AS {identifier(source.key.name)}, {columns}, NULL::SMALLINT AS {FILE_INDEX}, "
        f"NULL::BIGINT AS {SOURCE_ROW}, NULL::VARCHAR AS {REASON}, NULL::VARCHAR AS {ISSUES}, "
        f"NULL::VARCHAR[] AS {BAD_CELLS} WHERE false"
    )


def cells_sql(source: Source, readings: Sequence[Reading]) -> str:
    """Every row of these files as text cells in contract order."""
    may_be_overlong = any(reading.export.is_parquet for reading in readings)
    may_be_nested = any(reading.export.is_objects for reading in readings)
    return _all_rows_sql(source, readings, may_be_overlong=may_be_overlong, may_be_nested=may_be_nested)


def _all_rows_sql(source: Source, readings: Sequence[Reading], *, may_be_overlong: bool, may_be_nested: bool) -> str:
    return "\nUNION ALL\n".join(
        _rows_sql(source, reading, may_be_overlong=may_be_overlong, may_be_nested=may_be_nested) for reading in readings
    )


def _rows_sql(source: Source, reading: Reading, *, may_be_overlong: bool, may_be_nested: bool) -> str:
    """One file's rows as text cells in contract order, numbered from 1 in file order."""
    export = reading.export
    cells = ", ".join(
        f"{text} AS {cell_name(name)}"
        for name, text in {
            source.key.name: _key_cell(source, reading),
            **{column.name: _cell(source, reading, column) for column in source.columns},
        }.items()
    )
    path = pattern_literal(reading.readable)
    # An object's cells that are no values are named in a cell behind those that are wanted.
    names = f"nullif(c{len(export.wanted)}, '')" if export.is_objects else "NULL::VARCHAR"
    nested = f", {names} AS {NESTED}" if may_be_nested else ""
    if export.is_parquet:
        return _measured_rows_sql(
            source,
            reading,
            f"SELECT {reading.number}::SMALLINT AS {FILE_INDEX}, file_row_number + 1 AS {SOURCE_ROW}, {cells} "
            f"FROM {parquet_sql(reading.readable, 'file_row_number = true')}",
            nested,
        )
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(export.cell_count))
    dialect = export.structure
    # Explicit columns, no sniffing: a type guessed from the first rows is wrong for the last ones.
    return f"""
        SELECT {reading.number}::SMALLINT AS {FILE_INDEX}, row_number() OVER () AS {SOURCE_ROW}, {cells}
            {f", false AS {OVERLONG}" if may_be_overlong else ""}{nested}
        FROM read_csv({path}, columns = {{{columns}}}, auto_detect = false, header = true,
            delim = {literal(dialect.separator)}, quote = {literal(dialect.quote)}, escape = {literal(dialect.escape)},
            strict_mode = true, compression = 'none', buffer_size = {_READ_BUFFER_BYTES},
            store_rejects = true, rejects_limit = 0, rejects_table = '{reading.rejects_table}',
            rejects_scan = '{reading.rejects_table}_scan')"""


def _measured_rows_sql(source: Source, reading: Reading, rows: str, nested: str) -> str:
    """A Parquet file's rows under the limits of a CSV file: an overlong row has no texts, and all texts have an end."""
    from etl_assets.engine.reading.records import MAX_RECORD_BYTES

    size = " + ".join(f"coalesce(strlen({cell_name(name)}), 0)" for name in source.required)
    overlong = bounded_sql("_size", f"_size > {MAX_RECORD_BYTES}", reading.number, reading.limit_bytes)
    # Those that are written as they are; the others are null anyway when they are too long for a number or a date.
    texts = {source.key.name, *(column.name for column in source.columns if column.type is ColumnType.TEXT)}
    cells = ", ".join(
        f"CASE WHEN {OVERLONG} THEN NULL ELSE {cell_name(name)} END AS {cell_name(name)}"
        if name in texts
        else cell_name(name)
        for name in source.required
    )
    return f"""
        SELECT {FILE_INDEX}, {SOURCE_ROW}, {cells}, {OVERLONG}{nested}
        FROM (SELECT *, {overlong} AS {OVERLONG} FROM (SELECT *, {size} AS _size FROM ({rows})))"""


def _cell(source: Source, reading: Reading, column: Column) -> str:
    """A cell as text; null when it is a word that is declared for that."""
    if column.name in source.id_columns:
        return _id_cell(reading, reading.export.found[column.name])
    return cell_sql(_cell_text(reading, column), reading.export.cells, column)


def _id_cell(reading: Reading, spelled: str) -> str:
    """A cell of a key as text; null when it is a word for that."""
    kind = reading.export.types.get(spelled, "")
    return key_cell_sql(parquet_values.id_sql(reading.read_as(spelled), kind), reading.export.cells)


def _cell_text(reading: Reading, column: Column) -> str:
    """A cell as text; a number or a truth value of Parquet as the dialect reads it."""
    name, dialect = reading.column(column.name), reading.export.cells
    kind = reading.export.types.get(reading.export.found[column.name], "")
    if not reading.export.is_parquet or column.type is ColumnType.TEXT:
        return parquet_values.label_sql(name, kind)
    text = parquet_values.text_sql(name, kind)
    words = (dialect.true_word, dialect.false_word)
    if column.type is ColumnType.BOOL and words != _TRUTH:
        true, false = map(literal, words)
        found = f"CASE {text} WHEN 'true' THEN {true} WHEN 'false' THEN {false} END"
        return f"CASE WHEN typeof({name}) = 'BOOLEAN' THEN {found} ELSE {text} END"
    if dialect.decimal != ".":
        is_fraction = f"regexp_matches(typeof({name}), '^(FLOAT|DOUBLE|DECIMAL)')"
        return f"CASE WHEN {is_fraction} THEN replace({text}, '.', {literal(dialect.decimal)}) ELSE {text} END"
    return text


def _key_cell(source: Source, reading: Reading) -> str:
    """The key as text; of several columns, each of them is a cell on its own, and null when it has a word for that."""
    parts = [_id_cell(reading, column) for column in reading.export.key_columns]
    return parts[0] if len(parts) == 1 else joined_key_sql(parts, source.key)
