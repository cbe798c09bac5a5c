"""`etl-assets run`: the whole pipeline in this process, with a live display and a report at the end."""

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from etl_assets.cli import output, progress, terminal
from etl_assets.cli import run_report as report
from etl_assets.cli.arguments import EXIT_FAILED, EXIT_OK, Parser, Subparsers, add_project, add_subcommand
from etl_assets.cli.environment import warn_of_unknown
from etl_assets.cli.program import command as command_line
from etl_assets.engine.site import Site
from etl_assets.orchestration import interrupts
from etl_assets.orchestration.instance.tags import COMMAND
from etl_assets.orchestration.launching import Order, launch
from etl_assets.pipeline import event_lines
from etl_assets.pipeline.configuration import arm_faults, project_of, site_of
from etl_assets.pipeline.events import Observer
from etl_assets.pipeline.report import Report
from etl_assets.project.settings import load_settings

_DESCRIPTION = """
    Stage the sources, build the shards, merge them and publish $ETL_HOME/warehouse.duckdb. Unchanged results are
    reused: a second run, or one after a failure, does only what is left. A failed run does not change the published
    warehouse.
"""
_EXAMPLES = """
    etl-assets run
    etl-assets run --shards shard_03,shard_07
    ETL_NUM_SHARDS=20 etl-assets run --force
    etl-assets run --events jsonl | jq -c 'select(.event == "report") | .publication'
"""


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "run", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument(
        "--shards", type=_names, metavar="NAMES", help="build only these, separated by commas: shard_03,shard_07 (all)"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="rebuild what is current, too (with --shards, only those shards), and replace any warehouse",
    )
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="publish even when shards are missing; the warehouse is marked as partial",
    )
    parser.add_argument(
        "--accept-shrunk",
        action="store_true",
        help="accept exports and a result with far fewer rows than the last publication, in this run only",
    )
    parser.add_argument(
        "--events",
        choices=("jsonl",),
        help="for programs: one JSON object per event on stdout, the last one with the result, instead of the display",
    )
    return parser


def command(args: argparse.Namespace) -> int:
    """Run the pipeline; 0 when the warehouse is published."""
    settings = load_settings()
    warn_of_unknown()
    arm_faults(settings)
    site = site_of(project_of(settings), settings)
    order = Order(args.shards, args.force, args.allow_partial, args.accept_shrunk, COMMAND, os.environ)
    try:
        with interrupts.like_ctrl_c(), _observed(args, site) as on_event:
            done = launch(site, settings, order, on_event, while_loading=_without_garbage_collection)
    except KeyboardInterrupt:
        output.write_error(f"Finished work is kept. Go on with: {command_line('run')}")
        raise
    exit_code = EXIT_OK if done.ok else EXIT_FAILED
    # The exit code says what became of the pipeline, whether or not someone reads the report.
    with output.best_effort(sys.stdout):
        if args.events:
            _write_line(_report_line(done, exit_code))
        else:
            report.show(terminal.console(), done, site)
        sys.stdout.flush()
    if not done.ok:
        with output.best_effort(sys.stderr):
            report.show_failure(terminal.console(sys.stderr), done, site)
    return exit_code


@contextlib.contextmanager
def _observed(args: argparse.Namespace, site: Site) -> Iterator[Observer]:
    """Yields the observer of this run: JSON lines for programs, else the display."""
    if args.events:
        output.machine_readable()
        yield event_lines.writer(_write_line)
        return
    shard_ids = args.shards or site.shard_ids
    with progress.display(terminal.console(), site.contract.source_names, shard_ids) as on_event:
        yield on_event


def _write_line(line: str) -> None:
    with output.best_effort(sys.stdout):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _report_line(done: Report, exit_code: int) -> str:
    recovery = None if done.ok else report.recovery(done)
    return event_lines.report_line(done, datetime.now(UTC), exit_code=exit_code, recovery=recovery)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Objects made in this block live as long as the process: looking for garbage among them would cost 0.2 s."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("expected names of shards separated by commas, like shard_03,shard_07")
    return list(dict.fromkeys(names))
