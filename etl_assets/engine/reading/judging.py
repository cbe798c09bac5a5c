"""The contract as SQL: how the cells of an export become typed values, and which rows break which rule.

Names of the engine's own columns begin with an underscore, which no name of a contract does.
"""

from collections.abc import Iterator, Sequence

from etl_assets.engine.reading.forms import cell_sql, joined_key_sql, key_sql, value_sql
from etl_assets.engine.reading.parquet import bounded_sql
from etl_assets.engine.reading.quarantine import MALFORMED, Reading
from etl_assets.engine.sql_text import identifier, literal, pattern_literal
from etl_assets.project.contract import Column, ColumnType, Source
from etl_assets.project.identity import Key

# Rows that broke a rule go to this partition of the one COPY that writes a source.
REJECTED = -1
# The file of a row, its place in it, the rule that it broke, and the partition that it is written to.
FILE_INDEX, SOURCE_ROW, REASON, PARTITION = "_file_index", "_source_row", "_reason", "_shard"
# Whether a row is longer than any may be. Only Parquet has such rows: in a CSV file they are damage, and left out.
_OVERLONG = "_overlong"
# Names of the columns whose cells broke a rule and became null, with commas between them; and what was in these cells.
ISSUES, BAD_CELLS = "_issues", "_bad_cells"
# The table of `mapping`, and whether it lacks the id of a row, or has several keys for it.
KEY_MAP, _UNMAPPED, _AMBIGUOUS = "_key_map", "_unmapped", "_ambiguous"
_CELL_CHARS = 1_000
_READ_BUFFER_BYTES = 8 << 20


def judged_rows_sql(source: Source, readings: Sequence[Reading]) -> str:
    """Every row of these files: the typed columns, where it came from, the first rule it broke, and its partition."""
    may_be_overlong = any(reading.export.is_parquet for reading in readings)
    rows = cells_sql(source, readings)
    parsed = ", ".join(
        f"{value_sql(cell_name(column.name), column, source.csv)} AS {identifier(column.name)}"
        for column in source.columns
    )
    cells = "".join(f", {cell_name(column.name)}" for column in source.columns if column.can_break)
    key = identifier(source.key.name)
    return f"""
        WITH cells AS ({rows}),
        parsed AS (
            SELECT {FILE_INDEX}, {SOURCE_ROW},
                {key_sql(cell_name(source.key.name), source.key)} AS {key}, {parsed}{cells}
                {f", {_OVERLONG}" if may_be_overlong else ""}
            FROM cells
        ),
        judged AS (
            SELECT *, {_reason_sql(source, may_be_overlong=may_be_overlong)} AS {REASON}, {_issues_sql(source)}
            FROM {_mapped_sql(key) if source.key_map else "parsed"}
        )
        SELECT {key}, {", ".join(_kept(source, column) for column in source.columns)}, {FILE_INDEX}, {SOURCE_ROW},
            {REASON}, {ISSUES}, {BAD_CELLS},
            CASE WHEN {REASON} IS NULL THEN route({key}) ELSE {REJECTED} END AS {PARTITION}
        FROM judged"""


def _mapped_sql(key: str) -> str:
    """The parsed rows with the key that their id stands for; where there is none, the id stays, for the quarantine."""
    return f"""(
        SELECT parsed.* REPLACE (coalesce({KEY_MAP}.key, parsed.{key}) AS {key}),
            {KEY_MAP}.id IS NULL AS {_UNMAPPED}, {KEY_MAP}.key IS NULL AS {_AMBIGUOUS}
        FROM parsed LEFT JOIN {KEY_MAP} ON parsed.{key} = {KEY_MAP}.id
    )"""


def unmapped_key(key: Key) -> str:
    """The reason of a row whose id the key map lacks."""
    return f"unmapped_{key.name}"


def ambiguous_key(key: Key) -> str:
    """The reason of a row whose id the key map gives several keys."""
    return f"ambiguous_{key.name}"


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
    return "\nUNION ALL\n".join(_rows_sql(source, reading, may_be_overlong=may_be_overlong) for reading in readings)


def _rows_sql(source: Source, reading: Reading, *, may_be_overlong: bool) -> str:
    """One file's rows as text cells in contract order, numbered from 1 in file order."""
    export = reading.export
    cells = ", ".join(
        f"{text} AS {cell_name(name)}"
        for name, text in {
            source.key.name: _key_cell(source, reading),
            **{column.name: cell_sql(_text(reading.column(column.name)), source.csv) for column in source.columns},
        }.items()
    )
    path = pattern_literal(reading.readable)
    if export.is_parquet:
        return _measured_rows_sql(
            source,
            reading,
            f"SELECT {reading.number}::SMALLINT AS {FILE_INDEX}, file_row_number + 1 AS {SOURCE_ROW}, {cells} "
            f"FROM read_parquet({path}, file_row_number = true)",
        )
    columns = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(export.cell_count))
    dialect = export.dialect
    # Explicit columns, no sniffing: a type guessed from the first rows is wrong for the last ones.
    return f"""
        SELECT {reading.number}::SMALLINT AS {FILE_INDEX}, row_number() OVER () AS {SOURCE_ROW}, {cells}
            {f", false AS {_OVERLONG}" if may_be_overlong else ""}
        FROM read_csv({path}, columns = {{{columns}}}, auto_detect = false, header = true,
            delim = {literal(dialect.delimiter)}, quote = {literal(dialect.quote)}, escape = {literal(dialect.escape)},
            strict_mode = true, compression = 'none', buffer_size = {_READ_BUFFER_BYTES},
            store_rejects = true, rejects_limit = 0, rejects_table = '{reading.rejects_table}',
            rejects_scan = '{reading.rejects_table}_scan')"""


