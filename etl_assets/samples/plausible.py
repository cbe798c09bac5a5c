"""Plausible values of a column: of its type, within its bounds, of the kind that its name suggests.

Every function takes the chooser of the value. With `Counting`, each number gives another value.
"""

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from etl_assets.project.columns import Bounded, Column, ColumnType
from etl_assets.samples.chances import Chooser, Counting, Dice, one_of
from etl_assets.samples.matching import text_maker
from etl_assets.samples.spelling import Value
from etl_assets.samples.words import (
    COMPANY_FORMS,
    COMPANY_NAMES,
    COMPANY_TRADES,
    FIRST_NAMES,
    LAST_NAMES,
    company_domains,
)

Maker = Callable[[Chooser], Value | None]
NamedMaker = Callable[[Chooser, str], str]
# The days of the sample, as of its export. Deliberately not today, so that every day gives the same bytes.
_FIRST_DAY, _DAYS = date(2023, 1, 1), 1277
# The days that are counted. A year of two digits is one of these.
_FIRST_COUNTED, _COUNTED_DAYS = date(1990, 1, 1), 28_000
_DAY_S = 86_400
# Bounds of numbers by words of their column's name; the first that fits.
_RANGES: Sequence[tuple[frozenset[str], int, int]] = (
    (frozenset({"pct", "percent", "percentage", "share", "score", "rate", "usage"}), 0, 100),
    (frozenset({"age"}), 18, 90),
    (frozenset({"year"}), 1990, 2026),
    (frozenset({"rating", "stars", "priority"}), 1, 5),
    (frozenset({"qty", "quantity", "seats", "users"}), 1, 20),
    (frozenset({"employee", "employees", "headcount"}), 1, 5_000),
    (frozenset({"count", "total", "visits", "orders", "tickets", "sessions", "number"}), 0, 50),
    (frozenset({"amount", "price", "value", "revenue", "mrr", "arr", "cost", "spent", "balance", "fee"}), 0, 5_000),
    (frozenset({"id", "number", "code"}), 1, 10**9),
)
_ANY_RANGE = (0, 1_000)
_COUNTRIES = ("Germany", "France", "Spain", "Italy", "Poland", "Kenya", "Japan", "Brazil", "Canada", "India")
_CITIES = ("Berlin", "Lyon", "Sevilla", "Torino", "Łódź", "Nairobi", "Osaka", "São Paulo", "Toronto", "Pune")
_PLANS = ("free", "starter", "professional", "business", "enterprise")
_STATES = ("active", "active", "active", "open", "pending", "closed", "canceled")
_SENTENCES = ("Asked for a call", "Invoice is missing", "Wants to add users", "No answer yet", "Export does not work")
_DOMAINS = company_domains()
_TRADES = list(COMPANY_TRADES.values())
_STREETS = ("Station Road", "Mill Lane", "High Street", "Park Avenue", "Church Street")


@dataclass(frozen=True)
class Limits:
    """Bounds of a number, both included, in units of its last digit; `scale` is how many digits follow the point."""

    low: int
    high: int
    scale: int


def maker_of(column: Column) -> Maker:
    """What makes values of the column; it makes None where the bounds allow no value."""
    match column.type:
        case ColumnType.TEXT:
            return _text_maker(column)
        case ColumnType.BOOL:
            return lambda chooser: chooser.pick(2) == 0
        case ColumnType.DATE:
            return _day
        case ColumnType.TIMESTAMP:
            return _moment
    limits, is_whole = limits_of(column), column.type is ColumnType.INT
    low, sides, scale = limits.low, limits.high - limits.low + 1, -limits.scale
    if sides < 1:
        return _nothing
    if is_whole:
        return lambda chooser: low + chooser.pick(sides)
    return lambda chooser: Decimal(low + chooser.pick(sides)).scaleb(scale)


def bad_text(column: Column) -> str:
    """A cell that the column refuses; empty where it takes any text."""
    match column.type:
        case ColumnType.TEXT:
            return "???" if column.values or column.pattern else ""
        case ColumnType.DATE | ColumnType.TIMESTAMP:
            return "2024-02-30"
    return "n/a"


def narrowed(column: Column, promise: Bounded | None) -> Column:
    """The column with what the profile promises of a column of its name: where it is passed on, it must keep that."""
    if promise is None or promise.type is not column.type:
        return column
    lows, highs = (
        [m for m in pair if m is not None] for pair in ((column.min, promise.min), (column.max, promise.max))
    )
    changes = {
        "min": max(lows, default=None),
        "max": min(highs, default=None),
        "values": column.values or promise.values,
        "required": column.required or promise.required,
        "unique": column.unique or promise.unique,
    }
    return column.model_copy(update=changes)


def limits_of(column: Column) -> Limits:
    """The bounds of a number that are declared, else those that its name suggests."""
    scale = {ColumnType.INT: 0, ColumnType.DECIMAL: column.scale}.get(column.type, 2)
    unit, low, high = 10**scale, column.min, column.max
    named_low, named_high = next(
        ((least, most) for words, least, most in _RANGES if words & _words(column.name)), _ANY_RANGE
    )
    span = named_high - named_low
    if low is None:
        low = named_low if high is None or named_low <= high else high - span
    if high is None:
        high = named_high if named_high >= low else low + span
    first, last = math.ceil(Fraction(str(low)) * unit), math.floor(Fraction(str(high)) * unit)
    if column.type is ColumnType.DECIMAL:
        most = 10**column.precision - 1
        first, last = max(first, -most), min(last, most)
    if column.type is ColumnType.INT:
        first, last = max(first, -(2**63)), min(last, 2**63 - 1)
    return Limits(first, last, scale)


