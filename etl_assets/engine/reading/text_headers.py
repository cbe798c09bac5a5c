"""The header of a text: its first record, cut into the names of columns."""

import csv
import re
from typing import IO

from etl_assets.engine.reading.marks import marks_of
from etl_assets.errors import InputError
from etl_assets.project.dialect import Dialect

_SINGLE_QUOTED = re.compile(r"\s*'[^']*'\s*")


def header_of(stream: IO[bytes], dialect: Dialect, name: str) -> list[str]:
    """The names in the first record; InputError when it is none. `name` is the file's, for messages."""
    # Here: `status` and an unchanged `run` read no records, and numpy takes 0.1 s to import.
    from etl_assets.engine.reading.records import scan

    block = next(scan(stream, marks=marks_of(dialect)), None)
    if block is None or block.blank[0]:
        raise InputError(f"{name} starts with an empty line; expected a header with column names on line 1.")
    try:
        header = block.raw(0).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"The header of {name} is not UTF-8 text ({error}). Export it as UTF-8.") from error
    if block.damaged[0]:
        raise InputError(f"The header of {name} is not a sound CSV line: {header[:200]!r}.")
    cells = cells_of(header, dialect)
    if dialect.quote == '"' and len(cells) > 1 and all(map(_SINGLE_QUOTED.fullmatch, cells)):
        # Names are compared without punctuation, so they would be found; the values would keep their quotes.
        raise InputError(
            f"Each name in the header of {name} stands between single quotes. If the cells do too, write for its "
            'source in etl_assets.yaml: csv: {quote: "\'", escape: "\'"}'
        )
    return cells


def cells_of(line: str, dialect: Dialect) -> list[str]:
    """The cells of one line."""
    escape = None if dialect.escape == dialect.quote else dialect.escape
    lines = csv.reader(
        [line],
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        escapechar=escape,
        doublequote=escape is None,
    )
    return next(lines)
