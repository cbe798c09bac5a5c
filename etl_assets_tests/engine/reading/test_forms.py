"""Forms of values: what a dialect declares is read with just that meaning, and nothing else is read at all."""

import string
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etl_assets.engine import duck
from etl_assets.engine.reading.forms import MACROS, joined_key_sql, key_sql, value_sql
from etl_assets.engine.reading.null_cells import cell_sql, key_cell_sql
from etl_assets.project.contract import Column, ColumnType
from etl_assets.project.dialect import Dialect
from etl_assets.project.identity import Key

Read = Callable[..., object]


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duck.reader() as connection:
        duck.add_macros(connection, MACROS)
        yield connection


@pytest.fixture(scope="module")
def read(connection: duckdb.DuckDBPyConnection) -> Read:
    """The value of a cell of a column, in a dialect."""

    def value(cell: str, kind: str = "float", **dialect: object) -> object:
        column = Column.model_validate({"name": "value", "type": kind})
        spoken = Dialect.model_validate(dialect)
        sql = value_sql(cell_sql("cell", spoken), column, spoken)
        row = connection.execute(f"SELECT {sql} FROM (SELECT ?::VARCHAR AS cell)", [cell]).fetchone()
        assert row is not None
        found: object = row[0]
        return found

    return value


GERMAN = {"decimal": ",", "thousands": "."}
ENGLISH = {"thousands": ","}
SWISS = {"thousands": "'"}
FRENCH = {"decimal": ",", "thousands": " "}


@pytest.mark.parametrize(
    ("cell", "dialect", "value"),
    [
        ("1.234,5", GERMAN, 1234.5),
        ("1234,5", GERMAN, 1234.5),
        ("-1.234.567", GERMAN, -1234567.0),
        ("1.234", GERMAN, 1234.0),
        ("1,5e3", GERMAN, 1500.0),
        (",5", GERMAN, 0.5),
        ("1,234.5", ENGLISH, 1234.5),
        ("25,000", ENGLISH, 25000.0),
        ("1'000.50", SWISS, 1000.5),
        ("1 234,5", FRENCH, 1234.5),
        ("1\u00a0234\u202f567,5", FRENCH, 1234567.5),
        ("$1,234.56", ENGLISH | {"currency": ["$"]}, 1234.56),
        ("-$1.5", {"currency": ["$"]}, -1.5),
        ("$-1.5", {"currency": ["$"]}, -1.5),
        ("99 EUR", {"currency": ["EUR", "€"]}, 99.0),
        ("€ 99", {"currency": ["EUR", "€"]}, 99.0),
        ("85%", {"percent": True}, 85.0),
        ("85,5 %", GERMAN | {"percent": True}, 85.5),
        ("(123.45)", {"parentheses": True}, -123.45),
        ("($1,000.00)", ENGLISH | {"currency": ["$"], "parentheses": True}, -1000.0),
        (" 7 ", GERMAN, 7.0),
        ("\t1.234,5\r\n", GERMAN, 1234.5),
        ("\t$5", {"currency": ["$"]}, 5.0),
    ],
)
def test_a_number_is_read_in_its_dialect(read: Read, cell: str, dialect: dict[str, object], value: float) -> None:
    assert read(cell, **dialect) == value


@pytest.mark.parametrize(
    ("cell", "dialect"),
    [
        ("1,23,4", ENGLISH),
        ("12,34", ENGLISH),
        ("1,2345", ENGLISH),
        (",123", ENGLISH),
        ("0.500", GERMAN),
        ("1.23.456,5", GERMAN),
        ("1.5", GERMAN),
        ("1,5,5", GERMAN),
        ("$5", {}),
        ("€5", {"currency": ["$"]}),
        ("5$$", {"currency": ["$"]}),
        ("$5$", {"currency": ["€"]}),
        ("5%", {}),
        ("%5", {"percent": True}),
        ("(5)", {}),
        ("(-5)", {"parentheses": True}),
        ("(5", {"parentheses": True}),
        ("1 234", ENGLISH),
        ("--5", {"currency": ["$"]}),
        ("", GERMAN),
        ("abc", GERMAN),
        ("nan", GERMAN),
    ],
)
def test_a_number_of_another_dialect_is_none(read: Read, cell: str, dialect: dict[str, object]) -> None:
    """Fails: 25,000 is read as 25, or euros as dollars, without an error."""
    assert read(cell, **dialect) is None


@settings(max_examples=200, deadline=None)
@given(
    value=st.decimals(-(10**12), 10**12, places=3, allow_nan=False),
    marks=st.sampled_from([(".", ","), (",", "."), (",", " "), (".", "'"), (".", "")]),
)
def test_every_number_is_read_as_it_was_written(read: Read, value: Decimal, marks: tuple[str, str]) -> None:
    decimal, thousands = marks
    whole, _, fraction = f"{value:,.3f}".partition(".")
    cell = f"{whole.replace(',', thousands)}{decimal}{fraction}"
    assert read(cell, "decimal(18,3)", decimal=decimal, thousands=thousands) == value


