"""The command line of `make bench`, and the cases that it asks for."""

import argparse
import textwrap
from collections.abc import Callable
from pathlib import Path

from bench.ways import CHECKOUT, COLD, FLOOR, WAYS, Way
from etl_assets.cli.arguments import Parser, whole_number
from etl_assets.project.settings import MAX_SHARDS
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
# The ways whose growth with rows and shards is measured.
_GROWING = (FLOOR, COLD)


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
    made.add_argument(
        "--only", type=_names, default=WAYS, metavar="A,B", help="measure only these ways (all; see below)"
    )
    made.add_argument(
        "--out",
        type=Path,
        default=CHECKOUT / "bench" / "results",
        metavar="DIR",
        help="folder for results, logs and sample data (bench/results)",
    )
    made.add_argument(
        "--growth",
        action="store_true",
        help="also measure the floor and the pipeline with other numbers of rows and shards",
    )
    made.add_argument(
        "--growth-rows",
        type=_list_of(rows),
        default=[100_000, 1_000_000, 10_000_000],
        metavar="N,N",
        help="numbers of rows for --growth (100_000,1_000_000,10_000_000)",
    )
    made.add_argument(
        "--growth-shards",
        type=_list_of(shards),
        default=[10, 100],
        metavar="N,N",
        help="numbers of shards for --growth (10,100)",
    )
    made.add_argument("--ui", action="store_true", help="also measure a backfill of all shards in the Dagster UI")
    made.add_argument("--ui-repeat", type=whole_number(1, 99), default=1, metavar="N", help="times round for --ui (1)")
    made.add_argument(
        "--timeout", type=whole_number(1, 86_400), default=1800, metavar="S", help="seconds for one run (1800)"
    )
    made.add_argument(
        "--peer-python",
        type=Path,
        default=CHECKOUT / ".venv-bench" / "bin" / "python",
        metavar="FILE",
        help="Python that has the packages of the peers (.venv-bench/bin/python)",
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


def cases_of(args: argparse.Namespace) -> list[tuple[int, int, tuple[Way, ...]]]:
    """Rows, shards and ways of each case: first the comparison, then those that show growth."""
    cases = [(args.rows, args.shards, tuple(args.only))]
    if args.growth:
        growing = tuple(way for way in WAYS if way.name in _GROWING)
        sizes = [(rows, args.shards) for rows in args.growth_rows]
        sizes += [(args.rows, shards) for shards in args.growth_shards]
        # The comparison is itself a case of growth when it has these ways.
        measured = {cases[0][:2]} if set(growing) <= set(args.only) else set()
        cases += [(rows, shards, growing) for rows, shards in dict.fromkeys(sizes) if (rows, shards) not in measured]
    return cases
