"""What is seen while `etl-assets run` works: a live board on a terminal, a line a step in a pipe or a log.

Fed with `StepEvent`s, possibly from several threads. What is said when it is over is `cli/report.py`'s business.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from etl_assets.cli import terminal
from etl_assets.pipeline.events import Observer, StepEvent
from etl_assets.project.contract import SOURCES

State = Literal["waiting", "running", "retrying", "done", "reused", "failed"]

_MERGE = "merged_profiles"
# More shards than this are counted; only those that are at work or in trouble have a line.
_SHARD_LINES = 10
_REFRESHES_PER_SECOND = 8
_GAP = 2
_STYLES = {
    "waiting": "dim",
    "running": "cyan",
    "retrying": "yellow",
    "done": "green",
    "reused": "green",
    "failed": "red",
}
# In the order in which they deserve a line.
_URGENCY: Sequence[State] = ("failed", "retrying", "running")


@contextlib.contextmanager
def shown(console: Console, shard_ids: Sequence[str]) -> Iterator[Observer]:
    """Yields what to call with each event; on a terminal the board is gone afterwards, the report takes its place."""
    if not console.is_terminal:
        yield plain_lines(console)
        return
    board = Board(shard_ids)
    with Live(board, console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True):
        yield board.observe


def plain_lines(console: Console) -> Observer:
    """An observer that writes a line for each step that finishes, fails or is tried again."""
    lock = threading.Lock()

    def observe(event: StepEvent) -> None:
        if event.kind == "started":
            return
        with lock:
            console.print(terminal.plain(_line(event)), soft_wrap=True)
            console.file.flush()

    return observe


def _line(event: StepEvent) -> str:
    name = event.shard_id or event.step
    attempt = f"attempt {event.attempt} " if event.attempt and (event.attempt > 1 or event.kind != "finished") else ""
    if event.kind == "retrying":
        return f"{name}: {attempt}failed and is repeated: {_first_line(event.message)}"
    if event.kind == "failed":
        return f"{name}: {attempt}failed: {_first_line(event.message)}"
    parts = [f"{attempt}{'unchanged, reused' if event.reused else 'done'}"]
    if event.record_count is not None:
        parts.append(terminal.count(event.record_count, "record"))
    if event.elapsed_ms is not None:
        parts.append(terminal.duration(event.elapsed_ms))
    return f"{name}: {', '.join(parts)}"


@dataclass
class Step:
    """How far one source, one shard or the merge is."""

    name: str
    state: State = "waiting"
    record_count: int | None = None
    elapsed_ms: int | None = None
    attempt: int | None = None
    message: str = ""
    began_s: float | None = None

    def take(self, event: StepEvent, now_s: float) -> None:
        """Bring it up to date."""
        self.attempt = event.attempt or self.attempt
        if event.kind == "started":
            self.state, self.began_s = "running", now_s
        elif event.kind == "retrying":
            self.state, self.message = "retrying", _first_line(event.message)
        elif event.kind == "failed":
            self.state, self.message, self.elapsed_ms = "failed", _first_line(event.message), event.elapsed_ms
        else:
            self.state, self.message = "reused" if event.reused else "done", ""
            self.record_count, self.elapsed_ms = event.record_count, event.elapsed_ms

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "reused", "failed")


@dataclass
class Board:
    """The live view: sources, a bar for the shards, a line for each shard (or those that matter), the merge."""

    shard_ids: Sequence[str]
    clock: Callable[[], float] = time.monotonic
    sources: dict[str, Step] = field(init=False)
    shards: dict[str, Step] = field(init=False)
    merge: Step = field(init=False)

    def __post_init__(self) -> None:
        self.sources = {source.name: Step(source.name) for source in SOURCES}
        self.shards = {shard_id: Step(shard_id) for shard_id in self.shard_ids}
        self.merge = Step(_MERGE)
        self._began_s = self.clock()
        self._lock = threading.Lock()

    def observe(self, event: StepEvent) -> None:
        """Take an event in; may be called from any thread."""
        with self._lock:
            if event.shard_id is not None:
                step = self.shards.setdefault(event.shard_id, Step(event.shard_id))
            else:
                step = self.sources.get(event.step, self.merge)
            step.take(event, self.clock())

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            sources, shards, merge = list(self.sources.values()), list(self.shards.values()), self.merge
            lines = sources + self._worth_a_line(shards) + [merge]
            yield Group(self._bar(shards), self._table(lines, options.max_width))

    def _bar(self, shards: Sequence[Step]) -> Table:
        over = sum(step.is_over for step in shards)
        records = sum(step.record_count or 0 for step in shards)
        counts = Counter(step.state for step in shards)
        trouble = ", ".join(f"{counts[state]} {state}" for state in ("failed", "retrying") if counts[state])
        row = Table.grid(padding=(0, 2, 0, 0))
        row.add_row(
            "shards",
            ProgressBar(total=max(1, len(shards)), completed=over, width=24),
            f"{over}/{len(shards)}",
            terminal.count(records, "record"),
            terminal.duration(round((self.clock() - self._began_s) * 1000)),
            Text(trouble, style="yellow"),
        )
        return row

    @staticmethod
    def _worth_a_line(shards: Sequence[Step]) -> list[Step]:
        if len(shards) <= _SHARD_LINES:
            return list(shards)
        urgent = [step for step in shards if step.state in _URGENCY]
        return sorted(urgent, key=lambda step: _URGENCY.index(step.state))[:_SHARD_LINES]

    def _table(self, steps: Sequence[Step], width: int) -> Table:
        made = Table.grid(padding=(0, _GAP, 0, 0))
        # Fixed widths: a long error must not squeeze the columns, and growing numbers must not move them.
        widths = (max(len(step.name) for step in steps), 8, 11, 8)
        for column, fixed in enumerate(widths):
            made.add_column(justify="left" if column < 2 else "right", no_wrap=True, width=fixed)
        # One line a step, whatever an error says: a board that changes its height flickers.
        rest = width - sum(widths) - _GAP * len(widths)
        made.add_column(no_wrap=True, overflow="ellipsis", max_width=max(1, rest))
        for step in steps:
            made.add_row(
                step.name,
                Text(step.state, style=_STYLES[step.state]),
                "" if step.record_count is None else terminal.number(step.record_count),
                self._elapsed(step),
                terminal.plain(_remark(step)),
            )
        return made

    def _elapsed(self, step: Step) -> str:
        if step.state == "running" and step.began_s is not None:
            return terminal.duration(round((self.clock() - step.began_s) * 1000))
        return "" if step.elapsed_ms is None else terminal.duration(step.elapsed_ms)


def _remark(step: Step) -> str:
    attempt = f"attempt {step.attempt}" if step.attempt and step.attempt > 1 else ""
    return ": ".join(filter(None, [attempt, step.message]))


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
