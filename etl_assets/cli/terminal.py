"""Output for people: consoles, tables, numbers, sizes and times, in one style for every command.

Machine-readable output (csv, json) does not come here but to `output.machine_writer`. Every console of the program is
made here, because a value must never be interpreted: no console parses markup, and none passes on a control character.
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from etl_assets.cli.output import printable, printable_lines

# Wide enough for any table: a pipe has no edge at which to fold, and folded lines cannot be searched.
_PIPE_WIDTH = 10_000
_NOT_PLAIN = re.compile(r"[^\n -~]")


class _Console(Console):
    """Rich's console without markup, without control characters and without its own way to end the program."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Escape control characters before the layout, which then knows the width."""
        return super().render_str(printable_lines(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Escape control characters in a `Text` that was made without `plain`; rich's own movements are marked."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control is None and _NOT_PLAIN.search(text):
                yield Segment(printable_lines(text), style)
            else:
                yield segment

    def on_broken_pipe(self) -> None:
        """Let `main` end it, with the exit code that every command has for it."""
        raise BrokenPipeError


def console(stream: IO[str] | None = None) -> Console:
    """A console on stdout (or `stream`): colour and the terminal's width on a terminal, neither in a pipe or file."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return _Console(file=stream, width=width, markup=False, highlight=False, emoji=False, soft_wrap=False)


def is_live(on: Console) -> bool:
    """Whether a display that redraws itself works here: a real terminal, whatever FORCE_COLOR claims."""
    return on.file.isatty() and not on.is_dumb_terminal


def table(*columns: tuple[str, str], title: str | None = None) -> Table:
    """A table without vertical lines; each column is its heading and `left` or `right`."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", title=title, title_justify="left")
    for heading, justify in columns:
        # A folded number or name is no longer one; texts, the last column by custom, fold.
        made.add_column(
            heading, justify="right" if justify == "right" else "left", no_wrap=justify == "right", overflow="fold"
        )
    return made


@dataclass(frozen=True)
class Bar:
    """A progress bar that can be read without colours, and in ASCII."""

    done: float
    total: float
    style: str = "green"
    width: int = 24

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        filled, empty = ("#", ".") if options.ascii_only else ("\u2588", "\u2591")
        share = min(1.0, self.done / self.total) if self.total else 1.0
        length = int(share * self.width)
        yield Text.assemble((filled * length, self.style), (empty * (self.width - length), "dim"), end="")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width, self.width)


def plain(value: object, style: str = "", encoding: str = "utf-8") -> Text:
    """A value as text that can only be read: no markup, no control characters, nothing that `encoding` lacks."""
    return Text(printable(str(value), encoding), style=style)


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
    """Local time: `14:03:59` for today, else `2026-05-01 14:03`; `-` when there is none."""
    if at is None:
        return "-"
    when = datetime.fromisoformat(at) if isinstance(at, str) else at
    local = when.astimezone()
    return local.strftime("%H:%M:%S" if local.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M")


def count(amount: int, noun: str) -> str:
    """`1 row`, `1,200 rows`."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"
