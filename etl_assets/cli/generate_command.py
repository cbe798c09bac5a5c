"""`etl-assets generate`: sample exports, to try everything without real data."""

import argparse
import contextlib
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb

from etl_assets.cli.arguments import EXIT_OK, Parser, Subparsers, add_project, add_subcommand, share, whole_number
from etl_assets.cli.output import printable
from etl_assets.cli.terminal import Bar, console, count, duration, is_live, size
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.errors import ConfigError, EtlError
from etl_assets.pipeline.configuration import project_of
from etl_assets.project.settings import load_settings
from etl_assets.samples.any_files import writer_of
from etl_assets.samples.writing import FORMATS, MAX_DIRTY, MAX_ROWS

_DESCRIPTION = """
    Write sample exports for the project: customers of crm, billing, product and support for customer 360, else
    plausible values for every column that the contract declares, in files as it declares them. The same arguments give
    the same files, byte for byte. --dirty gives a share of the rows the flaws of real exports: missing ids, malformed
    rows, values out of range, several rows for one customer. Without --out, no file is replaced.
"""
_EXAMPLES = """
    etl-assets generate
    etl-assets generate --rows 1_000_000 --dirty 0.02
    etl-assets generate --format parquet --out /tmp/sample
"""


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "generate", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument(
        "--rows",
        type=whole_number(1, MAX_ROWS),
        default=100_000,
        metavar="N",
        help="customers, or whatever the project is about (default 100_000)",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**63 - 1),
        default=42,
        metavar="S",
        help="another seed, other customers (42)",
    )
    parser.add_argument(
        "--dirty",
        type=share(MAX_DIRTY),
        default=0.0,
        metavar="F",
        help=f"share of flawed rows, 0 to {MAX_DIRTY} (0)",
    )
    parser.add_argument(
        "--out", type=Path, default=None, metavar="DIR", help="folder to write to (ETL_SOURCES, data/sources)"
    )
    parser.add_argument(
        "--format", choices=FORMATS, default="csv", help="file format of sources whose patterns do not name one (csv)"
    )
    return parser


def command(args: argparse.Namespace) -> int:
    """Write the files and print a summary line."""
    started = time.perf_counter()
    settings = load_settings()
    contract = project_of(settings).contract
    out = args.out or _folder_without_files(settings.sources)
    _check_writable(out, Home(settings.home))
    try:
        with _progress(args.rows, contract.entity) as on_progress:
            files = writer_of(contract)(
                out,
                rows=args.rows,
                seed=args.seed,
                dirty=args.dirty,
                file_format=args.format,
                on_progress=on_progress,
            )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    except (OSError, duckdb.Error) as error:
        raise EtlError(f"The files could not be written to {out}: {error}. Existing files are unchanged.") from error
    elapsed_ms = round((time.perf_counter() - started) * 1000)
    sizes = ", ".join(f"{path.name} {size(path.stat().st_size)}" for path in files)
    # The contract's word is in the plural.
    what = count(args.rows, "customer") if contract.entity == "customers" else f"{args.rows:,} {contract.entity}"
    print(printable(f"{what} in {args.out or os.path.relpath(out)}: {sizes} ({duration(elapsed_ms)})"))
    return EXIT_OK


def _folder_without_files(sources: Path | str) -> Path:
    """The project's folder of exports; ConfigError when it holds any, for they may be real ones."""
    if isinstance(sources, str):
        raise ConfigError(f"{sources} is no folder of this machine. Choose one with --out, and send its files there.")
    if sources.is_dir() and any(sources.iterdir()):
        raise ConfigError(
            f"{os.path.relpath(sources)} holds files, which may be real exports. "
            f"To replace those that the sample has, too, add --out {shlex.quote(os.path.relpath(sources))}."
        )
    return sources


def _check_writable(folder: Path, home: Home) -> None:
    """Fail now, not after the first file was computed."""
    try:
        # Around the folder for its owner alone, as `run` makes it.
        if folder.absolute().is_relative_to(home.root.absolute()):
            publishing.ensure_home(home)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(f"Cannot write to {folder}: {reason}. Choose another folder with --out.") from error


@contextlib.contextmanager
def _progress(rows: int, entity: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal; nothing in a pipe or a log."""
    on = console(sys.stderr)
    if not is_live(on):
        yield None
        return
    from rich.progress import MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn

    class BarColumn(ProgressColumn):
        """The bar of this program; rich's own is red until it is full, and the same all along without colours."""

        def render(self, task: Task) -> Bar:
            return Bar(task.completed, task.total or 0)

    columns = (TextColumn(entity, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=on, transient=True) as bar:
        task = bar.add_task("", total=rows)
        yield lambda done, _: bar.update(task, completed=done)
