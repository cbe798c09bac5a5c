"""Stdout and stderr in every condition: closed, of any encoding, with a reader that leaves. Also escapes for values.

No rich here: error messages and `--help` use this module, and rich takes a tenth of a second to import. Consoles,
tables and numbers for people are in `terminal.py`.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import IO, TextIO

from etl_assets.errors import escape, escaped


def printable(text: str, encoding: str | None = "utf-8") -> str:
    """`text` with every character that cannot be seen, or that `encoding` lacks, written as an escape.

    For everything that may reach a terminal; what cannot be seen is for `errors.escaped` to say.
    """
    return escaped(text).encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


def printable_lines(text: str) -> str:
    """As `printable`, but line breaks and tabs stay: for messages of several lines, such as DuckDB's."""
    return escaped(text, lambda character: character if character in "\n\t" else escape(character))


def _escape_json(character: str) -> str:
    """The escape for it in a text of JSON; line breaks stay, which are between values only."""
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return character if character == "\n" else re.sub("....", r"\\u\g<0>", units)


def prepare() -> None:
    """Make stdin, stdout and stderr usable: a closed one becomes /dev/null, and no character is impossible to write.

    Python leaves `sys.stdout` as None when it is started with `>&-`. The system would then give descriptor 1 to the
    next file that is opened, a database for example, and every later print would write into it.
    """
    for descriptor in range(3):
        _open_descriptor(descriptor)
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _open_descriptor(descriptor: int) -> None:
    try:
        os.fstat(descriptor)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        # Processes that are started from here need it, too.
        if opened == descriptor:
            os.set_inheritable(opened, True)
        else:
            os.dup2(opened, descriptor)
            os.close(opened)


def machine_readable() -> TextIO:
    """Stdout for programs: UTF-8 and Unix line ends, whatever the locale says."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="")
    return sys.stdout


def machine_writer(*, is_json: bool = False) -> Callable[[str], object]:
    """A function that writes to `machine_readable`, as it is; a terminal gets what `printable` escapes as escapes.

    JSON stays JSON there, and CSV keeps its lines.
    """
    write = machine_readable().write
    if not sys.stdout.isatty():
        return write
    if is_json:
        return lambda text: write(escaped(text, _escape_json))
    return lambda text: write(printable_lines(text))


def write_error(text: str) -> None:
    """Write lines to stderr; without effect when stderr cannot be written."""
    with best_effort(sys.stderr):
        sys.stderr.write(printable_lines(text) + "\n")
        sys.stderr.flush()


@contextlib.contextmanager
def best_effort(stream: IO[str]) -> Iterator[None]:
    """Drop what can no longer be written to `stream`, because its reader is gone or its disk is full.

    For the display of work that must not fail with its display.
    """
    try:
        yield
    except BrokenPipeError:
        mute(stream)
    except OSError as error:
        mute(stream)
        if stream is not sys.stderr:
            write_error(f"warning: output is lost: {error.strerror or error}")


def mute(stream: IO[str]) -> None:
    """Send everything that is still written to `stream`, its buffer included, to /dev/null."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