@pytest.mark.parametrize(
    ("cell", "kind", "value"),
    [
        ("12.30", "decimal(6,2)", Decimal("12.30")),
        ("12.3000", "decimal(6,2)", Decimal("12.30")),
        ("-.5", "decimal(6,2)", Decimal("-0.50")),
        ("9999.99", "decimal(6,2)", Decimal("9999.99")),
        ("7", "decimal(6,0)", Decimal(7)),
        ("12.345", "decimal(6,2)", None),
        ("10000", "decimal(6,2)", None),
        ("8.0E7", "decimal(18,2)", Decimal("80000000.00")),
        ("1.2345e2", "decimal(6,2)", Decimal("123.45")),
        ("-1.2345e2", "decimal(6,1)", None),
        ("1e4", "decimal(6,2)", None),
        ("1.2e+3", "decimal(6,2)", None),
        ("1.2e-1", "decimal(6,2)", None),
        ("1e16", "decimal(38,2)", None),
        ("9.007199254740991E15", "decimal(38,10)", Decimal(2**53 - 1)),
        ("", "decimal(6,2)", None),
        (".", "decimal(6,2)", None),
        (".7", "decimal(6,0)", None),
        (".0", "decimal(6,0)", Decimal(0)),
        ("7.00", "decimal(6,0)", Decimal(7)),
        (".75", "decimal(6,1)", None),
    ],
)
def test_a_decimal_is_exact_or_none(read: Read, cell: str, kind: str, value: Decimal | None) -> None:
    """Fails: money is rounded on the way in."""
    assert read(cell, kind) == value


@pytest.mark.parametrize(
    ("cell", "value"),
    [("true", True), (" YES ", True), ("1", True), ("F", False), ("no", False), ("0", False), ("2", None), ("", None)],
)
def test_truth_values(read: Read, cell: str, value: bool | None) -> None:
    assert read(cell, "bool") is value


def test_truth_values_of_other_words(read: Read) -> None:
    words = {"true_words": ["Ja"], "false_words": ["Nein"]}
    assert [read(cell, "bool", **words) for cell in ("ja", "NEIN", "yes")] == [True, False, None]


@pytest.mark.parametrize(
    ("cell", "forms", "moment"),
    [
        ("13.05.2026", ["%d.%m.%Y"], datetime(2026, 5, 13)),
        ("1.5.2026", ["%d.%m.%Y"], datetime(2026, 5, 1)),
        ("05/13/2026 14:30", ["%m/%d/%Y %H:%M"], datetime(2026, 5, 13, 14, 30)),
        ("13/05/2026", ["%m/%d/%Y"], None),
        ("13/05/2026", ["%m/%d/%Y", "%d/%m/%Y"], datetime(2026, 5, 13)),
        ("20260501", ["%Y%m%d"], datetime(2026, 5, 1)),
        ("01-May-26 02:30 +0200", ["%d-%b-%y %H:%M %z"], datetime(2026, 5, 1, 0, 30)),
        ("2026-05-01T02:00:00+02:00", ["%d.%m.%Y"], datetime(2026, 5, 1)),
        ("46143", ["excel"], datetime(2026, 5, 1)),
        ("46143.5", ["excel"], datetime(2026, 5, 1, 12)),
        ("1777593600", ["epoch"], datetime(2026, 5, 1)),
        ("1777593600000", ["epoch_ms"], datetime(2026, 5, 1)),
        ("46143", [], None),
        ("1777593600", ["excel"], None),
        ("31.02.2026", ["%d.%m.%Y"], None),
        ("1.5.2026 x", ["%d.%m.%Y"], None),
        ("99999999999999999999", ["epoch"], None),
        ("nan", ["excel"], None),
        ("1_700_000_000", ["epoch"], None),
        ("1777593600.5", ["epoch"], None),
        ("1777593600.0", ["epoch_ms"], None),
        ("1e9", ["epoch"], None),
        ("1e5", ["excel"], None),
        ("-2208988800", ["epoch"], datetime(1900, 1, 1)),
        ("-2208988801", ["epoch"], None),
        ("-2208988800000", ["epoch_ms"], datetime(1900, 1, 1)),
        ("7258118399999", ["epoch_ms"], datetime(2199, 12, 31, 23, 59, 59, 999000)),
        ("7258118400", ["epoch"], None),
        ("61", ["excel"], datetime(1900, 3, 1)),
        ("60", ["excel"], None),
        ("109574.5", ["excel"], datetime(2199, 12, 31, 12)),
        ("109575", ["excel"], None),
        ("2026-05-01 02:00 Europe/Berlin", ["%Y-%m-%d %H:%M %Z"], datetime(2026, 5, 1)),
        ("01.05.2026 00:00:00.123456789", ["%d.%m.%Y %H:%M:%S.%n"], datetime(2026, 5, 1, 0, 0, 0, 123456)),
        ("01.05.2026", ["%d.%m.%Y %H:%M %Z", "%d.%m.%Y %n", "%d.%m.%Y"], datetime(2026, 5, 1)),
        ("01.05.2026 %z", ["%d.%m.%Y %%z"], datetime(2026, 5, 1)),
    ],
)
def test_moments_in_declared_forms(read: Read, cell: str, forms: list[str], moment: datetime | None) -> None:
    assert read(cell, "timestamp", dates=forms) == moment
    assert read(cell, "date", dates=forms) == (moment.date() if moment else None)


