"""How a cell's text becomes a value: what is a number or a date, what is nothing, what is refused."""

import math
import re
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.engine import duck

Parse = Callable[[str, str | None], object]
MACROS = ("strip", "blank_to_null", "parse_int", "parse_float", "parse_timestamp", "parse_date")
_SPACE = " \t\n\r\v\f"


@pytest.fixture(scope="module")
def parse() -> Iterator[Parse]:
    """Apply one of the macros to one cell."""
    with duckdb.connect() as connection:
        duck.add_macros(connection, MACROS)
        yield lambda macro, cell: duck.scalar(connection, f"SELECT {macro}(?::VARCHAR)", [cell])


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("12", 12),
        ("0", 0),
        ("-7", -7),
        ("+5", 5),
        ("007", 7),
        ("-0", 0),
        ("12.0", 12),
        ("12.", 12),
        ("12.000", 12),
        (" 12 ", 12),
        ("\t12\r\n", 12),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
    ],
)
def test_a_whole_number_is_read(parse: Parse, cell: str, value: int) -> None:
    assert parse("parse_int", cell) == value


@pytest.mark.parametrize(
    "cell",
    [
        *(
            "",
            " ",
            "abc",
            "12.5",
            "12.01",
            ".0",
            "1e+3",
            "1.25E1",
            "0x10",
            "1_000",
            "1,000",
            "1 000",
            "--1",
            "+-1",
            "1-",
        ),
        *("nan", "inf", "true", "9223372036854775808", "-9223372036854775809", "９", "12\n13", "12€"),
    ],
)
def test_anything_else_is_no_whole_number(parse: Parse, cell: str) -> None:
    """Fails: DuckDB's own cast rounds, or reads hexadecimals, and a wrong number reaches the profile unseen."""
    assert parse("parse_int", cell) is None


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.5", 1.5),
        ("0", 0.0),
        ("-2.25", -2.25),
        ("+3.5", 3.5),
        ("5.", 5.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1.5E-2", 0.015),
        (" 4.2\n", 4.2),
        ("1e-400", 0.0),
        ("1" + "0" * 308, 1e308),
    ],
)
def test_a_number_is_read(parse: Parse, cell: str, value: float) -> None:
    assert parse("parse_float", cell) == value


@pytest.mark.parametrize("cell", ["-0", "-0.0", "-0e5", "-1e-400"])
def test_minus_zero_is_zero(parse: Parse, cell: str) -> None:
    """Fails: two exports of the same value give a customer two idempotency keys."""
    assert math.copysign(1, float(str(parse("parse_float", cell)))) == 1


@pytest.mark.parametrize(
    "cell",
    [
        *("", "  ", "nan", "NaN", "-nan", "inf", "-inf", "infinity", "Infinity", "1e400", "-1e400", "9" * 400),
        *("1,5", "1_0.5", "0x1p3", "1e", "e5", ".", "+", "1.2.3", "$5", "5%", "1.5 2.5", "9.9.", "１.5"),
    ],
)
def test_anything_else_is_no_finite_number(parse: Parse, cell: str) -> None:
    """Fails: one nan or inf in an export turns a whole column's sums into nan."""
    assert parse("parse_float", cell) is None


@pytest.mark.parametrize(
    "cell",
    [
        *("2026-05-01", " 2026-05-01 ", "2026-05-01\n", "2026-05-01 00:00:00", "2026-05-01T00:00:00Z"),
        *("2026-05-01 00:00", "2026-05-01 00:00:00.000", "2026-05-01T00:00:00.000000Z"),
    ],
)
def test_a_day_is_read_with_or_without_midnight(parse: Parse, cell: str) -> None:
    assert parse("parse_date", cell) == date(2026, 5, 1)


@pytest.mark.parametrize(
    ("cell", "moment"),
    [
        ("2026-05-01T14:22:33Z", datetime(2026, 5, 1, 14, 22, 33)),
        ("2026-05-01 14:22", datetime(2026, 5, 1, 14, 22)),
        ("2026-05-01 9:05", datetime(2026, 5, 1, 9, 5)),
        ("2026-05-01 14:22:33 UTC", datetime(2026, 5, 1, 14, 22, 33)),
        ("2026-05-01T00:00:00.000+0000", datetime(2026, 5, 1)),
        ("2026-05-01T23:30:00-05:00", datetime(2026, 5, 2, 4, 30)),
        ("2026-05-01T00:30:00+02", datetime(2026, 4, 30, 22, 30)),
        ("2026-05-01 10:00 -05", datetime(2026, 5, 1, 15, 0)),
        ("2026-05-01 9:00 +05", datetime(2026, 5, 1, 4, 0)),
        ("2026-05-01T00:30:00 +0530", datetime(2026, 4, 30, 19, 0)),
        ("2026-05-01 14:22:33.123456789", datetime(2026, 5, 1, 14, 22, 33, 123456)),
        (" 2026-05-01\n", datetime(2026, 5, 1)),
    ],
)
def test_a_moment_is_that_of_utc(parse: Parse, cell: str, moment: datetime) -> None:
    """Fails: the zone is dropped and the hour kept, so that a customer's last day is another one."""
    assert parse("parse_timestamp", cell) == moment
    assert parse("parse_date", cell) == moment.date()


