"""The marks that give a text its structure (delimiter, quote, escape, comment), and the patterns that follow."""

import re
from dataclasses import dataclass
from functools import cached_property

from etl_assets.project.dialect import Dialect


@dataclass(frozen=True)
class Marks:
    """The bytes that give a text its structure, one each; `comment` begins a line that is no record."""

    delimiter: bytes = b","
    quote: bytes = b'"'
    escape: bytes = b'"'
    comment: bytes = b""

    @property
    def doubles_quotes(self) -> bool:
        """Whether a quote inside a quoted cell is written twice."""
        return self.escape == self.quote

    @cached_property
    def _content(self) -> bytes:
        """What a quoted cell may hold, as a pattern that never tries a way twice."""
        quote, escape = re.escape(self.quote), re.escape(self.escape)
        if self.doubles_quotes:
            return rb"(?:[^" + quote + rb"\0]++|" + quote + quote + rb")*+"
        return rb"(?:[^" + quote + escape + rb"\0]++|" + escape + rb"[^\0])*+"

    @cached_property
    def record(self) -> re.Pattern[bytes]:
        """A sound record, with its terminator as the first group."""
        quote, delimiter = re.escape(self.quote), re.escape(self.delimiter)
        # A quote after one blank opens a field too, as DuckDB reads it; after more blanks it is ambiguous.
        field = rb"(?: ?" + quote + self._content + quote + rb"|(?! *" + quote + rb")[^" + delimiter + rb"\r\n\0]++|)"
        return re.compile(field + rb"(?:" + delimiter + field + rb")*+(\r?\n)?", re.DOTALL)

    @cached_property
    def quoted(self) -> re.Pattern[bytes]:
        """A quoted cell."""
        quote = re.escape(self.quote)
        return re.compile(quote + self._content + quote, re.DOTALL)

    @cached_property
    def empty(self) -> re.Pattern[bytes]:
        """A record without anything in its cells."""
        quote, delimiter = re.escape(self.quote), re.escape(self.delimiter)
        blanks = rb"(?:(?!" + delimiter + rb")\s)*+"
        cell = blanks + rb"(?:" + quote + rb"\s*+" + quote + blanks + rb")?+"
        return re.compile(cell + rb"(?:" + delimiter + cell + rb")*+")

    @cached_property
    def open_field(self) -> re.Pattern[bytes]:
        """A quoted cell that does not end in the data at hand."""
        # A backslash at the end may belong to what comes next.
        rest = rb"" if self.doubles_quotes else re.escape(self.escape) + rb"?"
        return re.compile(rb" ?" + re.escape(self.quote) + self._content + rest + rb"\Z", re.DOTALL)


PLAIN = Marks()


def marks_of(dialect: Dialect) -> Marks:
    """The marks of a source's files."""
    marks = (dialect.separator, dialect.quote, dialect.escape, dialect.comment)
    return Marks(*(mark.encode() for mark in marks))
