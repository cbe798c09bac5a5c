"""The types of a source's columns from all of its rows, tested with the engine's own forms of values.

What a draft declares is what `run` accepts: a column is a number, a truth value or a date only if every cell of it is.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb

from etl_assets.drafting.grouping import Group
from etl_assets.drafting.naming import column_names
from etl_assets.drafting.sniffing import MAX_UNPACKED_BYTES, Sniffed
from etl_assets.engine.reading import cell_forms, exports
from etl_assets.engine.reading.cell_forms import NEARLY
from etl_assets.engine.reading.forms import value_sql
from etl_assets.engine.reading.judging import cells_sql
from etl_assets.engine.reading.null_cells import any_cell_sql
from etl_assets.engine.reading.parquet_values import nested_columns
from etl_assets.engine.reading.rules import cell_name
from etl_assets.engine.sql_text import identifier, literal
from etl_assets.engine.steps.stage import prepare
from etl_assets.project.columns import Column, ColumnType, plain_name
from etl_assets.project.contract import Source
from etl_assets.project.dialect import DEFAULT_FALSE, DEFAULT_TRUE, Dialect
from etl_assets.project.identity import Key

_SAMPLE_ROWS, _SAMPLE_CELLS = 2_000, 300
# Headers of columns that stay text even if every cell is made of digits, such as phone numbers: leading zeros matter.
_LABELS = re.compile(
    r"(^|_)(id|ids|key|code|number|no|nr|num|ref|reference|zip|zipcode|postal|postcode|plz|phone|mobile|tel|telephone|fax"
    r"|iban|bic|vat|tax_id|sku|barcode|ean|isbn|serial|card|account|order|invoice|ticket|username|name)(_id|_code)?$"
)
_EMAIL = re.compile(r"e_?mail")
_MONEY = re.compile(
    r"(^|_)(amount|price|total|subtotal|mrr|arr|revenue|cost|costs|fee|fees|balance|paid|tax|taxes|discount|shipping|value"
    r"|spent|salary|budget|sum|betrag|preis|umsatz|beitrag)(_|$)"
)
_PERSONAL = re.compile(
    r"e_?mail|phone|mobile|(^|_)(tel|fax|iban|ssn|passport)(_|$)|birth|(^|_)dob($|_)|address|street|strasse|(^|_)(zip|plz)"
    r"|postal|(first|last|full|given|family|sur|middle|contact|requester|customer|member|billing|shipping|holder|user|owner|"
    r"reviewer|author|assignee)_?name$|(^|_)requester$|^(vor|nach)name$"
)
# What an address and many others share.
_OF_MANY = re.compile(r"(^|_)(country|country_code|currency)$")
# More digits than any double holds exactly: such numbers are identifiers.
_MAX_DIGITS = 15
_WORDS_KEPT = 6
_CENTS = 2
# Longer cells are text: of no number and no date.
_MAX_VALUE_CHARS = 48
MORE_THAN_ONCE = "which the header has more than once"
# Stands for the key until it is known.
_KEY_OF_A_DRAFT = Key(name="key_of_a_draft")


@dataclass(frozen=True)
class Observed:
    """One column: its type, and what of its values matters for keys and for the query.

    Nearly all cells have at most `usual_chars`; a damaged one may have many more.
    """

    name: str
    header: str
    type: str = "text"
    filled: int = 0
    distinct: int = 0
    usual_chars: int = 0
    words: tuple[str, ...] = ()
    is_email: bool = False
    is_digits: bool = False
    is_personal: bool = False
    note: str = ""

    @property
    def is_label(self) -> bool:
        """Whether its header says that it names something."""
        return bool(_LABELS.search(plain_name(self.header))) or self.is_email or self.header.rstrip().endswith("#")

    @property
    def is_unique(self) -> bool:
        """Whether no value is there twice."""
        return 0 < self.filled == self.distinct


@dataclass(frozen=True)
class Table:
    """A source's rows in the draft's database, a column of text for each of the headers, and what they are."""

    group: Group
    name: str
    row_count: int
    damaged_count: int
    columns: tuple[Observed, ...]
    words: Mapping[str, object]
    notes: tuple[str, ...] = ()


def observe(
    connection: duckdb.DuckDBPyConnection, group: Group, sniffed: Sniffed, root: Path, scratch: Path, number: int
) -> Table:
    """Read all rows of a group into the connection, and find the types of the columns and the forms of the values.

    `number` is the first of the numbers that its files take. InputError when a file cannot be read.
    """
    headers = [header for header in sniffed.header if header.strip() and _is_once(header, sniffed.header)]
    nested = nested_columns(exports.open_exports(_source(group, _named(headers), sniffed.words), root))
    columns = _named([header for header in headers if header not in nested] or headers)
    table = _load(connection, _source(group, columns, sniffed.words), root, scratch, number)
    table = replace(table, group=group, columns=tuple(_counted(connection, table.name, columns)), words=sniffed.words)
    sample = _sampled(connection, table)
    words, notes = _value_words(table, sample, str(sniffed.words.get("delimiter", ",")))
    left_out = [header for header in dict.fromkeys(sniffed.header) if header not in headers and header.strip()]
    notes += [f"left out: {header}, {MORE_THAN_ONCE}" for header in left_out]
    notes += [f"left out: {header}, of type {kind}, which holds no single values" for header, kind in nested.items()]
    words = {**sniffed.words, **words}
    typed = [_typed(connection, table.name, column, words, sample[column.name]) for column in table.columns]
    return replace(table, columns=tuple(typed), words=words, notes=(*sniffed.guesses, *notes))


def _named(headers: Sequence[str]) -> list[Observed]:
    return [Observed(name, header) for name, header in zip(column_names(headers), headers, strict=True)]


def _is_once(header: str, headers: Sequence[str]) -> bool:
    return [one.strip().lower() for one in headers].count(header.strip().lower()) == 1


def _source(group: Group, columns: Sequence[Observed], words: Mapping[str, object]) -> Source:
    """The source with all of its columns as text; the key of a draft is its first column."""
    source = Source(
        name=group.name,
        files=group.patterns,
        key=(columns[0].header,),
        csv=Dialect.model_validate(words),
        columns=tuple(Column.model_validate({"name": one.name, "from": one.header}) for one in columns),
    )
    return source.with_key(_KEY_OF_A_DRAFT)


def _load(connection: duckdb.DuckDBPyConnection, source: Source, root: Path, scratch: Path, number: int) -> Table:
    opened = exports.open_exports(source, root)
    names = ", ".join(f"blank_to_null({cell_name(one.name)}) AS {identifier(one.name)}" for one in source.columns)
    name = f"rows_{source.name}"
    with contextlib.ExitStack() as files:
        readings = [
            prepare(export, number + place, scratch, MAX_UNPACKED_BYTES, files) for place, export in enumerate(opened)
        ]
        rows = cells_sql(source, readings)
        connection.execute(f"CREATE TEMP TABLE {identifier(name)} AS SELECT {names} FROM ({rows})")
    row = connection.execute(f"SELECT count(*) FROM {identifier(name)}").fetchone()
    assert row is not None
    record_count = sum(reading.record_count for reading in readings)
    return Table(Group(source.name, (), ()), name, record_count, record_count - int(row[0]), (), {})


def _counted(connection: duckdb.DuckDBPyConnection, table: str, columns: Sequence[Observed]) -> list[Observed]:
    figures = ", ".join(
        f"count({column}), count(DISTINCT {column}), coalesce(quantile_disc(length({column}), {NEARLY}), 0), "
        f"count(*) FILTER (contains({column}, '@')), count(*) FILTER (regexp_full_match(strip({column}), '[0-9]+')), "
        f"count(*) FILTER (regexp_matches({column}, '[0-9]'))"
        for column in (identifier(one.name) for one in columns)
    )
    row = connection.execute(f"SELECT {figures} FROM {identifier(table)}").fetchone()
    assert row is not None
    found = []
    for place, column in enumerate(columns):
        filled, distinct, usual_chars, with_at, of_digits, with_digit = row[6 * place : 6 * place + 6]
        plain = plain_name(column.header)
        # Of a mail's subject or text some hold an @, too.
        is_email = filled > 0 and with_at >= NEARLY * filled and (bool(_EMAIL.search(plain)) or usual_chars <= 128)
        # `#1001` is the name of an order, not of a person.
        is_named = plain == "name" and 2 * with_digit < filled
        is_personal = is_email or is_named or bool(_PERSONAL.search(plain) and not _OF_MANY.search(plain))
        is_digits = filled == of_digits > 0
        counted = replace(column, filled=filled, distinct=distinct, usual_chars=usual_chars, is_digits=is_digits)
        found.append(replace(counted, is_email=is_email, is_personal=is_personal))
    return found


def _sampled(connection: duckdb.DuckDBPyConnection, table: Table) -> dict[str, list[str]]:
    """Some cells of each column, from all over the rows."""
    rows = connection.execute(
        f"SELECT * FROM {identifier(table.name)} USING SAMPLE reservoir({_SAMPLE_ROWS} ROWS) REPEATABLE (1)"
    ).fetchall()
    cells = zip(*rows, strict=True) if rows else [() for _ in table.columns]
    return {
        column.name: list(dict.fromkeys(cell for cell in values if cell is not None))[:_SAMPLE_CELLS]
        for column, values in zip(table.columns, cells, strict=True)
    }


def _value_words(
    table: Table, sample: Mapping[str, Sequence[str]], delimiter: str
) -> tuple[dict[str, object], list[str]]:
    """The words of the dialect about values, and what in them is a guess."""
    known = set(cell_forms.NULL_WORDS)
    without = {name: [cell for cell in cells if cell.strip() not in known] for name, cells in sample.items()}
    labels = {column.name for column in table.columns if column.is_label}
    quantities = {name: cells for name, cells in without.items() if name not in labels}
    decimal, thousands, currency, percent, parentheses = cell_forms.number_marks(list(quantities.values()), delimiter)
    by_name = {column.name: column for column in table.columns}
    undated = {
        name: cells
        for name, cells in quantities.items()
        if cells and (not all(cell.strip().isdigit() for cell in cells) or "date" in plain_name(by_name[name].header))
    }
    dated, guesses = cell_forms.date_forms(undated, delimiter)
    found = {name: cell_forms.counted_form(cells, by_name[name].header) for name, cells in quantities.items()}
    counted = {name: form for name, form in found.items() if form}
    guesses += [f"dates: {name} is read as {form}, a count of moments since 1970" for name, form in counted.items()]
    dates = [*dict.fromkeys(dated.values()), *sorted(set(counted.values()))]
    guesses += cell_forms.doubtful_numbers(
        {name: cells for name, cells in quantities.items() if name not in dated}, decimal, thousands
    )
    signs = [sign for sign in currency if not any(sign != other and sign in other for other in currency)]
    typed = {
        name
        for name, cells in quantities.items()
        if name in dated or cell_forms.is_iso_date(cells) or cell_forms.is_number(cells, (decimal, thousands), currency)
    }
    nulls = cell_forms.null_words(sample, typed)
    pairs = [cell_forms.truth_words(cells) for cells in without.values()]
    others = [pair for pair in pairs if pair and pair[0] not in DEFAULT_TRUE]
    words: dict[str, object] = {
        "decimal": decimal if decimal != "." else None,
        "thousands": thousands,
        "currency": signs or list(currency),
        "percent": percent,
        "parentheses": parentheses,
        "dates": dates,
        "nulls": nulls,
        "true_words": [*DEFAULT_TRUE, *(pair[0] for pair in others)] if others else None,
        "false_words": list(dict.fromkeys([*DEFAULT_FALSE, *(pair[1] for pair in others)])) if others else None,
    }
    if nulls:
        guesses = [*guesses, f"nulls: {', '.join(nulls)}"]
    return {name: value for name, value in words.items() if value}, guesses


def _typed(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    column: Observed,
    words: Mapping[str, object],
    sample: Sequence[str],
) -> Observed:
    """The column with the narrowest type that every cell of it has."""
    dialect = Dialect.model_validate(words)
    cell = any_cell_sql(identifier(column.name), dialect)
    candidates = [] if column.is_label else _candidates(sample, column)
    wanted = ", ".join(f"count({value_sql(cell, one, dialect)})" for one in candidates)
    # Whether a moment is not midnight; asked for only where it may be one.
    times = [value_sql(cell, one, dialect) for one in candidates if one.type is ColumnType.TIMESTAMP]
    timed_sql = f"count(*) FILTER (({times[0]})::DATE <> {times[0]})" if times else "0"
    row = connection.execute(
        f"""SELECT count({cell}), count(DISTINCT {cell}),
            count(*) FILTER (regexp_matches({cell}, '^\\s*[+-]?(0[0-9]|[0-9]{{{_MAX_DIGITS + 1}}})')),
            {timed_sql},
            (list(DISTINCT {cell}) FILTER ({cell} IS NOT NULL))[:{_WORDS_KEPT + 1}]
            {f", {wanted}" if wanted else ""} FROM {identifier(table)}"""
    ).fetchone()
    assert row is not None
    filled, distinct, odd_digits, timed, some, *counts = row
    found = replace(column, filled=filled, distinct=distinct)
    words_found = sorted(some or []) if 0 < distinct <= _WORDS_KEPT else []
    if not filled:
        return replace(found, note="no cell is filled")
    for one, count in zip(candidates, counts, strict=True):
        is_label = odd_digits and one.is_number
        if count == filled and not is_label:
            is_personal = column.is_personal and one.type is not ColumnType.BOOL
            return replace(found, type=_declared(one, timed=bool(timed)), is_personal=is_personal)
    best = max(counts, default=0)
    note = (
        _why_text(connection, table, column, cell, dialect, candidates[counts.index(best)], filled - best)
        if (candidates and best < filled and best >= NEARLY * filled)
        else ""
    )
    return replace(found, words=tuple(words_found), note=note)


def _candidates(sample: Sequence[str], column: Observed) -> list[Column]:
    """The types to test, narrower ones first; none for what is plainly text."""
    written = [cell.strip() for cell in sample if cell.strip() not in cell_forms.NULL_WORDS]
    if cell_forms.counted_form(written, column.header):
        return [Column(name="cell", type=ColumnType.TIMESTAMP)]
    kinds = [ColumnType.BOOL] if cell_forms.truth_words(written) else []
    with_digit = sum(any(mark.isdigit() for mark in cell) for cell in written)
    if with_digit and with_digit >= NEARLY * len(written) and column.usual_chars <= _MAX_VALUE_CHARS:
        # `12.00` is money, though it is a whole number as well.
        cents = [re.fullmatch(r".*\d[.,](\d+)\D*", cell) for cell in written]
        has_cents = all(one and len(one[1]) == _CENTS for one in cents)
        is_money = has_cents or bool(_MONEY.search(plain_name(column.header)))
        numbers = [ColumnType.INT, *([ColumnType.DECIMAL] if is_money else []), ColumnType.FLOAT]
        kinds += [*([ColumnType.DECIMAL] if has_cents else []), *numbers, ColumnType.TIMESTAMP]
    return [Column(name="cell", type=kind) for kind in dict.fromkeys(kinds)]


def _declared(column: Column, *, timed: bool) -> str:
    if column.type is ColumnType.DECIMAL:
        return f"decimal({column.precision},{column.scale})"
    return "date" if column.type is ColumnType.TIMESTAMP and not timed else column.type.value


def _why_text(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    column: Observed,
    cell: str,
    dialect: Dialect,
    nearly: Column,
    count: int,
) -> str:
    """Why a column that is nearly of another type stays text."""
    row = connection.execute(
        f"SELECT min({cell}) FROM {identifier(table)} "
        f"WHERE {cell} IS NOT NULL AND ({value_sql(cell, nearly, dialect)}) IS NULL"
    ).fetchone()
    example = "" if row is None or column.is_personal else f", such as {literal(str(row[0])[:40])}"
    kind = _declared(nearly, timed=False)
    one_of = f"{count} cell is" if count == 1 else f"{count} cells are"
    return f"text, as {one_of} no {kind}{example}; as {kind}, {'it becomes' if count == 1 else 'they become'} null"
