"""`etl-assets run`: the whole pipeline in this process, with a live display and a report at the end."""

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime

from etl_assets.cli import interrupts, output, progress, terminal
from etl_assets.cli import run_report as report
from etl_assets.cli.arguments import EXIT_FAILED, EXIT_OK, Parser, Subparsers, add_project, add_subcommand
from etl_assets.cli.environment import warn_of_unknown
from etl_assets.cli.interrupts import Interrupts
from etl_assets.cli.program import program
from etl_assets.engine.site import Site
from etl_assets.orchestration.instance import reported
from etl_assets.orchestration.instance.home import dagster_home, opened_alone
from etl_assets.pipeline import event_lines, preflight
from etl_assets.pipeline.configuration import arm_faults, project_of, site_of
from etl_assets.pipeline.events import Observer, StepEvent
from etl_assets.pipeline.report import Report
from etl_assets.project.settings import Settings, load_settings

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
    try:
        with _observed(args, site) as on_event, interrupts.watch() as ctrl_c:
            done = _run(args, site, settings, on_event, ctrl_c)
            if ctrl_c.happened:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        output.write_error(f"Finished work is kept. Go on with: {program()} run")
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


def _run(args: argparse.Namespace, site: Site, settings: Settings, on_event: Observer, ctrl_c: Interrupts) -> Report:
    preflight.refuse_impossible(site, settings, shards=args.shards, force=args.force)
    home = dagster_home(os.environ)
    if not args.force and reported.is_reported(site, home):
        unchanged = preflight.nothing_to_do(site, settings)
        if unchanged is not None:
            return unchanged
    # Importing Dagster takes a second: `--help` and a mistyped setting must not wait for it.
    with _without_garbage_collection():
        import dagster as dg
        from sqlalchemy.exc import OperationalError

        from etl_assets.orchestration import run as launch
        from etl_assets.orchestration.instance import history, opening

    def observe(event: StepEvent) -> None:
        on_event(event)
        if ctrl_c.happened:
            raise dg.Failure("interrupted by Ctrl-C", allow_retries=False)

    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(history.synced_once())
            with opened_alone(home), _without_garbage_collection():
                opened = opening.open_instance(home)
            instance = stack.enter_context(opened)
            done = launch.run_pipeline(
                site,
                settings,
                instance=instance,
                shards=args.shards,
                force=args.force,
                allow_partial=args.allow_partial,
                on_event=observe,
            )
    except OperationalError as error:
        raise OSError(None, f"the run history cannot be written: {error.orig}", str(home)) from error
    if done.ok:
        reported.remember(site, home)
    return done


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
