"""`make bench`: the pipeline and other ways to the same profiles, measured in turn on the same exports.

Each way is a command of its own. All ways run once, then all again, `--repeat` times; the figures are medians. A run
counts only when its profiles equal the pipeline's, field by field; a way that differs is shown as wrong.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import backfill, data, display, figures, measure
from bench.backfill import UiLine
from bench.equal import DifferentError, check_equal
from bench.figures import Line
from bench.machine import circumstances
from bench.options import cases_of, parser
from bench.server import ServerError
from bench.ways import CHECKOUT, Case, PreparationError, Way, publish
from etl_assets.cli import terminal
from etl_assets.cli.arguments import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE

# Load average per core above which something else is running.
_QUIET_LOAD = 0.5
# Folder for the time of the measurement. The next benchmark removes what a killed one left.
_WORK = ".bench-work-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write `results.json` and `results.png`; 0 when every way gave the right profiles."""
    args = parser().parse_args(arguments)
    args.out = args.out.absolute()
    cases = cases_of(args)
    problem = _obstacle(args, [rows for rows, _, _ in cases])
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return EXIT_USAGE
    # SIGTERM does the same as Ctrl-C: it ends the measured commands and removes temporary folders.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = terminal.console()
    load = os.getloadavg()[0]
    if load > _QUIET_LOAD * (os.cpu_count() or 1):
        print(f"warning: the machine is busy (load {load:.1f}); all times will be too long", file=sys.stderr)
    documents: list[tuple[dict[str, Any], list[Line]]] = []
    ui_lines = [UiLine(project) for project in backfill.PROJECTS] if args.ui else []
    try:
        for rows, shards, ways in cases:
            # Backfills in the UI belong to the comparison, not to the cases of growth.
            lines = _measure_case(args, console, rows, shards, ways, [] if documents else ui_lines)
            console.print(display.comparison_table(lines, rows, shards))
            if ui_lines and not documents:
                console.print()
                console.print(display.backfill_table(ui_lines, rows, shards))
            console.print()
            documents.append((figures.document(rows, shards, lines), lines))
    except PreparationError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted: no results are written", file=sys.stderr)
        return EXIT_INTERRUPTED
    results = args.out / "results.json"
    comparison, *growth = (document for document, _ in documents)
    ui = backfill.document(args.rows, args.shards, ui_lines) if ui_lines else None
    results.write_text(
        json.dumps(
            {
                **circumstances(args.peer_python, args.repeat, load),
                "comparison": comparison,
                "growth": growth,
                "ui": ui,
            },
            indent=2,
        )
        + "\n",
        encoding="utf-8",
    )
    _plot(args, console, results)
    is_good = all(line.problem is None for _, lines in documents for line in lines)
    is_good = is_good and all(line.problem is None for line in ui_lines)
    return EXIT_OK if is_good else EXIT_FAILED


def _obstacle(args: argparse.Namespace, row_counts: list[int]) -> str | None:
    """The reason why measuring cannot begin; None when it can."""
    if not Path("/proc/self/io").exists():
        return "the benchmark reads /proc, which only Linux has"
    needs_peer_python = args.ui or any(way.needs_peer_python for way in args.only)
    if needs_peer_python and not args.peer_python.exists():
        return f"the peers' environment is missing ({args.peer_python}); make bench sets it up"
    args.out.mkdir(parents=True, exist_ok=True)
    # Existing exports are counted again: a wrong refusal is better than a full disk halfway through.
    free, needed = shutil.disk_usage(args.out).free, data.needed_bytes(sorted(set(row_counts)))
    if free < needed:
        return (
            f"{max(row_counts):,} rows need {terminal.size(needed)} of disk space, and {args.out} has "
            f"{terminal.size(free)}. Take fewer --rows (--growth-rows), or another folder with --out."
        )
    return None


