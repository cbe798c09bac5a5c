"""`make bench`: the pipeline and other ways to the same profiles, side by side in one run on the same exports.

Every way is a command of its own, started in turn, `--repeat` times round; the figures are medians. Before they count,
the profiles are compared with those of the pipeline, field by field; a way that differs is shown as wrong.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from bench import backfill, data, figures, measure
from bench.backfill import UiLine
from bench.equal import DifferentError, check_equal
from bench.figures import Line
from bench.server import ServerError
from bench.ways import CHECKOUT, COLD, FLOOR, WAYS, Case, PreparationError, Way, publish
from etl_assets.cli import terminal
from etl_assets.cli.arguments import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_OK, EXIT_USAGE, Parser, whole_number
from etl_assets.engine.routing import MAX_SHARDS
from etl_assets.samples.writing import MAX_ROWS

_DESCRIPTION = """
    Measure the pipeline and other ways to the same profiles on the same clean sample data: wall time of the whole
    process, CPU, peak memory and bytes written, of all its processes together. Linux only.
"""
_EXAMPLES = """
    make bench
    make bench ARGS="--rows 100_000 --repeat 5"
    make bench ARGS="--only duckdb_query,run_cold --growth"
    make bench ARGS="--only duckdb_query --ui"
"""
_GROWING = (FLOOR, COLD)
# Load average per core above which something else is running.
_QUIET_LOAD = 0.5
# What is needed while measuring; what a killed benchmark left of it goes when the next one begins.
_WORK = ".bench-work-"
_OURS = ("dagster", "duckdb", "numpy", "xxhash")
_PEERS = ("dagster-duckdb-pandas", "duckdb", "matplotlib", "pandas", "polars", "pyarrow", "xxhash")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, show, write `results.json` and `results.png`; 0 when every way gave the right profiles."""
    args = parser().parse_args(arguments)
    args.out = args.out.absolute()
    to_measure = cases(args)
    problem = _obstacle(args, [rows for rows, _, _ in to_measure])
    if problem:
        print(f"error: {problem}", file=sys.stderr)
        return EXIT_USAGE
    # As Ctrl-C: what was started is ended, and what is needed no more removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = terminal.console()
    load = os.getloadavg()[0]
    if load > _QUIET_LOAD * (os.cpu_count() or 1):
        print(f"warning: the machine is busy (load {load:.1f}); all times will be too long", file=sys.stderr)
    documents: list[tuple[dict[str, Any], list[Line]]] = []
    ui_lines = [UiLine(project) for project in backfill.PROJECTS] if args.ui else []
    try:
        for rows, shards, ways in to_measure:
            # In the UI only what is compared, not what shows growth.
            lines = _measure_case(args, console, rows, shards, ways, [] if documents else ui_lines)
            console.print(_table(lines, rows, shards))
            if ui_lines and not documents:
                console.print()
                console.print(_ui_table(ui_lines, rows, shards))
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
        json.dumps({**_circumstances(args, load), "comparison": comparison, "growth": growth, "ui": ui}, indent=2)
        + "\n",
        encoding="utf-8",
    )
    _plot(args, console, results)
    is_good = all(line.problem is None for _, lines in documents for line in lines)
    is_good = is_good and all(line.problem is None for line in ui_lines)
    return EXIT_OK if is_good else EXIT_FAILED


def parser() -> Parser:
    """The command line."""
    made = Parser(
        prog="make bench",
        description=textwrap.dedent(_DESCRIPTION).strip(),
        epilog=f"examples:\n{textwrap.indent(textwrap.dedent(_EXAMPLES).strip(), '  ')}\n\nways:\n"
        + "\n".join(f"  {way.name:<19} {way.title}" for way in WAYS),
    )
    rows, shards = whole_number(1000, MAX_ROWS), whole_number(1, MAX_SHARDS)
    made.add_argument("--rows", type=rows, default=1_000_000, metavar="N", help="customers (1_000_000)")
    made.add_argument("--shards", type=shards, default=10, metavar="N", help="shards, and workers of some peers (10)")
    made.add_argument("--repeat", type=whole_number(1, 99), default=3, metavar="N", help="times round (3)")
    made.add_argument("--only", type=_names, default=WAYS, metavar="A,B", help="only these ways (all; see below)")
    made.add_argument(
        "--out",
        type=Path,
        default=CHECKOUT / "bench" / "results",
        metavar="DIR",
        help="folder for results, logs and sample data (bench/results)",
    )
    made.add_argument("--growth", action="store_true", help="also with more rows and with more shards, floor and ours")
    made.add_argument(
        "--growth-rows",
        type=_list_of(rows),
        default=[100_000, 1_000_000, 10_000_000],
        metavar="N,N",
        help="with how many rows (100_000,1_000_000,10_000_000)",
    )
    made.add_argument(
        "--growth-shards", type=_list_of(shards), default=[10, 100], metavar="N,N", help="with how many shards (10,100)"
    )
    made.add_argument("--ui", action="store_true", help="also a backfill of all shards in the Dagster UI, two projects")
    made.add_argument("--ui-repeat", type=whole_number(1, 99), default=1, metavar="N", help="times round for --ui (1)")
    made.add_argument(
        "--timeout", type=whole_number(1, 86_400), default=1800, metavar="S", help="seconds for one run (1800)"
    )
    made.add_argument(
        "--peer-python",
        type=Path,
        default=CHECKOUT / ".venv-bench" / "bin" / "python",
        metavar="FILE",
        help="Python that has what the peers need (.venv-bench/bin/python)",
    )
    return made


