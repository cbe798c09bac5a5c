"""Values as the text of a cell in a source's dialect, and cells as a line: the reverse of how exports are read."""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from etl_assets.project.columns import Column, ColumnType
from etl_assets.project.dialect import Dialect
from etl_assets.samples.chances import Chooser, one_of

Value = str | int | Decimal | bool | date | datetime
_EXCEL_EPOCH = date(1899, 12, 30)
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
# Deliberately not strftime: the names of days and months must not depend on the machine's language.
_DIRECTIVES: Mapping[str, Callable[[datetime], str]] = {
    "Y": lambda moment: f"{moment.year:04}",
    "y": lambda moment: f"{moment.year % 100:02}",
    "m": lambda moment: f"{moment.month:02}",
    "d": lambda moment: f"{moment.day:02}",
    "j": lambda moment: f"{moment.timetuple().tm_yday:03}",
    "H": lambda moment: f"{moment.hour:02}",
    "I": lambda moment: f"{moment.hour % 12 or 12:02}",
    "M": lambda moment: f"{moment.minute:02}",
    "S": lambda moment: f"{moment.second:02}",
    "f": lambda moment: f"{moment.microsecond:06}",
    "g": lambda moment: f"{moment.microsecond // 1000:03}",
    "n": lambda moment: f"{moment.microsecond * 1000:09}",
    "p": lambda moment: "AM" if moment.hour < 12 else "PM",
    "a": lambda moment: _DAYS[moment.weekday()][:3],
    "A": lambda moment: _DAYS[moment.weekday()],
    "b": lambda moment: _MONTHS[moment.month - 1][:3],
    "B": lambda moment: _MONTHS[moment.month - 1],
    "z": lambda _moment: "+00:00",
    "%": lambda _moment: "%",
}
# Encodings that are known to have every character of ASCII.
_ASCII_ENCODINGS = frozenset({"utf-8", "utf-8-sig", "utf-16", "ascii", "cp1252", "iso8859-1", "iso8859-15"})
_PERCENT_WORDS = frozenset({"pct", "percent", "percentage", "share", "rate"})


def cell_text(value: Value, column: Column, dialect: Dialect, chooser: Chooser) -> str:
    """The value as a system with this dialect writes it."""
    if isinstance(value, bool):
        return one_of(chooser, _readable(dialect.true_words if value else dialect.false_words, dialect))
    if isinstance(value, date):
        return _moment_text(value, dialect, has_time=column.type is ColumnType.TIMESTAMP)
    if isinstance(value, str):
        return value
    return _number_text(value, column, dialect, chooser)


def null_text(dialect: Dialect, chooser: Chooser) -> str:
    """Nothing, or one of the words for that."""
    words = ["", *(word for word in dialect.nulls or () if can_hold(word, dialect))]
    return one_of(chooser, words)


def can_hold(text: str, dialect: Dialect) -> bool:
    """Whether the encoding has every character of the text."""
    if text.isascii() and dialect.encoding in _ASCII_ENCODINGS:
        return True
    try:
        return text.encode(dialect.encoding).decode(dialect.encoding) == text
    except UnicodeError:
        return False


def has_seconds(dialect: Dialect) -> bool:
    """Whether two moments of one day are two texts."""
    form = _form_of(dialect)
    return form in ("", "epoch", "epoch_ms") or all(f"%{mark}" in form.replace("-", "") for mark in "HMS")


def line_of(cells: Sequence[str], dialect: Dialect) -> str:
    """A record's line without its end; a cell is quoted where it needs to be."""
    quoted = [_quoted(cell, dialect) for cell in cells]
    if dialect.comment and quoted[0].startswith(dialect.comment):
        quoted[0] = _in_quotes(cells[0], dialect)
    return dialect.separator.join(quoted)


def _quoted(cell: str, dialect: Dialect) -> str:
    marks = (dialect.separator, dialect.quote, dialect.escape, "\r", "\n")
    return _in_quotes(cell, dialect) if cell != cell.strip() or any(mark in cell for mark in marks) else cell


def _in_quotes(cell: str, dialect: Dialect) -> str:
    text = cell.replace(dialect.escape, dialect.escape * 2)
    if dialect.escape != dialect.quote:
        text = text.replace(dialect.quote, dialect.escape + dialect.quote)
    return f"{dialect.quote}{text}{dialect.quote}"


def _readable(words: Sequence[str], dialect: Dialect) -> list[str]:
    """Those of the words that are read as what they are; all of them if none is."""
    nulls = {word.strip() for word in dialect.nulls or ()}
    return [word for word in words if word.strip() not in {*nulls, ""} and can_hold(word, dialect)] or list(words)


def _number_text(value: int | Decimal, column: Column, dialect: Dialect, chooser: Chooser) -> str:
    sign = "-" if value < 0 else ""
    whole, _, fraction = f"{abs(Decimal(value)):f}".partition(".")
    if dialect.thousands:
        whole = re.sub(r"(?<=\d)(?=(\d{3})+$)", lambda _: dialect.thousands, whole)
    digits = f"{whole}{dialect.decimal}{fraction}" if fraction else whole
    currency = [sign for sign in dialect.currency if can_hold(sign, dialect)]
    if currency and column.type is not ColumnType.INT and chooser.pick(2):
        digits = f"{one_of(chooser, currency)}{digits}"
    elif dialect.percent and _PERCENT_WORDS & set(column.name.split("_")):
        digits = f"{digits}%"
    if sign and dialect.parentheses and "%" not in digits and chooser.pick(2):
        return f"({digits})"
    return f"{sign}{digits}"


def _form_of(dialect: Dialect) -> str:
    """The first form that can be written here; empty for ISO 8601, which is always read."""
    for form in dialect.dates:
        parts = re.findall(r"%(-?.)", form)
        if not parts or all(part.removeprefix("-") in _DIRECTIVES for part in parts):
            return form
    return ""


def _moment_text(value: date, dialect: Dialect, *, has_time: bool) -> str:
    moment = value if isinstance(value, datetime) else datetime.combine(value, time())
    form = _form_of(dialect)
    if not form:
        return moment.isoformat(" ") if has_time else moment.date().isoformat()
    if form == "excel":
        return str((moment.date() - _EXCEL_EPOCH).days)
    if form in ("epoch", "epoch_ms"):
        seconds = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
        return str(seconds * (1000 if form == "epoch_ms" else 1))
    return re.sub(r"%(-?)(.)", lambda found: _directive(found[1], found[2], moment), form)


def _directive(unpadded: str, mark: str, moment: datetime) -> str:
    text = _DIRECTIVES[mark](moment)
    return (text.lstrip("0") or "0") if unpadded else text
