"""Hypotheses about how values are written, from a sample of a source's cells; the engine tests them on all rows.

Number marks, currencies and date forms are those of a whole source, so that no two columns are read in two ways.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from etl_assets.project.columns import plain_name
from etl_assets.project.null_words import DEFAULT_NULLS

# A column that is nearly a number says so: its few other cells are mistakes, or words for null.
NEARLY = 0.95
NULL_WORDS = (
    *("NULL", "null", "Null", "(null)", "\\N", "#N/A", "N/A", "n/a", "NA", "na", "None", "none", "NaN", "nan", "nil"),
    *("-", "--", "–", "?", ".", "unknown", "Unknown", "0000-00-00", "0000-00-00 00:00:00", "(blank)", "undefined"),
)
# Words that stand for nothing in any column; the others only where all other cells are numbers or dates.
CERTAIN_NULLS = frozenset({"NULL", "(null)", "\\N", "#N/A", "N/A", "n/a", "(blank)"})
_CURRENCIES = (
    *("$", "€", "£", "¥", "₹", "₽", "₩", "zł", "kr", "Kč", "R$", "US$", "CA$", "A$", "Fr."),
    *("USD", "EUR", "GBP", "CHF", "JPY", "CAD", "AUD", "SEK", "NOK", "DKK", "PLN", "CZK", "INR", "BRL", "MXN"),
)
_BLANKS = str.maketrans("\u00a0\u2009\u202f", "   ")
_WORDS_OF_TRUTH = (
    *(("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("ja", "nein"), ("oui", "non"), ("sí", "no")),
    *(("si", "no"), ("wahr", "falsch"), ("vrai", "faux"), ("verdadero", "falso"), ("sim", "não"), ("x", "")),
)
# Decimal and thousands marks; what earlier ones read, later ones are not asked for.
_POINTS = ((".", ""), (".", ","), (".", "'"), (".", " "))
_COMMAS = ((",", ""), (",", "."), (",", " "), (",", "'"))
_DAYS = (
    *("%d.%m.%Y", "%d.%m.%y", "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%Y/%m/%d", "%m-%d-%Y", "%d-%m-%Y"),
    *("%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%d/%b/%Y", "%d/%b/%y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%Y%m%d"),
)
_TIMES = (
    *("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S", ", %I:%M %p", ", %I:%M:%S %p"),
    *(" %H:%M:%S.%f", "T%H:%M:%S", " %H:%M:%S %z", " %H:%M %z"),
)
DATE_FORMS = tuple(day + time for time in _TIMES for day in _DAYS)
# A number whose only mark has three digits behind it, and one to three before it that are no fraction's zero.
_MAY_BE_EITHER = re.compile(r"(?<![\d.,])[1-9]\d{0,2}[.,]\d{3}(?![\d.,])")
_AMBIGUOUS = re.compile(r"%d([/-])%m|%m([/-])%d")
_MAY_BE_DATED = re.compile(r"(?=.*\d).{6,40}", re.DOTALL)
_OF_A_MOMENT = re.compile(
    r"(^|_)(date|datum|time|datetime|timestamp|(created|updated|modified)(at|on)?)(_|$)"
    r"|(^|_)(at|on|start|started|end|ended|since|until|expires)$"
)
_ISO = re.compile(r"\d{4}-\d{2}-\d{2}([ T].*)?")
_COUNTED = {10: "epoch", 13: "epoch_ms"}


def number_marks(columns: Sequence[Sequence[str]], delimiter: str) -> tuple[str, str, tuple[str, ...], bool, bool]:
    """Decimal mark, thousands mark, currencies, percent and parentheses under which most columns are numbers."""
    signs = _signs(columns)
    orders = (_COMMAS, _POINTS) if delimiter == ";" else (_POINTS, _COMMAS)
    marks = [_POINTS[0], *(pair for order in orders for pair in order if pair != _POINTS[0])]
    numbers = {pair: [_numbers(cells, pair, signs) for cells in columns] for pair in marks}
    # Whole columns first: a damaged cell, or a remark in one, does not hide how the others are written.
    scores = {
        pair: (sum(map(bool, found)), sum(map(len, found)), -marks.index(pair)) for pair, found in numbers.items()
    }
    decimal, thousands = max(marks, key=scores.__getitem__)
    is_grouped = any(_MAY_BE_EITHER.search(cell) for cells in numbers[_POINTS[0]] for cell in cells)
    if (decimal, thousands) == _POINTS[0] and delimiter == ";" and is_grouped:
        # A list of cells with semicolons has a comma in its fractions, so that a point groups digits, if it may.
        decimal, thousands = _COMMAS[1] if scores[_COMMAS[1]][:2] == scores[_POINTS[0]][:2] else _POINTS[0]
    written = [cell for cells in numbers[decimal, thousands] for cell in cells]
    used = tuple(sign for sign in signs if any(sign in cell for cell in written))
    return decimal, thousands, used, any("%" in cell for cell in written), any("(" in cell for cell in written)


def doubtful_numbers(columns: Mapping[str, Sequence[str]], decimal: str, thousands: str) -> list[str]:
    """What is a guess about the marks: columns with numbers such as `3.019`, and nothing tells what their mark is."""
    found = {name: _numbers(cells, (decimal, thousands), _signs([cells])) for name, cells in columns.items()}
    marked = [cell for cells in found.values() for cell in cells if re.search("[.,]", cell)]
    if not all(_MAY_BE_EITHER.search(cell) for cell in marked):
        return []
    roles = {decimal: "decimal", thousands: "thousands"}
    return [
        f"decimal: in {name}, such as {example}, {mark} is read as the {roles[mark]} mark; no cell tells"
        for name, cells in found.items()
        for example in [next((cell.strip() for cell in cells if re.search("[.,]", cell)), "")]
        for mark in re.findall("[.,]", example)
    ]


def _numbers(cells: Sequence[str], marks: tuple[str, str], signs: Sequence[str]) -> list[str]:
    """The cells that are numbers with these marks, if nearly all are; else none."""
    pattern = _number_pattern(marks, signs)
    found = [cell for cell in cells if pattern.fullmatch(cell.translate(_BLANKS).strip())]
    return found if len(found) >= NEARLY * len(cells) else []


def is_number(cells: Sequence[str], marks: tuple[str, str], signs: Sequence[str]) -> bool:
    """Whether all cells are numbers with these marks."""
    pattern = _number_pattern(marks, signs)
    return bool(cells) and all(pattern.fullmatch(cell.translate(_BLANKS).strip()) for cell in cells)


def _number_pattern(marks: tuple[str, str], signs: Sequence[str]) -> re.Pattern[str]:
    point, group = re.escape(marks[0]), re.escape(marks[1])
    # A group begins with no zero: `0.500` is a fraction.
    whole = rf"([1-9]\d{{0,2}}({group}\d{{3}})+|\d+)" if group else r"\d+"
    digits = rf"({whole}({point}\d*)?|{point}\d+)([eE][+-]?\d+)?"
    sign = rf"(({'|'.join(map(re.escape, signs))})\s*)?" if signs else ""
    behind = rf"(\s*({'|'.join(map(re.escape, signs))}))?" if signs else ""
    return re.compile(rf"[+-]?\s*{sign}[+-]?{digits}{behind}(\s*%)?|\(\s*{sign}{digits}{behind}\s*\)")


def _signs(columns: Iterable[Iterable[str]]) -> list[str]:
    """The currencies that stand beside digits, longer ones first: `US$` holds `$`."""
    found = {
        sign
        for cells in columns
        for cell in cells
        for sign in _CURRENCIES
        if sign in cell and re.search(rf"({re.escape(sign)}\s*[-+]?\d|\d\s*{re.escape(sign)})", cell)
    }
    return sorted(found, key=lambda sign: (-len(sign), sign))


def date_forms(columns: Mapping[str, Sequence[str]], delimiter: str) -> tuple[dict[str, str], list[str]]:
    """The form of each column that is dated in one, beside ISO 8601; and which of these may be others."""
    chosen: dict[str, str] = {}
    guesses: list[str] = []
    fitting = {name: [form for form in DATE_FORMS if _fits(cells, form)] for name, cells in columns.items()}
    # A column that leaves no choice decides for those that leave one.
    for name, forms in sorted(fitting.items(), key=lambda item: len(item[1])):
        if not forms:
            continue
        orders = {_order(form) for form in chosen.values()} - {""}
        same_order = [form for form in forms if not _order(form) or _order(form) in orders] if orders else []
        form = (same_order or _likely(forms, delimiter))[0]
        if form not in chosen.values() and not same_order and len({_order(one) for one in forms}) > 1:
            guesses.append(f"dates: {name} is read as {form}; no day above 12 tells day and month apart")
        chosen[name] = form
    return chosen, guesses


def is_iso_date(cells: Sequence[str]) -> bool:
    """Whether all cells begin with a day as ISO 8601 writes it."""
    return bool(cells) and all(_ISO.fullmatch(cell.strip()) for cell in cells)


def counted_form(cells: Sequence[str], header: str) -> str | None:
    """The form of a column that counts seconds or milliseconds; its header must speak of a moment."""
    lengths = {len(cell.strip()) for cell in cells if cell.strip().isdigit()}
    speaks = _OF_A_MOMENT.search(plain_name(header))
    is_counted = bool(cells) and all(cell.strip().isdigit() for cell in cells) and len(lengths) == 1
    return _COUNTED.get(lengths.pop()) if is_counted and speaks else None


def truth_words(cells: Iterable[str]) -> tuple[str, str] | None:
    """The pair of words that are all that the cells hold; digits are numbers."""
    words = {cell.strip().lower() for cell in cells}
    return next((pair for pair in _WORDS_OF_TRUTH if "" not in pair and words and words <= set(pair)), None)


def _fits(cells: Sequence[str], form: str) -> bool:
    if not cells or not all(_MAY_BE_DATED.fullmatch(cell.strip()) for cell in cells):
        return False
    try:
        return all(1900 <= datetime.strptime(cell.strip(), form).year < 2200 for cell in cells)
    except ValueError:
        return False


def _order(form: str) -> str:
    found = _AMBIGUOUS.search(form)
    return "" if found is None else "day first" if found[1] else "month first"


def _likely(forms: Sequence[str], delimiter: str) -> list[str]:
    """Month first is American, and so is the comma between cells; elsewhere a comma is the decimal mark."""
    first = "day first" if delimiter == ";" else "month first"
    return sorted(forms, key=lambda form: _order(form) not in ("", first))


def null_words(sample: Mapping[str, Sequence[str]], typed: set[str]) -> list[str]:
    """The words for null in these cells, by column, if they have to be declared; `typed` are numbers and dates."""
    found = {
        cell.strip()
        for name, cells in sample.items()
        for cell in cells
        if cell.strip() in (NULL_WORDS if name in typed else CERTAIN_NULLS)
    }
    # Declared words replace the default ones: either none is declared or all.
    return [word for word in NULL_WORDS if word in found and found - {*DEFAULT_NULLS}]
