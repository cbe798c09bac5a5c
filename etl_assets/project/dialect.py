"""How a system writes its exports: structure of the text, and forms of numbers, dates and truth values.

A dialect says how a file is read, never what it means: the same record read through two dialects is the same record,
with the same idempotency key. The structure concerns text files only; the forms of values concern every format.
"""

import codecs
import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from etl_assets.project import file_patterns
from etl_assets.project.columns import Names

# Marks that a reader could not tell from a record's own structure or content.
_NOT_A_MARK = re.compile(r"[\s\w]|[^\x00-\x7f]")
_TAB = "\t"
_DECIMAL_MARKS = (".", ",")
# What may stand between the groups of three digits. Both blanks that spreadsheets write between them count as a blank.
_THOUSANDS_MARKS = ("", ",", ".", "'", " ", "_")
# A date form needs a day of some year; what else it has is up to it.
_YEAR, _DAY = frozenset(["Y", "y", "-y"]), frozenset(["d", "-d", "j", "-j"])
# What DuckDB reads; a dash lets a number have fewer digits.
_DIRECTIVES = frozenset("aAbBdmyYHIpMSfzZjgn%") | {f"-{letter}" for letter in "dmyHIMSj"}
_DIRECTIVE = re.compile(r"%(-?.?)", re.DOTALL)
MAX_SKIPPED = 1_000
# Forms that count seconds, milliseconds or days.
COUNTED_DATES = ("epoch", "epoch_ms", "excel")
DEFAULT_TRUE = ("true", "t", "yes", "y", "1")
DEFAULT_FALSE = ("false", "f", "no", "n", "0")


class Dialect(BaseModel):
    """How the files of a source are written: by default as comma-separated UTF-8, with plain numbers and ISO dates."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    delimiter: str | None = Field(
        default=None,
        description='What separates cells: one character, `"\\t"` for a tab. Else a comma; in .tsv and .tab a tab.',
    )
    quote: str = Field(default='"', description="What encloses a cell that holds a delimiter or a line break.")
    escape: str = Field(default='"', description="What stands before a quote inside a quoted cell: the quote or `\\`.")
    encoding: str = Field(default="utf-8", description="The text's encoding: `utf-8`, `utf-16`, `cp1252`, `latin-1`, …")
    skip_lines: int = Field(default=0, ge=0, le=MAX_SKIPPED, description="Lines before the header.")
    footer_lines: int = Field(default=0, ge=0, le=MAX_SKIPPED, description="Lines after the last record.")
    comment: str = Field(default="", description="Lines that begin with this are no records.")
    surplus_cell: bool = Field(
        default=False, description="Whether lines end in a delimiter that the header does not have."
    )
    decimal: str = Field(default=".", description="The decimal mark: `.` or `,`.")
    thousands: str = Field(default="", description="What groups digits by three: one of `, . ' _` or a blank.")
    currency: tuple[str, ...] = Field(
        default=(), description="Signs or codes that may stand before or after a number, such as `$` or `EUR`."
    )
    percent: bool = Field(default=False, description="Whether `85%` is read as 85.")
    parentheses: bool = Field(default=False, description="Whether `(5)` is read as -5.")
    dates: tuple[str, ...] = Field(
        default=(),
        description="Forms of dates and timestamps beside ISO 8601, such as `%d.%m.%Y`; `epoch` and `epoch_ms` count "
        "seconds and milliseconds from 1970, `excel` counts days as spreadsheets do. Counted dates are from 1900 to "
        "2199.",
    )
    nulls: tuple[str, ...] | None = Field(
        default=None,
        description="Cells that mean null, besides the empty one; case counts. They replace the default words, such as "
        "`NULL` and `N/A` (see Null words); `[]` means that no word is null.",
    )
    true_words: tuple[str, ...] = Field(default=DEFAULT_TRUE, description="Cells that mean true; case does not count.")
    false_words: tuple[str, ...] = Field(
        default=DEFAULT_FALSE, description="Cells that mean false; case does not count."
    )

    @field_validator("delimiter", "quote", "escape")
    @classmethod
    def _check_mark(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or (_NOT_A_MARK.match(value) and value != _TAB)):
            raise ValueError('expected one character that is no letter, digit or blank; a tab is written "\\t"')
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str) -> str:
        try:
            found = codecs.lookup(value)
        except LookupError:
            found = None
        # Codecs such as rot13 turn text into text, others bytes into bytes.
        if found is None or not getattr(found, "_is_text_encoding", True):
            raise ValueError("expected the name of a text encoding, such as utf-8, utf-16, cp1252 or latin-1")
        return found.name

    @field_validator("comment")
    @classmethod
    def _check_comment(cls, value: str) -> str:
        if value and (not value.isprintable() or value[0].isspace() or '"' in value):
            raise ValueError("expected visible characters without quotes, such as #")
        return value

    @field_validator("decimal")
    @classmethod
    def _check_decimal(cls, value: str) -> str:
        return _one_of(value, _DECIMAL_MARKS)

    @field_validator("thousands")
    @classmethod
    def _check_thousands(cls, value: str) -> str:
        return _one_of(value, _THOUSANDS_MARKS)

    @field_validator("currency")
    @classmethod
    def _check_currency(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not sign.strip() or any(mark.isdigit() or mark in "+-.,()%" for mark in sign) for sign in value):
            raise ValueError("expected signs or codes of currencies, such as $ or EUR")
        return value

    @field_validator("dates")
    @classmethod
    def _check_dates(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for form in value:
            parts = _directives(form)
            if form not in COUNTED_DATES and not (parts <= _DIRECTIVES and parts & _YEAR and parts & _DAY):
                raise ValueError(f"expected a form such as %d.%m.%Y or %m/%d/%Y %H:%M, found {form!r}")
        return value

    @property
    def separator(self) -> str:
        """What separates cells, of files whose name does not say it."""
        return self.delimiter or ","

    @model_validator(mode="after")
    def _check_apart(self) -> "Dialect":
        if self.separator == self.quote:
            raise ValueError(f"delimiter and quote are the same, {self.quote!r}")
        if self.escape not in (self.quote, "\\"):
            raise ValueError(f"escape is the quote itself, {self.quote!r}, or a backslash, found {self.escape!r}")
        if self.thousands == self.decimal:
            raise ValueError(f"decimal and thousands are the same, {self.decimal!r}")
        both = {word.lower() for word in self.true_words} & {word.lower() for word in self.false_words}
        if both:
            raise ValueError(f"{sorted(both)[0]!r} is among true_words and false_words")
        return self

    @property
    def true_word(self) -> str:
        """The word for what is true in a format that has truth values."""
        return DEFAULT_TRUE[0] if DEFAULT_TRUE[0] in self.true_words else self.true_words[0]

    @property
    def false_word(self) -> str:
        """The word for what is false in a format that has truth values."""
        return DEFAULT_FALSE[0] if DEFAULT_FALSE[0] in self.false_words else self.false_words[0]

    @property
    def of_values(self) -> tuple[object, ...]:
        """The words that say what a cell's text means, without those about the structure; declared nulls are none."""
        marks = (self.decimal, self.thousands, self.currency, self.percent, self.parentheses)
        return (*marks, self.dates, self.true_words, self.false_words, self.nulls is None)

    @property
    def has_plain_numbers(self) -> bool:
        """Whether numbers are written as DuckDB writes them."""
        marks = (self.decimal, self.thousands, self.currency, self.percent, self.parentheses)
        return marks == (".", "", (), False, False)


