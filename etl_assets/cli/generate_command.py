"""`etl-assets generate`: sample exports, so that everything can be tried without data of one's own."""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from etl_assets.cli.arguments import EXIT_OK, Parser, Subparsers, add_subcommand, share, whole_number
from etl_assets.cli.terminal import count, duration, size
from etl_assets.errors import ConfigError, EtlError
from etl_assets.samples.writing import FORMATS, MAX_DIRTY, MAX_ROWS, generate

_DESCRIPTION = """
    Write sample exports of the four sources (crm, billing, product, support). The same arguments give the same
    files, byte for byte. With --dirty, that share of the rows shows the flaws of real exports: missing ids,
    malformed rows, values out of range, several rows for one customer.
"""
_EXAMPLES = """
    etl-assets generate
    etl-assets generate --rows 1_000_000 --dirty 0.02
    etl-assets generate --format parquet --out /tmp/sample
"""


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "generate", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--rows",
        type=whole_number(1, MAX_ROWS),
        default=100_000,
        metavar="N",
        help="customers (default 100_000)",
    )
    parser.add_argument(
        "--seed", type=whole_number(0, 2**63 - 1), default=42, metavar="S", help="another seed, other customers (42)"
    )
    parser.add_argument(
        "--dirty",
        type=share(MAX_DIRTY),
        default=0.0,
        metavar="F",
        help=f"share of flawed rows, 0 to {MAX_DIRTY} (0)",
    )
    parser.add_argument(
        "--out", type=Path, default=Path("data/sources"), metavar="DIR", help="folder to write to (data/sources)"
    )
    parser.add_argument("--format", choices=FORMATS, default="csv", help="file format (csv)")
    return parser


def command(args: argparse.Namespace) -> int:
    """Write the files and say what was written."""
    started = time.perf_counter()
    _check_writable(args.out)
    try:
        with _progress(args.rows) as on_progress:
            files = generate(
                args.out,
                rows=args.rows,
                seed=args.seed,
                dirty=args.dirty,
                file_format=args.format,
                on_progress=on_progress,
            )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except (OSError, duckdb.Error) as error:
        raise EtlError(
            f"The files could not be written to {args.out}: {error}. What was there is unchanged."
        ) from error
    elapsed_ms = round((time.perf_counter() - started) * 1000)
    sizes = ", ".join(f"{path.name} {size(path.stat().st_size)}" for path in files)
    print(f"{count(args.rows, 'customer')} in {args.out}: {sizes} ({duration(elapsed_ms)})")
    return EXIT_OK


def _check_writable(folder: Path) -> None:
    """Find out now, not after the first file was computed."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"Cannot write to {folder}: {reason}. Choose another folder with --out.") from error


@contextlib.contextmanager
def _progress(rows: int) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal; nothing in a pipe or a log."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from etl_assets.cli.terminal import console

    columns = (TextColumn("customers"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task("", total=rows)
        yield lambda done, _: bar.update(task, completed=done)