def _names(text: str) -> tuple[Way, ...]:
    known = {way.name: way for way in WAYS}
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"no such way: {', '.join(unknown)}; there are {', '.join(known)}")
    return tuple(way for way in WAYS if way.name in names)


def _list_of(one: Callable[[str], int]) -> Callable[[str], list[int]]:
    return lambda text: sorted({one(part) for part in text.split(",")})


def cases(args: argparse.Namespace) -> list[tuple[int, int, tuple[Way, ...]]]:
    """Rows, shards and ways: the comparison, then what shows growth."""
    found = [(args.rows, args.shards, tuple(args.only))]
    if args.growth:
        growing = tuple(way for way in WAYS if way.name in _GROWING)
        sizes = [(rows, args.shards) for rows in args.growth_rows]
        sizes += [(args.rows, shards) for shards in args.growth_shards]
        # The comparison is a case of growth, if it has these ways.
        measured = {found[0][:2]} if set(growing) <= set(args.only) else set()
        found += [(rows, shards, growing) for rows, shards in dict.fromkeys(sizes) if (rows, shards) not in measured]
    return found


def _obstacle(args: argparse.Namespace, row_counts: list[int]) -> str | None:
    """Why measuring cannot begin."""
    if not Path("/proc/self/io").exists():
        return "the benchmark reads /proc, which only Linux has"
    needs_peer_python = args.ui or any(way.needs_peer_python for way in args.only)
    if needs_peer_python and not args.peer_python.exists():
        return f"the peers' environment is missing ({args.peer_python}); make bench sets it up"
    args.out.mkdir(parents=True, exist_ok=True)
    # What is there already is counted again: a wrong refusal is better than a full disk in the middle.
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
    """Every way, `--repeat` times round; then the backfills, `--ui-repeat` times."""
    console.print(f"{rows:,} customers, {shards} shards: preparing")
    logs = args.out / "logs"
    logs.mkdir(exist_ok=True)
    for left in args.out.glob(f"{_WORK}*"):
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_WORK, dir=args.out) as folder:
        case = _prepare(args, Path(folder), rows, shards, any(way.needs_change for way in ways))
        lines = [Line(way) for way in ways]
        for number in range(1, args.repeat + 1):
            for line in lines:
                if line.problem is None:
                    log = logs / f"{line.way.name}-{rows}x{shards}-{number}.log"
                    _measure_once(line, case, Path(folder) / "scratch", log, args.timeout)
                    console.print(f"  {number}/{args.repeat} {line.way.name}: {_last(line)}")
        for number in range(1, args.ui_repeat + 1):
            for ui_line in ui_lines:
                if ui_line.problem is None:
                    log = logs / f"{ui_line.project.name}-{rows}x{shards}-{number}.log"
                    _backfill_once(ui_line, case, Path(folder) / "scratch", log, args.timeout)
                    console.print(f"  {number}/{args.ui_repeat} {ui_line.project.name}: {_last_backfill(ui_line)}")
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
    """One run, whose cost counts when its result is right."""
    scratch.mkdir()
    try:
        start = line.way.prepare(case, scratch)
        log.unlink(missing_ok=True)
        # What others left to be written must not be paid for by this one.
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
    """One backfill, whose times count when its result is right."""
    scratch.mkdir()
    log.unlink(missing_ok=True)
    try:
        start, taken = backfill.measure_backfill(line.project, case, scratch, log, timeout_s)
        check_equal(start.reference, start.result)
        line.backfills.append(replace(taken, engine_s=backfill.engine_s(start.result)))
    except ServerError as error:
        line.problem = f"failed: {error}; see {log.name}"
    except DifferentError as error:
        line.problem = f"WRONG: {error}"
    finally:
        shutil.rmtree(scratch)


def _last_backfill(line: UiLine) -> str:
    return line.problem or f"built after {line.backfills[-1].last_shard_s:.1f} s, equal"


def _last(line: Line) -> str:
    return line.problem or f"{line.costs[-1].wall_s:.2f} s, equal"


def _table(lines: Sequence[Line], rows: int, shards: int) -> Any:
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


def _ui_table(lines: Sequence[UiLine], rows: int, shards: int) -> Any:
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
        title=f"{rows:,} customers, {shards} shards; medians of {repeat}, of a run the mean of all",
    )
    for line in lines:
        if line.problem:
            made.add_row(line.project.title, *["-"] * 8, terminal.plain(line.problem))
            continue
        values = [line.median(measure) for measure in backfill.MEASURES]
        shown = ["-" if value is None else f"{value:.1f} s" for value in values]
        made.add_row(line.project.title, *shown, "equal")
    return made


def _circumstances(args: argparse.Namespace, load: float) -> dict[str, Any]:
    """What somebody must know to judge the figures, and nothing that tells whose machine it was."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(CHECKOUT), "describe", "--always", "--dirty", "--abbrev=12"),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "system": " ".join([platform.system(), *platform.release().split(".")[:2]]),
            "load_average_before": round(load, 2),
        },
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _OURS},
        "peer_versions": _peer_versions(args.peer_python),
        "repeat": args.repeat,
        "data": f"clean sample exports in CSV, seed {data.SEED}: the peers have no quarantine",
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _peer_versions(python: Path) -> dict[str, str]:
    code = (
        "import json, sys; from importlib import metadata; "
        "print(json.dumps({name: metadata.version(name) for name in sys.argv[1:]}))"
    )
    text = _output(str(python), "-c", code, *_PEERS)
    return dict(json.loads(text)) if text else {}


def _output(*command: str) -> str | None:
    """What a command prints; None when it cannot be run or fails."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


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
