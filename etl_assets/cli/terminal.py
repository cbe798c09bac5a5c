"""Output for people: consoles, numbers, sizes and times, in one style for every command.

Machine-readable output (csv, json) does not come here; it goes to stdout as it is.
"""

import sys
from datetime import datetime
from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Wide enough for any table: a pipe has no edge at which to fold, and folded lines cannot be searched.
_PIPE_WIDTH = 10_000
# What moves the cursor or rings the bell must not reach a terminal from somebody's data; tabs would break the columns.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {9: "\\t", 10: "\\n", 13: "\\r"}


class _Console(Console):
    """Rich's console, without its own way to end the program when a pipe breaks."""

    def on_broken_pipe(self) -> None:
        """Let `main` end it, with the exit code that every command has for it."""
        raise BrokenPipeError


def console(stream: IO[str] | None = None) -> Console:
    """A console on stdout (or `stream`): colour and the terminal's width on a terminal, neither in a pipe or file."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return _Console(file=stream, width=width, highlight=False, emoji=False, soft_wrap=False)


def table(*columns: tuple[str, str], title: str | None = None) -> Table:
    """A table without vertical lines; each column is its heading and `left` or `right`."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title=title, title_justify="left")
    for heading, justify in columns:
        # A folded number or name is no longer one; texts, the last column by custom, fold.
        made.add_column(
            heading, justify="right" if justify == "right" else "left", no_wrap=justify == "right", overflow="fold"
        )
    return made


def plain(value: object) -> Text:
    """A value as text that cannot do anything but be read: no markup, no control characters."""
    return Text(printable(str(value)))


def printable(text: str) -> str:
    """`text` with control characters written as escapes."""
    return text.translate(_CONTROLS)


def number(value: int | None) -> str:
    """`1,234,567`; `-` when there is none."""
    return "-" if value is None else f"{value:,}"


def duration(elapsed_ms: int | None) -> str:
    """`812 ms`, `4.2 s`, `3 min 05 s`; `-` when there is none."""
    if elapsed_ms is None:
        return "-"
    if elapsed_ms < 1000:
        return f"{elapsed_ms} ms"
    if elapsed_ms < 59_950:
        return f"{elapsed_ms / 1000:.1f} s"
    minutes, seconds = divmod(round(elapsed_ms / 1000), 60)
    return f"{minutes} min {seconds:02d} s"


def size(size_bytes: int) -> str:
    """`34.5 MB` (a million bytes), `812 kB`."""
    if size_bytes < 1_000_000:
        return f"{max(1, round(size_bytes / 1000)) if size_bytes else 0} kB"
    if size_bytes < 1_000_000_000:
        return f"{size_bytes / 1_000_000:.1f} MB"
    return f"{size_bytes / 1_000_000_000:.2f} GB"


def moment(at: datetime | str | None) -> str:
    """Local time of today, else the day; `-` when there is none."""
    if at is None:
        return "-"
    when = datetime.fromisoformat(at) if isinstance(at, str) else at
    local = when.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d")


def count(amount: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"
