"""`etl-assets run`: the whole pipeline in this process, seen as it works and summed up at the end."""

import argparse
import contextlib
import gc
import os
import sys
from collections.abc import Iterator

from etl_assets.cli import interrupts, progress, terminal
from etl_assets.cli import run_report as report
from etl_assets.cli.arguments import EXIT_FAILED, EXIT_OK, Parser, Subparsers, add_subcommand
from etl_assets.engine.routing import shard_keys
from etl_assets.orchestration.instance.home import dagster_home, opened_alone
from etl_assets.pipeline import preflight
from etl_assets.pipeline.events import Observer, StepEvent
from etl_assets.pipeline.report import Report
from etl_assets.project.settings import Settings, load_settings

_DESCRIPTION = """
    Stage the sources, build the shards, merge them and publish $ETL_HOME/warehouse.duckdb. What is unchanged is
    reused, so that a second run, or one after a failure, does only what is left. A failed run leaves the last
    published warehouse as it was.
"""
_EXAMPLES = """
    etl-assets run
    etl-assets run --shards shard_03,shard_07
    ETL_NUM_SHARDS=20 etl-assets run --force
"""


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "run", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--shards", type=_names, metavar="NAMES", help="build only these, separated by commas: shard_03,shard_07 (all)"
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="rebuild what is current (with --shards, those shards only), and replace any warehouse",
    )
    parser.add_argument(
        "--allow-partial",
        action="store_true",
        help="publish even when shards are missing; the warehouse is marked as partial",
    )
    return parser


def command(args: argparse.Namespace) -> int:
    """Run the pipeline; 0 when the warehouse is published."""
    settings = load_settings()
    console = terminal.console()
    shard_ids = args.shards or shard_keys(settings.shard_count)
    try:
        with progress.shown(console, shard_ids) as on_event, interrupts.noticed() as noticed:
            done = _run(args, settings, on_event, noticed)
            if noticed.happened:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.stderr.write("What is finished is kept. Go on with: etl-assets run\n")
        raise
    report.show(console, done, settings)
    if done.ok:
        return EXIT_OK
    sys.stdout.flush()
    report.show_failure(terminal.console(sys.stderr), done, settings)
    return EXIT_FAILED


def _run(args: argparse.Namespace, settings: Settings, on_event: Observer, noticed: interrupts.Interrupts) -> Report:
    preflight.refuse_impossible(settings, shards=args.shards, force=args.force)
    home = dagster_home(os.environ)
    if not args.force:
        unchanged = preflight.nothing_to_do(settings, home)
        if unchanged is not None:
            return unchanged
    # Dagster takes a second to import, which nobody who asks for help, or has a setting wrong, should wait for.
    with _uncollected():
        import dagster as dg
        from sqlalchemy.exc import OperationalError

        from etl_assets.orchestration import run as launch
        from etl_assets.orchestration.instance import history, opening

    def observe(event: StepEvent) -> None:
        on_event(event)
        if noticed.happened:
            raise dg.Failure("interrupted by Ctrl-C", allow_retries=False)

    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(history.synced_once())
            with opened_alone(home), _uncollected():
                opened = opening.open_instance(home)
            instance = stack.enter_context(opened)
            done = launch.run_pipeline(
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
        preflight.remember(settings, home)
    return done


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """What is made inside lives to the end of the process: to look for garbage in it, now and later, takes 0.2 s."""
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