class FileDialect(Dialect):
    """How some of a source's files are written; what it does not say is as in the source's `csv`."""

    files: Names = Field(min_length=1, description="Patterns of these files, as in `files` of the source.")

    @model_validator(mode="after")
    def _check_apart(self) -> "FileDialect":
        # Of these words some may fit to those of `csv` only; see `refusal`.
        return self

    def names(self, file: str) -> bool:
        """Whether this is one of the files; `file` is its path in the folder of the exports."""
        return any(file_patterns.matches(pattern, file) for pattern in self.files)

    def refusal(self, declared: Dialect) -> str | None:
        """What is wrong with it in a source whose `csv` is `declared`; None when nothing is."""
        finding = next(filter(None, map(file_patterns.refusal, self.files)), None)
        if finding is not None:
            return finding
        try:
            self.over(declared)
        except ValidationError as error:
            return f"together with csv: {error.errors()[0]['msg'].removeprefix('Value error, ')}"
        return None

    def over(self, declared: Dialect) -> Dialect:
        """The dialect of these files, of which the rest is `declared`; ValueError when the two do not fit together."""
        words = {
            name: getattr(one, name) for one in (declared, self) for name in one.model_fields_set if name != "files"
        }
        return Dialect.model_validate(words)


def has_zone(form: str) -> bool:
    """Whether a form of dates has a time zone."""
    return not _directives(form).isdisjoint("zZ")


def _directives(form: str) -> frozenset[str]:
    """What stands after the percent signs of a form of dates; of `%%`, the second one."""
    return frozenset(_DIRECTIVE.findall(form))


def _one_of(value: Any, known: Sequence[str]) -> str:
    if value not in known:
        raise ValueError(f"expected one of {' '.join(repr(mark) for mark in known if mark)}")
    return str(value)