@pytest.mark.parametrize(
    "cell",
    [
        *("", " ", "2026-02-30", "2026-13-01", "2026-00-10", "2025-02-29", "0000-01-01", "2026-5-1", "20260501"),
        *("01/05/2026", "2026/05/01", "2026-05-01 25:00:00", "2026-05-01T00:61Z", "2026-05-01x", "12026-05-01"),
        *("2026-05-01 12", "2026-05-01 12:00 CET", "2026-05-01T12:00+2", "2026-05-01 12:00 pm", "2026-05-01Z"),
        *("infinity", "-infinity", "epoch", "today", "-2026-05-01", "2026-05-01 (BC)", "2026-05", "２026-05-01"),
    ],
)
def test_anything_else_is_no_day(parse: Parse, cell: str) -> None:
    assert parse("parse_date", cell) is None
    assert parse("parse_timestamp", cell) is None


@pytest.mark.parametrize("macro", MACROS)
def test_nothing_stays_nothing(parse: Parse, macro: str) -> None:
    assert parse(macro, None) is None


@pytest.mark.parametrize("cell", ["", " ", "\t", "\r\n", "\v\f", " \t \n"])
def test_white_space_alone_is_no_text(parse: Parse, cell: str) -> None:
    assert parse("blank_to_null", cell) is None


@pytest.mark.parametrize("cell", ["a", " a ", "\ta", "\x01", "é", "\u00a0", "0", "'; DROP TABLE rejected; --"])
def test_text_is_kept_as_it_is(parse: Parse, cell: str) -> None:
    assert parse("blank_to_null", cell) == cell


any_cell = st.text(st.sampled_from("0123456789+-.eE \t\nx_,é\x01"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(cell=any_cell)
def test_strip_takes_off_ascii_white_space_only(parse: Parse, cell: str) -> None:
    assert parse("strip", cell) == cell.strip(_SPACE)


@settings(max_examples=200, deadline=None)
@given(cell=any_cell)
def test_blank_cells_are_those_of_white_space_only(parse: Parse, cell: str) -> None:
    assert parse("blank_to_null", cell) == (cell if cell.strip(_SPACE) else None)


@settings(max_examples=300, deadline=None)
@given(cell=any_cell | st.integers(-(2**70), 2**70).map(str))
def test_whole_numbers_are_what_the_rule_says(parse: Parse, cell: str) -> None:
    """The same rule, written a second time in Python; the macro's fast path must not differ from its slow one."""
    text = cell.strip(_SPACE)
    match = re.fullmatch(r"([+-]?[0-9]+)(\.0*)?", text)
    value = int(match[1]) if match else None
    # With an exponent, where the number is whole and every double up to it is exact.
    if re.fullmatch(r"[+-]?[0-9]{1,16}(\.[0-9]{0,17})?[eE][0-9]{1,2}", text):
        number = Decimal(text)
        value = int(number) if abs(number) < 2**53 and number == int(number) else None
    assert parse("parse_int", cell) == (value if value is not None and -(2**63) <= value < 2**63 else None)


@settings(max_examples=300, deadline=None)
@given(cell=any_cell | st.floats().map(str) | st.floats(allow_nan=False, allow_infinity=False).map(str))
def test_numbers_are_what_the_rule_says(parse: Parse, cell: str) -> None:
    text = cell.strip(_SPACE)
    is_number = re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", text)
    value = float(text) if is_number else None
    assert parse("parse_float", cell) == (value if value is not None and math.isfinite(value) else None)


@settings(max_examples=200, deadline=None)
@given(day=st.integers(0, (date(9999, 12, 31) - date(1, 1, 1)).days), tail=st.sampled_from(["", " ", "T00:00:00Z"]))
def test_every_day_of_the_calendar_is_read(parse: Parse, day: int, tail: str) -> None:
    expected = date(1, 1, 1) + timedelta(days=day)
    assert parse("parse_date", expected.isoformat() + tail) == expected
