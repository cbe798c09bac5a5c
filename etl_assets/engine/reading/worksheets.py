"""A program of its own: the sheet of a workbook on standard input, as CSV on standard output.

The library holds a sheet as a whole, and every cell between its first and its last one: a stray cell in the last corner
takes 500 GB, and then the process ends. No limit can be put on that, nor a stop, but from outside. `workbooks` starts
this program, reads what it writes, and ends it.

A row of the sheet is a record, blank rows included, so that the number of a record is that of its row.
"""

import io
import json
import os
import re
import resource
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

# How the program ends when it refuses a workbook; the reason is a JSON list on standard error.
REFUSED = 3
_SHEETS = "xl/worksheets/"
_LEAST_MEMORY_BYTES = 1 << 30
_CPU_SECONDS = 3_600
_SPECIAL = re.compile(r'[",\r\n]')
# Cells that hold an error. The library leaves them empty; as texts, they say which.
_ERROR_CELL = re.compile(rb"""(<(?:\w+:)?c\b[^>]*?\st=)(?:"e"|'e')""")


@dataclass(frozen=True)
class SheetForm:
    """Which sheet is read, and how its cells are written. `row_count` of None is all; the header is the first row."""

    sheet: str = ""
    skip_lines: int = 0
    footer_lines: int = 0
    decimal: str = "."
    true_word: str = "true"
    false_word: str = "false"
    row_count: int | None = None


# The errors of archives that contradict themselves.
_OF_DIRECTORIES = (KeyError, ValueError, EOFError, OSError)


class _RefusedError(Exception):
    """Why a workbook is not read: a kind, and names."""


def main() -> None:
    """Read the workbook, write the sheet."""
    memory = max(_LEAST_MEMORY_BYTES, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    for limit, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(limit)[1]
        resource.setrlimit(limit, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))
    form = SheetForm(**json.loads(sys.argv[1]))
    out = io.TextIOWrapper(sys.stdout.buffer, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        for line in lines(sys.stdin.buffer.read(), form):
            out.write(line)
        out.flush()
    except BrokenPipeError:
        # Enough was read. Standard output must not be flushed again at the end.
        os._exit(0)
    except _RefusedError as error:
        sys.stderr.write(json.dumps(error.args))
        sys.exit(REFUSED)


def lines(data: bytes, form: SheetForm) -> Iterator[str]:
    """The rows of the sheet from the header on, each as a line of CSV."""
    # Here: the process that starts this one does without.
    import python_calamine

    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(_with_errors_as_texts(data)))
        name = form.sheet or next(iter(workbook.sheet_names), "")
        if name not in workbook.sheet_names:
            raise _RefusedError("sheet", *workbook.sheet_names)
        rows = _rows(workbook.get_sheet_by_name(name), form)
    except python_calamine.PasswordError as error:
        raise _RefusedError("password") from error
    except (python_calamine.CalamineError, zipfile.BadZipFile, zlib.error, RuntimeError, *_OF_DIRECTORIES) as error:
        raise _RefusedError("damaged", str(error)) from error
    width = 0
    for number, row in enumerate(rows):
        if number == form.row_count:
            return
        cells = [_text(cell, form) for cell in row]
        filled = max((place for place, cell in enumerate(cells, 1) if cell), default=0)
        # Blank cells behind the header are the sheet's, not the record's. Other cells there are too many fields.
        width = width or filled
        yield _line(cells[: max(filled, width)] if filled else []) + "\n"


def _with_errors_as_texts(data: bytes) -> bytes:
    """The workbook with errors in its cells as texts."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(changed, "w") as target:
        names = list(dict.fromkeys(archive.namelist()))
        sheets = [name for name in names if name.startswith(_SHEETS)]
        if not any(_has_errors(archive.read(name)) for name in sheets):
            return data
        for name in names:
            part = archive.read(name)
            target.writestr(name, _ERROR_CELL.sub(rb'\1"str"', part) if name in sheets else part)
    return changed.getvalue()


def _has_errors(part: bytes) -> bool:
    # To look for three bytes is much faster than to look for a pattern.
    return (b'"e"' in part or b"'e'" in part) and _ERROR_CELL.search(part) is not None


def _rows(sheet: "CalamineSheet", form: SheetForm) -> Iterator[Sequence[Any]]:
    # The library's rows begin with the first one of the sheet, blank or not.
    if sheet.end is None:
        return
    kept = sheet.end[0] + 1 - form.footer_lines
    for number, row in enumerate(sheet.iter_rows()):
        if form.skip_lines <= number < kept:
            yield row


def _text(cell: Any, form: SheetForm) -> str:
    """A cell's value as it is read from a text."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return form.true_word if cell else form.false_word
    if isinstance(cell, int | float):
        # As many digits as the workbook has, and no exponent: a long number may be an id.
        return format(Decimal(repr(cell)), "f").removesuffix(".0").replace(".", form.decimal)
    if isinstance(cell, datetime | date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        seconds = round(cell.total_seconds())
        return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return str(cell)


def _line(cells: Sequence[str]) -> str:
    line = ",".join(cells)
    if len(_SPECIAL.findall(line)) < len(cells):
        return line
    return ",".join('"' + cell.replace('"', '""') + '"' if _SPECIAL.search(cell) else cell for cell in cells)


if __name__ == "__main__":
    main()