def _day(chooser: Chooser) -> date:
    if isinstance(chooser, Counting):
        return _FIRST_COUNTED + timedelta(days=chooser.pick(_COUNTED_DAYS))
    return _FIRST_DAY + timedelta(days=chooser.pick(_DAYS))


def _moment(chooser: Chooser) -> datetime:
    # Seconds last: the days of neighbours differ.
    day = _day(chooser)
    return datetime(day.year, day.month, day.day) + timedelta(seconds=chooser.pick(_DAY_S))


def _words(name: str) -> set[str]:
    return set(name.split("_"))


def _nothing(_chooser: Chooser) -> None:
    return None


def _text_maker(column: Column) -> Maker:
    if column.values:
        values = [value for value in dict.fromkeys(column.values) if value.strip() and _matches(column.pattern, value)]
        return (lambda chooser: one_of(chooser, values)) if values else _nothing
    if column.pattern:
        matching = text_maker(column.pattern)
        return (lambda chooser: _checked(column.pattern, matching(chooser))) if matching else _nothing
    make, name = _named_maker(column.name), column.name

    def text(chooser: Chooser) -> str:
        if not isinstance(chooser, Counting):
            return make(chooser, name)
        number, chooser.left = chooser.left, 0
        if make is _email:
            return f"user{number}@alpine.example"
        return f"{_prefix(name)}-{number:06}" if make is _id else f"{make(Dice(name, number), name)} {number}"

    return text


def _checked(pattern: str, text: str) -> str | None:
    return text if text.strip() and _matches(pattern, text) else None


def _matches(pattern: str, text: str) -> bool:
    try:
        return not pattern or re.fullmatch(pattern, text) is not None
    except re.error:
        return False


def _prefix(name: str) -> str:
    """A short prefix for ids: `ticket_id` gives `TICK`."""
    return name.split("_")[0][:4].upper()


def _named_maker(name: str) -> NamedMaker:
    words = _words(name)
    return next((maker for hints, maker in _MAKERS.items() if words & set(hints.split())), _anything)


def _anything(chooser: Chooser, _name: str) -> str:
    return f"{one_of(chooser, COMPANY_NAMES)} {chooser.pick(90) + 10}"


def _person(chooser: Chooser, _name: str) -> str:
    return f"{one_of(chooser, FIRST_NAMES)} {one_of(chooser, LAST_NAMES)}"


def _email(chooser: Chooser, _name: str) -> str:
    person = f"{one_of(chooser, FIRST_NAMES)}.{one_of(chooser, LAST_NAMES)}".lower()
    return f"{person}@{one_of(chooser, _DOMAINS)}"


def _company(chooser: Chooser, _name: str) -> str:
    trade = one_of(chooser, one_of(chooser, _TRADES))
    return f"{one_of(chooser, COMPANY_NAMES)} {trade}{one_of(chooser, COMPANY_FORMS)}"


def _url(chooser: Chooser, _name: str) -> str:
    return f"https://www.{one_of(chooser, _DOMAINS)}"


def _phone(chooser: Chooser, _name: str) -> str:
    # Numbers that are reserved for films and samples.
    return f"+1 555 01{chooser.pick(100):02}"


def _id(chooser: Chooser, name: str) -> str:
    return f"{_prefix(name)}-{chooser.pick(10**6):06}"


def _listed(values: Sequence[str]) -> NamedMaker:
    return lambda chooser, _name: one_of(chooser, values)


# By words of a column's name; the first that fits.
_MAKERS: Mapping[str, NamedMaker] = {
    "email mail": _email,
    "phone mobile telephone fax": _phone,
    "url website web domain link": _url,
    "first firstname": _listed(FIRST_NAMES),
    "last lastname surname": _listed(LAST_NAMES),
    "country": _listed(_COUNTRIES),
    "city town": _listed(_CITIES),
    "currency": _listed(("EUR", "USD", "GBP")),
    "language locale": _listed(("en", "de", "fr", "es")),
    "company account organisation organization customer brand insurer": _company,
    "owner person contact user agent assignee holder name": _person,
    "industry sector": _listed(list(COMPANY_TRADES)),
    "plan tier edition": _listed(_PLANS),
    "status state stage": _listed(_STATES),
    "priority severity": _listed(("low", "normal", "high")),
    "type kind category channel": _listed(("standard", "extended", "other")),
    "note notes comment description subject title message reason": _listed(_SENTENCES),
    "street address": lambda chooser, _name: f"{one_of(chooser, _STREETS)} {chooser.pick(99) + 1}",
    "zip postal postcode": lambda chooser, _name: f"{chooser.pick(90_000) + 10_000}",
    "id code number ref reference key sku": _id,
}


def plain_text(text: str) -> str:
    """The text in ASCII, for encodings that lack its letters."""
    decomposed = unicodedata.normalize("NFKD", text.replace("ß", "ss").replace("Ł", "L").replace("ł", "l"))
    return decomposed.encode("ascii", "ignore").decode().strip() or "-"