def _measured_rows_sql(source: Source, reading: Reading, rows: str) -> str:
    """A Parquet file's rows under the limits of a CSV file: an overlong row has no texts, and all texts have an end."""
    from etl_assets.engine.reading.records import MAX_RECORD_BYTES

    size = " + ".join(f"coalesce(strlen({cell_name(name)}), 0)" for name in source.required)
    overlong = bounded_sql("_size", f"_size > {MAX_RECORD_BYTES}", reading.number, reading.limit_bytes)
    # Those that are written as they are; the others are null anyway when they are too long for a number or a date.
    texts = {source.key.name, *(column.name for column in source.columns if column.type is ColumnType.TEXT)}
    cells = ", ".join(
        f"CASE WHEN {_OVERLONG} THEN NULL ELSE {cell_name(name)} END AS {cell_name(name)}"
        if name in texts
        else cell_name(name)
        for name in source.required
    )
    return f"""
        SELECT {FILE_INDEX}, {SOURCE_ROW}, {cells}, {_OVERLONG}
        FROM (SELECT *, {overlong} AS {_OVERLONG} FROM (SELECT *, {size} AS _size FROM ({rows})))"""


def _text(column: str) -> str:
    return f"CAST({identifier(column)} AS VARCHAR)"


def _key_cell(source: Source, reading: Reading) -> str:
    """The key as text; of several columns, each of them is a cell on its own, and null when it has a word for that."""
    parts = [cell_sql(_text(column), source.csv) for column in reading.key_columns]
    return parts[0] if len(parts) == 1 else joined_key_sql(parts, source.key)


def cell_name(name: str) -> str:
    """The name under which a column's cells are read, before they are values."""
    return identifier(f"_cell_{name}")


def _reason_sql(source: Source, *, may_be_overlong: bool) -> str:
    """The first rule of the contract that a row breaks, as SQL; null for a sound row."""
    key = source.key
    whens = [
        *([f"WHEN {_OVERLONG} THEN {literal(MALFORMED)}"] if may_be_overlong else []),
        f"WHEN {identifier(key.name)} IS NULL THEN {literal(f'missing_{key.name}')}",
        f"WHEN length({identifier(key.name)}) > {key.max_chars} THEN {literal(f'invalid:{key.name}')}",
    ]
    if source.key_map:
        whens += [
            f"WHEN {_UNMAPPED} THEN {literal(unmapped_key(key))}",
            f"WHEN {_AMBIGUOUS} THEN {literal(ambiguous_key(key))}",
        ]
    for column in source.columns:
        rules = list(_broken_rules(column))
        if rules and not source.nulls(column):
            whens.append(f"WHEN {' OR '.join(rules)} THEN {literal(f'invalid:{column.name}')}")
        if column.name in source.needed:
            whens.append(f"WHEN {identifier(column.name)} IS NULL THEN {literal(f'missing:{column.name}')}")
    return f"CASE {' '.join(whens)} END"


def _nulled(source: Source) -> dict[Column, str]:
    """The columns whose bad cells become null, and SQL for whether a row's cell is bad."""
    rules = {column: list(_broken_rules(column)) for column in source.columns if source.nulls(column)}
    return {column: f"coalesce({' OR '.join(broken)}, false)" for column, broken in rules.items() if broken}


def _issues_sql(source: Source) -> str:
    nulled = _nulled(source)
    if not nulled:
        return f"NULL::VARCHAR AS {ISSUES}, NULL::VARCHAR[] AS {BAD_CELLS}"
    is_any = " OR ".join(nulled.values())
    names = ", ".join(f"CASE WHEN {bad} THEN {literal(column.name)} END" for column, bad in nulled.items())
    cells = ", ".join(
        f"CASE WHEN {bad} THEN left({cell_name(column.name)}, {_CELL_CHARS}) END" for column, bad in nulled.items()
    )
    return (
        f"CASE WHEN {is_any} THEN concat_ws(',', {names}) END AS {ISSUES}, "
        f"CASE WHEN {is_any} THEN list_filter([{cells}], lambda cell: cell IS NOT NULL) END AS {BAD_CELLS}"
    )


def _kept(source: Source, column: Column) -> str:
    """A column's value as it is kept: null where it broke a rule that its type alone does not tell."""
    name, bad = identifier(column.name), _nulled(source).get(column)
    has_limits = column.min is not None or column.max is not None or column.values or column.pattern
    return f"CASE WHEN NOT {bad} THEN {name} END AS {name}" if bad and has_limits else name


def _broken_rules(column: Column) -> Iterator[str]:
    name = identifier(column.name)
    if column.type is not ColumnType.TEXT:
        yield f"({name} IS NULL AND blank_to_null({cell_name(column.name)}) IS NOT NULL)"
    if column.min is not None:
        yield f"{name} < {column.min}"
    if column.max is not None:
        yield f"{name} > {column.max}"
    if column.values:
        yield f"{name} NOT IN ({', '.join(literal(value) for value in column.values)})"
    if column.pattern:
        yield f"NOT regexp_full_match({name}, {literal(column.pattern)})"
