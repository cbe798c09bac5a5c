"""Stdout and stderr in every condition: closed, of any encoding, with a reader that leaves. Also escapes for values.

No rich here: error messages and `--help` use this module, and rich takes a tenth of a second to import. Consoles,
tables and numbers for people are in `terminal.py`.
"""

import contextlib
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import IO, TextIO

# Characters that act on a terminal instead of being seen: control characters, line and paragraph separators, lone
# surrogates (bytes of a file name that are not UTF-8) and marks that reverse the direction of the text after them.
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str, encoding: str | None = "utf-8") -> str:
    """`text` with every character that acts on a terminal, or that `encoding` lacks, written as an escape."""
    shown = _ACTING.sub(lambda match: _escape(match[0]), text)
    return shown.encode(encoding or "utf-8", "backslashreplace").decode(encoding or "utf-8")


def printable_lines(text: str) -> str:
    """As `printable`, but line breaks and tabs stay: for messages of several lines, such as DuckDB's."""
    return _ACTING.sub(lambda match: match[0] if match[0] in "\n\t" else _escape(match[0]), text)


def _escape(character: str) -> str:
    """The escape that Python's `ascii` writes for it."""
    return ascii(character)[1:-1]


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
