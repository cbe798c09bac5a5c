"""The figures as tables for the terminal. Computes nothing; `results.json` comes from `figures` and `backfill`."""

from collections.abc import Sequence

from rich.table import Table

from bench import backfill, figures
from bench.backfill import UiLine
from bench.figures import Line
from etl_assets.cli import terminal


def comparison_table(lines: Sequence[Line], rows: int, shards: int) -> Table:
    """One row for each way; a way without figures shows its problem instead."""
    made = terminal.table(
        ("way", "left"),
        ("wall", "right"),
        ("from - to", "right"),
        ("× floor", "right"),
        ("CPU", "right"),
        ("peak memory", "right"),
        ("written", "right"),
        ("profiles", "left"),
        title=f"{rows:,} customers, {shards} shards; medians of {max((len(line.costs) for line in lines), default=0)}",
    )
    floor_s = figures.floor_wall_s(lines)
    for line in lines:
        if line.problem:
            made.add_row(line.way.title, *["-"] * 6, terminal.plain(line.problem))
            continue
        walls = [cost.wall_s for cost in line.costs]
        ratio = figures.ratio(line, floor_s)
        made.add_row(
            line.way.title,
            f"{line.median('wall_s'):.2f} s",
            f"{min(walls):.2f} - {max(walls):.2f}",
            "-" if ratio is None else f"{ratio:.1f}",
            f"{line.median('cpu_s'):.2f} s",
            terminal.size(round(line.median("peak_bytes") or 0)),
            terminal.size(round(line.median("written_bytes") or 0)),
            "equal",
        )
    return made


def backfill_table(lines: Sequence[UiLine], rows: int, shards: int) -> Table:
    """One row for each project that was backfilled in the UI."""
    repeat = max((len(line.backfills) for line in lines), default=0)
    made = terminal.table(
        ("backfill in the UI, after its request", "left"),
        ("first run", "right"),
        ("last shard", "right"),
        ("merged", "right"),
        ("completed", "right"),
        ("a run: queue", "right"),
        ("process start", "right"),
        ("work", "right"),
        ("engine", "right"),
        ("profiles", "left"),
        title=f"{rows:,} customers, {shards} shards; medians of {repeat}; times of a run are means of all runs",
    )
    for line in lines:
        if line.problem:
            made.add_row(line.project.title, *["-"] * 8, terminal.plain(line.problem))
            continue
        values = [line.median(measure) for measure in backfill.MEASURES]
        shown = ["-" if value is None else f"{value:.1f} s" for value in values]
        made.add_row(line.project.title, *shown, "equal")
    return made
