"""The contract as SQL: how the cells of an export become typed values, and which rows break which rule.

Names of the engine's own columns begin with an underscore, which no name of a contract does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from etl_assets.engine.reading import parquet_values
from etl_assets.engine.reading.forms import joined_key_sql, key_sql, value_sql
from etl_assets.engine.reading.null_cells import cell_sql, filled_cell_sql, is_damaged_key_sql, key_cell_sql
from etl_assets.engine.reading.parquet import bounded_sql
from etl_assets.engine.reading.quarantine import MALFORMED, Reading
from etl_assets.engine.sql_text import identifier, literal, parquet_sql, pattern_literal
from etl_assets.project.contract import Column, ColumnType, Source
from etl_assets.project.dialect import Dialect
from etl_assets.project.identity import Damaged, Key

# Rows that broke a rule go to this partition of the one COPY that writes a source.
REJECTED = -1
# The file of a row, its place in it, the rule that it broke, and the partition that it is written to.
FILE_INDEX, SOURCE_ROW, REASON, PARTITION = "_file_index", "_source_row", "_reason", "_shard"
# Whether a row is longer than any may be. Only Parquet has such rows: in a CSV file they are damage, and left out.
_OVERLONG = "_overlong"
# Names of the columns whose cells are lists or objects, each between commas. Only records of objects have such cells.
NESTED = "_nested"
# Names of the columns whose cells broke a rule and became null, with commas between them; and what was in these cells.
ISSUES, BAD_CELLS = "_issues", "_bad_cells"
# The table of `mapping`, and whether it lacks the id of a row, or has several keys for it.
KEY_MAP, _UNMAPPED, _AMBIGUOUS = "_key_map", "_unmapped", "_ambiguous"
_CELL_CHARS = 1_000
# Whether the default words for null count in the file of a row, where they do in some files only.
_DEFAULT_WORDS = "_default_words"
# How DuckDB writes truth values.
_TRUTH = ("true", "false")
_READ_BUFFER_BYTES = 8 << 20


def judged_rows_sql(source: Source, readings: Sequence[Reading]) -> str:
    """Every row of these files: the typed columns, where it came from, the first rule it broke, and its partition."""
    may_be_overlong = any(reading.export.is_parquet for reading in readings)
    may_be_nested = any(reading.export.is_objects for reading in readings)
    defaults = {reading.export.cells.nulls is None for reading in readings}
    is_mixed = len(defaults) > 1
    has_defaults = _DEFAULT_WORDS if is_mixed else str(True in defaults).lower()
    rules = _Rules(source, may_be_nested=may_be_nested, has_defaults=has_defaults)
    more = "".join(f", {cell_name(column.name)}" for column in source.columns if rules.of(column))
    more += (f", {_OVERLONG}" if may_be_overlong else "") + (f", {NESTED}" if may_be_nested else "")
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
        judged AS (
            SELECT *, {rules.reason(may_be_overlong=may_be_overlong)} AS {REASON}
            FROM {_mapped_sql(key) if source.key_map else "parsed"}
        )
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
            {f", false AS {_OVERLONG}" if may_be_overlong else ""}{nested}
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
        f"CASE WHEN {_OVERLONG} THEN NULL ELSE {cell_name(name)} END AS {cell_name(name)}"
        if name in texts
        else cell_name(name)
        for name in source.required
    )
    return f"""
        SELECT {FILE_INDEX}, {SOURCE_ROW}, {cells}, {_OVERLONG}{nested}
        FROM (SELECT *, {overlong} AS {_OVERLONG} FROM (SELECT *, {size} AS _size FROM ({rows})))"""


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


def cell_name(name: str) -> str:
    """The name under which a column's cells are read, before they are values."""
    return identifier(f"_cell_{name}")