@pytest.mark.parametrize("forms", [["%Y-%m-%d %Z"], ["%Y-%m-%d %n"], ["%Y-%m-%d %Z %n"], ["epoch", "%Y %j %z"]])
def test_every_form_gives_the_type_of_the_column(connection: duckdb.DuckDBPyConnection, forms: list[str]) -> None:
    """Fails: the column of a snapshot has another type, and the first profile that reads it is an hour off."""
    for kind, duckdb_type in (("timestamp", "TIMESTAMP"), ("date", "DATE")):
        column = Column.model_validate({"name": "value", "type": kind})
        sql = value_sql("cell", column, Dialect.model_validate({"dates": forms}))
        found = connection.execute(f"SELECT typeof({sql}) FROM (SELECT 'x' AS cell)").fetchone()
        assert found == (duckdb_type,)


def _is_declarable(form: str) -> bool:
    try:
        Dialect(dates=(form,))
    except ValidationError:
        return False
    return True


def test_every_form_that_can_be_declared_is_one_of_duckdbs(read: Read) -> None:
    """Fails: a contract that was accepted ends a run with DuckDB's error about a format specifier."""
    parts = [f"%{dash}{letter}" for dash in ("", "-") for letter in [*string.ascii_letters, "%", "-", ""]]
    declared = [part for part in parts if _is_declarable(f"%Y-%d {part}")]
    assert {"%H", "%-H", "%%", "%Z"} <= set(declared)
    for part in declared:
        read("x", "timestamp", dates=[f"%Y-%d {part}"])


def test_null_words_are_null_and_only_where_they_are_declared(read: Read) -> None:
    assert [read(cell, "text", nulls=["N/A", "-"]) for cell in ("N/A", " - ", "n/a", "-1")] == [None, None, "n/a", "-1"]
    assert [read(cell, "text", nulls=["x"]) for cell in ("N/A", "NULL", "x")] == ["N/A", "NULL", None]
    assert [read(cell, "text", nulls=[]) for cell in ("N/A", "NULL", " ")] == ["N/A", "NULL", None]
    assert read("N/A", "int", nulls=["N/A"]) is None


@pytest.mark.parametrize(
    ("cell", "key", "value"),
    [
        (" Ab\t", {}, "Ab"),
        ("\u00a0Ab\u200b", {}, "\u00a0Ab\u200b"),
        ("\ufeff\u00a0 Ab\u200b\u3000", {"strip": "unicode"}, "Ab"),
        ("A b", {"strip": "unicode"}, "A b"),
        ("Ada@X.Example ", {"case": "lower"}, "ada@x.example"),
        ("ÄÖ", {"case": "lower"}, "äö"),
        ("  ", {}, None),
        ("\u200b", {"strip": "unicode"}, None),
    ],
)
def test_keys_are_folded_as_declared(
    connection: duckdb.DuckDBPyConnection, cell: str, key: dict[str, str], value: str | None
) -> None:
    sql = key_sql("cell", Key.model_validate(key))
    assert connection.execute(f"SELECT {sql} FROM (SELECT ?::VARCHAR AS cell)", [cell]).fetchone() == (value,)


@pytest.mark.parametrize(
    ("cells", "key", "nulls", "value"),
    [
        (("DE", "5"), {}, [], "DE/5"),
        (("DE\u00a0", " 5"), {"strip": "unicode"}, [], "DE/5"),
        (("\u00a0", "5"), {"strip": "unicode"}, [], None),
        (("-", "5"), {}, ["-"], None),
        (("N", "A"), {}, ["N/A"], "N/A"),
        (("a/b", "c\\"), {}, [], "a\\/b/c\\\\"),
        (("De", "X"), {"case": "lower"}, [], "de/x"),
    ],
)
def test_each_part_of_a_key_is_a_cell_of_its_own(
    connection: duckdb.DuckDBPyConnection, cells: tuple[str, str], key: dict[str, str], nulls: list[str], value: str
) -> None:
    """Fails: rows that lack a part of their key all get the same key, or two parts together make a word for null."""
    made, dialect = Key.model_validate(key), Dialect.model_validate({"nulls": nulls})
    sql = key_sql(joined_key_sql([key_cell_sql("a", dialect), key_cell_sql("b", dialect)], made), made)
    assert connection.execute(f"SELECT {sql} FROM (SELECT ? AS a, ? AS b)", list(cells)).fetchone() == (value,)


def test_every_type_has_a_form(read: Read) -> None:
    for kind in ColumnType:
        read("x", kind.value)
    assert read("2026-05-01", "date") == date(2026, 5, 1)
