"""The display while `etl-assets run` works: a live board on a terminal, one line per step in a pipe or a log.

Both take `StepEvent`s, from several threads. `run_report.py` has the summary at the end.
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from etl_assets.cli import terminal
from etl_assets.cli.output import best_effort
from etl_assets.cli.wording import explained
from etl_assets.engine.published.status import Status
from etl_assets.pipeline.events import Observer, StepEvent

_MERGE = "merged_profiles"
# With more shards than this, only those that are running or in trouble have a line.
_SHARD_LINES = 10
_REFRESHES_PER_SECOND = 8
_GAP = 2
_STYLES = {
    Status.WAITING: "dim",
    Status.RUNNING: "cyan",
    Status.RETRYING: "yellow",
    Status.SUCCEEDED: "green",
    Status.REUSED: "green",
    Status.FAILED: "red",
}
_WORDS = {Status.SUCCEEDED: "done"}
# The order of those lines.
_URGENCY = (Status.FAILED, Status.RETRYING, Status.RUNNING)
_TROUBLE = (Status.FAILED, Status.RETRYING)


@contextlib.contextmanager
def display(console: Console, source_names: Sequence[str], shard_ids: Sequence[str]) -> Iterator[Observer]:
    """Yields the observer to call with each event; the board disappears at the end and leaves room for the report."""
    if not terminal.is_live(console):
        yield plain_lines(console)
        return
    board = Board(source_names, shard_ids)
    with Live(board, console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True):
        yield board.observe


def plain_lines(console: Console) -> Observer:
    """An observer that writes a line for each step that finishes, fails or is retried.

    A line that cannot be written is lost; the run goes on without its display.
    """
    lock = threading.Lock()

    def observe(event: StepEvent) -> None:
        if event.status is Status.RUNNING:
            return
        with lock, best_effort(console.file):
            console.print(terminal.plain(_line(event)), soft_wrap=True)

    return observe


def _line(event: StepEvent) -> str:
    name = event.shard_id or event.step
    is_first = event.status.is_done and event.attempt == 1
    attempt = f"attempt {event.attempt} " if event.attempt and not is_first else ""
    if event.status is Status.RETRYING:
        return f"{name}: {attempt}failed, will be retried: {_message(event)}"
    if event.status is Status.FAILED:
        return f"{name}: {attempt}failed: {_message(event)}"
    parts = [f"{attempt}{'unchanged, reused' if event.status is Status.REUSED else 'done'}"]
    if event.record_count is not None:
        parts.append(terminal.count(event.record_count, "record"))
    if event.elapsed_ms is not None:
        parts.append(terminal.duration(event.elapsed_ms))
    return f"{name}: {', '.join(parts)}"


@dataclass
class Step:
    """The progress of one source, one shard or the merge."""

    name: str
    status: Status = Status.WAITING
    record_count: int | None = None
    elapsed_ms: int | None = None
    attempt: int | None = None
    message: str = ""
    began_s: float | None = None

    def take(self, event: StepEvent, now_s: float) -> None:
        """Apply an event."""
        self.status, self.attempt = event.status, event.attempt or self.attempt
        self.message = _message(event)
        if event.status is Status.RUNNING:
            self.began_s = now_s
        elif event.status is not Status.RETRYING:
            self.record_count, self.elapsed_ms = event.record_count, event.elapsed_ms


@dataclass
class Board:
    """The live view: a bar for the shards, then lines for the sources, the shards (or some) and the merge."""

    source_names: Sequence[str]
    shard_ids: Sequence[str]
    clock: Callable[[], float] = time.monotonic
    sources: dict[str, Step] = field(init=False)
    shards: dict[str, Step] = field(init=False)
    merge: Step = field(init=False)

    def __post_init__(self) -> None:
        self.sources = {name: Step(name) for name in self.source_names}
        self.shards = {shard_id: Step(shard_id) for shard_id in self.shard_ids}
        self.merge = Step(_MERGE)
        self._began_s = self.clock()
        self._lock = threading.Lock()

    def observe(self, event: StepEvent) -> None:
        """Apply an event to its step; may be called from any thread."""
        with self._lock:
            now_s = self.clock()
            if event.shard_id is not None:
                step = self.shards.setdefault(event.shard_id, Step(event.shard_id))
            elif event.step in self.sources:
                step = self.sources[event.step]
                self._start_sources(event, now_s)
            else:
                step = self.merge
            step.take(event, now_s)

    def _start_sources(self, event: StepEvent, now_s: float) -> None:
        """All sources run side by side: the first one that ends without having been announced shows that all run."""
        if event.status is not Status.RUNNING and all(step.status is Status.WAITING for step in self.sources.values()):
            for step in self.sources.values():
                step.take(StepEvent(Status.RUNNING, step.name), now_s)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        with self._lock:
            sources, shards, merge = list(self.sources.values()), list(self.shards.values()), self.merge
            lines = sources + self._worth_a_line(shards) + [merge]
            yield Group(self._bar(shards), self._table(lines, options))

    def _bar(self, shards: Sequence[Step]) -> Table:
        over = sum(step.status.is_over for step in shards)
        records = sum(step.record_count or 0 for step in shards)
        counts = Counter(step.status for step in shards)
        trouble = [status for status in _TROUBLE if counts[status]]
        row = Table.grid(padding=(0, _GAP, 0, 0))
        row.add_row(
            "shards",
            terminal.Bar(over, len(shards), style=_STYLES[trouble[0]] if trouble else _STYLES[Status.SUCCEEDED]),
            f"{over}/{len(shards)}",
            terminal.count(records, "record"),
            terminal.duration(round((self.clock() - self._began_s) * 1000)),
            Text(", ".join(f"{counts[status]} {status}" for status in trouble), style="yellow"),
        )
        return row

    @staticmethod
    def _worth_a_line(shards: Sequence[Step]) -> list[Step]:
        if len(shards) <= _SHARD_LINES:
            return list(shards)
        urgent = [step for step in shards if step.status in _URGENCY]
        return sorted(urgent, key=lambda step: _URGENCY.index(step.status))[:_SHARD_LINES]

    def _table(self, steps: Sequence[Step], options: ConsoleOptions) -> Table:
        made = Table.grid(padding=(0, _GAP, 0, 0))
        names = [terminal.plain(step.name, encoding=options.encoding) for step in steps]
        # Fixed widths: a long error must not squeeze the columns, and growing numbers must not move them.
        widths = (max(name.cell_len for name in names), 8, 11, 8)
        for column, fixed in enumerate(widths):
            made.add_column(justify="left" if column < 2 else "right", no_wrap=True, width=fixed)
        # One line per step, whatever an error says: a board that changes its height flickers.
        rest = options.max_width - sum(widths) - _GAP * len(widths)
        made.add_column(no_wrap=True, overflow="crop" if options.ascii_only else "ellipsis", max_width=max(1, rest))
        for name, step in zip(names, steps, strict=True):
            made.add_row(
                name,
                Text(_WORDS.get(step.status, step.status), style=_STYLES.get(step.status, "")),
                "" if step.record_count is None else terminal.number(step.record_count),
                self._elapsed(step),
                terminal.plain(_remark(step), encoding=options.encoding),
            )
        return made

    def _elapsed(self, step: Step) -> str:
        if step.status is Status.RUNNING and step.began_s is not None:
            return terminal.duration(round((self.clock() - step.began_s) * 1000))
        return "" if step.elapsed_ms is None else terminal.duration(step.elapsed_ms)


def _remark(step: Step) -> str:
    attempt = f"attempt {step.attempt}" if step.attempt and step.attempt > 1 else ""
    return ": ".join(filter(None, [attempt, step.message]))


def _message(event: StepEvent) -> str:
    return explained(event.error).partition("\n")[0] if event.error is not None else ""