@dataclass(frozen=True)
class _Rules:
    """What a source's rows are judged by, as SQL."""

    source: Source
    may_be_nested: bool
    # SQL for whether the default words for null count in the file of a row.
    has_defaults: str

    def of(self, column: Column) -> list[str]:
        """The conditions under which a cell of this column is bad."""
        has_defaults = self.has_defaults if column.nulls is None else "false"
        return [*self._nested(column.name), *_broken_rules(column, has_defaults)]

    @cached_property
    def nulled(self) -> dict[Column, str]:
        """The columns whose bad cells become null, and SQL for whether a row's cell is bad.

        None where the contract says of no cell that it may be lost: then a list in a text costs its row.
        """
        if not self.source.has_issues:
            return {}
        rules = {column: self.of(column) for column in self.source.columns if self.source.nulls(column)}
        return {column: f"coalesce({' OR '.join(broken)}, false)" for column, broken in rules.items() if broken}

    def reason(self, *, may_be_overlong: bool) -> str:
        """The first rule of the contract that a row breaks, as SQL; null for a sound row."""
        key = self.source.key
        broken = [*self._nested(key.name), f"length({identifier(key.name)}) > {key.max_chars}"]
        if key.damaged is Damaged.REJECT:
            broken.append(is_damaged_key_sql(identifier(key.name), len(self.source.key_headers)))
        whens = [
            *([f"WHEN {_OVERLONG} THEN {literal(MALFORMED)}"] if may_be_overlong else []),
            f"WHEN {identifier(key.name)} IS NULL THEN {literal(f'missing_{key.name}')}",
            f"WHEN {' OR '.join(broken)} THEN {literal(f'invalid:{key.name}')}",
        ]
        if self.source.key_map:
            whens += [
                f"WHEN {_UNMAPPED} THEN {literal(unmapped_key(key))}",
                f"WHEN {_AMBIGUOUS} THEN {literal(ambiguous_key(key))}",
            ]
        for column in self.source.columns:
            rules = self.of(column)
            if rules and column not in self.nulled:
                whens.append(f"WHEN {' OR '.join(rules)} THEN {literal(f'invalid:{column.name}')}")
            if column.name in self.source.needed:
                whens.append(f"WHEN {identifier(column.name)} IS NULL THEN {literal(f'missing:{column.name}')}")
        return f"CASE {' '.join(whens)} END"

    def issues(self) -> str:
        """What is wrong with the cells of a row and these cells, as SQL: of an accepted row, the names of the columns
        whose cells became null; of a rejected one, all reasons besides its own.
        """
        others = self._other_reasons()
        reasons, cells = _listed(others)
        if not self.nulled:
            return (
                f"CASE WHEN {REASON} IS NOT NULL THEN {reasons} END AS {ISSUES}, "
                f"CASE WHEN {REASON} IS NOT NULL THEN {cells} END AS {BAD_CELLS}"
            )
        is_any = " OR ".join(self.nulled.values())
        names, bad_cells = _listed(
            [(bad, column.name, cell_name(column.name)) for column, bad in self.nulled.items()]
        )
        return (
            f"CASE WHEN {REASON} IS NOT NULL THEN {reasons} WHEN {is_any} THEN {names} END AS {ISSUES}, "
            f"CASE WHEN {REASON} IS NOT NULL THEN {cells} WHEN {is_any} THEN {bad_cells} END AS {BAD_CELLS}"
        )

    def _other_reasons(self) -> list[tuple[str, str, str]]:
        """What may be wrong with the cells of a rejected row besides its reason: condition, reason and cell, as SQL.

        Nothing with those of a row that is too long: they were not read.
        """
        found = []
        for column in self.source.columns:
            invalid, cell = f"invalid:{column.name}", cell_name(column.name)
            rules = self.of(column)
            if rules:
                found.append((_not_for(invalid, f"({' OR '.join(rules)})"), invalid, cell))
            if column.name in self.source.needed:
                missing, name = f"missing:{column.name}", identifier(column.name)
                is_invalid = f"{REASON} = {literal(invalid)}" + "".join(f" OR coalesce({rule}, false)" for rule in rules)
                empty = f"{name} IS NULL AND NOT ({is_invalid})"
                found.append((_not_for(missing, empty), missing, f"coalesce({cell}, '')" if rules else "''"))
        return found

    def kept(self, column: Column) -> str:
        """A column's value as it is kept: null where it broke a rule that its type alone does not tell."""
        name, bad = identifier(column.name), self.nulled.get(column)
        has_limits = column.min is not None or column.max is not None or column.values or column.pattern
        may_be_bad = has_limits or (self.may_be_nested and column.type is ColumnType.TEXT)
        return f"CASE WHEN NOT {bad} THEN {name} END AS {name}" if bad and may_be_bad else name

    def _nested(self, name: str) -> list[str]:
        return [f"contains({NESTED}, {literal(f',{name},')})"] if self.may_be_nested else []


def _not_for(reason: str, condition: str) -> str:
    return f"{REASON} NOT IN ({literal(reason)}, {literal(MALFORMED)}) AND {condition}"


def _listed(entries: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
    """The names whose condition holds, with commas between them, and the list of their cells."""
    if not entries:
        return "NULL::VARCHAR", "NULL::VARCHAR[]"
    names = ", ".join(f"CASE WHEN {condition} THEN {literal(name)} END" for condition, name, _ in entries)
    cells = ", ".join(f"CASE WHEN {condition} THEN left({cell}, {_CELL_CHARS}) END" for condition, _, cell in entries)
    return f"nullif(concat_ws(',', {names}), '')", f"list_filter([{cells}], lambda cell: cell IS NOT NULL)"


def _broken_rules(column: Column, has_defaults: str) -> Iterator[str]:
    name = identifier(column.name)
    if column.type is not ColumnType.TEXT:
        yield f"({name} IS NULL AND {filled_cell_sql(cell_name(column.name), has_defaults)})"
    if column.min is not None:
        yield f"{name} < {column.min}"
    if column.max is not None:
        yield f"{name} > {column.max}"
    if column.values:
        yield f"{name} NOT IN ({', '.join(literal(value) for value in column.values)})"
    if column.pattern:
        yield f"NOT regexp_full_match({name}, {literal(column.pattern)})"