def _measure_case(
    args: argparse.Namespace,
    console: Console,
    rows: int,
    shards: int,
    ways: Sequence[Way],
    ui_lines: Sequence[UiLine],
) -> list[Line]:
    """Measure every way `--repeat` times, then every backfill `--ui-repeat` times."""
    console.print(f"{rows:,} customers, {shards} shards: preparing")
    logs = args.out / "logs"
    logs.mkdir(exist_ok=True)
    for leftover in args.out.glob(f"{_WORK}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=args.out) as folder:
        case = _prepare(args, Path(folder), rows, shards, any(way.needs_change for way in ways))
        lines = [Line(way) for way in ways]
        for number in range(1, args.repeat + 1):
            for line in lines:
                if line.problem is None:
                    log = logs / f"{line.way.name}-{rows}x{shards}-{number}.log"
                    _measure_once(line, case, Path(folder) / "scratch", log, args.timeout)
                    console.print(f"  {number}/{args.repeat} {line.way.name}: {_outcome(line)}")
        for number in range(1, args.ui_repeat + 1):
            for ui_line in ui_lines:
                if ui_line.problem is None:
                    log = logs / f"{ui_line.project.name}-{rows}x{shards}-{number}.log"
                    _backfill_once(ui_line, case, Path(folder) / "scratch", log, args.timeout)
                    console.print(f"  {number}/{args.ui_repeat} {ui_line.project.name}: {_ui_outcome(ui_line)}")
    return lines


def _prepare(args: argparse.Namespace, folder: Path, rows: int, shards: int, with_change: bool) -> Case:
    sources = data.exports(args.out / "data", rows)
    case = Case(rows, shards, sources, _published(sources, folder / "home", shards), args.peer_python)
    if not with_change:
        return case
    changed = data.changed_exports(sources)
    home = _published(changed, folder / "changed", shards)
    return Case(rows, shards, sources, case.home, args.peer_python, changed, home)


def _published(sources: Path, home: Path, shards: int) -> Path:
    home.mkdir()
    publish(sources, home, shards, home.parent.parent / "logs" / f"{home.name}.log")
    return home


def _measure_once(line: Line, case: Case, scratch: Path, log: Path, timeout_s: float) -> None:
    """Measure one run of a way; its cost counts only when its result is right."""
    scratch.mkdir()
    try:
        start = line.way.prepare(case, scratch)
        log.unlink(missing_ok=True)
        # This run must not pay for data of an earlier one that is still waiting to be written.
        os.sync()
        cost = measure.measure(
            start.command, environment=start.environment, folder=scratch, log=log, timeout_s=timeout_s
        )
        if cost.exit_code is None:
            line.problem = f"ended after {timeout_s:.0f} s, see {log.name}"
        elif cost.exit_code != 0 or cost.left_over:
            line.problem = f"failed (exit code {cost.exit_code}, {cost.left_over} processes left), see {log.name}"
        else:
            check_equal(start.reference, start.result)
            line.result_bytes = start.result.stat().st_size
            line.costs.append(cost)
    except DifferentError as error:
        line.problem = f"WRONG: {error}"
    finally:
        shutil.rmtree(scratch)


def _backfill_once(line: UiLine, case: Case, scratch: Path, log: Path, timeout_s: float) -> None:
    """Measure one backfill; its times count only when its result is right."""
    scratch.mkdir()
    log.unlink(missing_ok=True)
    try:
        start, times = backfill.measure_backfill(line.project, case, scratch, log, timeout_s)
        check_equal(start.reference, start.result)
        line.backfills.append(replace(times, engine_s=backfill.engine_s(start.result)))
    except ServerError as error:
        line.problem = f"failed: {error}; see {log.name}"
    except DifferentError as error:
        line.problem = f"WRONG: {error}"
    finally:
        shutil.rmtree(scratch)


def _ui_outcome(line: UiLine) -> str:
    return line.problem or f"built after {line.backfills[-1].last_shard_s:.1f} s, equal"


def _outcome(line: Line) -> str:
    return line.problem or f"{line.costs[-1].wall_s:.2f} s, equal"


def _plot(args: argparse.Namespace, console: Console, results: Path) -> None:
    """Draw the results; matplotlib is in the peers' environment."""
    picture = results.with_suffix(".png")
    picture.unlink(missing_ok=True)
    if args.peer_python.exists():
        command = [str(args.peer_python), "-m", "bench.plot", str(results), str(picture)]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, encoding="utf-8", check=False)
        if done.returncode == 0:
            console.print(f"Results: {results}, {picture.name}")
            return
        print(f"warning: no plot: {(done.stderr.strip().splitlines() or ['unknown'])[-1]}", file=sys.stderr)
    console.print(f"Results: {results}")


if __name__ == "__main__":
    sys.exit(main())
