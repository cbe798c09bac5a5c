"""`etl-assets restore`: bring a warehouse back that was replaced, list those that are kept, or forget them."""

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from etl_assets.cli import lake_view, output, terminal
from etl_assets.cli.arguments import EXIT_OK, Parser, Subparsers, add_project, add_subcommand
from etl_assets.cli.environment import warn_of_unknown
from etl_assets.cli.program import command as command_line
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.kept_warehouses import KEPT_DAYS, KeptWarehouse, forget, kept_warehouses
from etl_assets.engine.published.restored import held_text, read_mark, release
from etl_assets.engine.published.warehouse import publication_in, read_publication
from etl_assets.engine.steps.restoring import Restored, restore
from etl_assets.errors import ConfigError
from etl_assets.orchestration.instance.home import DEFAULT_HOME, dagster_home
from etl_assets.pipeline.configuration import arm_faults, merge_limits, project_of, site_of
from etl_assets.project.settings import Settings, load_settings

_DESCRIPTION = f"""
    Publish a warehouse again that was replaced: the one before, or that of WHEN, the beginning of a time (UTC) that
    --list shows. Readers see the present one until it is swapped. The present one is kept, so that this can be undone.
    The restored one is held: `etl-assets run` and the sensor merge nothing over it before --release, or
    `etl-assets run --force`. The last ETL_KEEP_WAREHOUSES are kept, for {KEPT_DAYS} days at most.
"""
_EXAMPLES = """
    etl-assets restore --list
    etl-assets restore
    etl-assets restore "2026-05-01 06:30"
    etl-assets restore --release
    etl-assets restore --forget
"""


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "restore", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument("when", nargs="?", metavar="WHEN", help="the beginning of a time: 2026-05-01, 2026-05-01T06:30")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list the kept warehouses; changes nothing")
    what.add_argument("--release", action="store_true", help="let the next merge replace the restored warehouse")
    what.add_argument("--forget", action="store_true", help="delete the kept warehouses, or those of WHEN")
    parser.add_argument("--json", action="store_true", help="with --list: the same as one JSON document")
    return parser


def command(args: argparse.Namespace) -> int:
    """Do one of the four things."""
    settings = load_settings()
    warn_of_unknown()
    home = Home(settings.home)
    console = terminal.console()
    if settings.lake:
        arm_faults(settings)
        lake_view.restore(console, site_of(project_of(settings), settings), settings.keep_warehouses, args)
    elif args.list:
        _list(console, home, is_json=args.json)
    elif args.release:
        _release(console, home)
    elif args.forget:
        _forget(console, home, args.when)
    else:
        arm_faults(settings)
        _restore(console, home, settings, args.when)
    sys.stdout.flush()
    return EXIT_OK


def _restore(console: Console, home: Home, settings: Settings, when: str | None) -> None:
    done = restore(home, merge_limits(settings), when, settings.keep_warehouses)
    publication = done.publication
    console.print(
        Text.assemble(
            ("Restored ", "green"),
            f"{terminal.count(publication.record_count, 'profile')} published {_utc(publication.published_at)}, digest "
            f"{publication.digest}",
        ),
        soft_wrap=True,
    )
    if done.replaced is not None and done.is_kept:
        undo = command_line(f"restore '{done.replaced.published_at:%Y-%m-%dT%H:%M:%S.%f}'")
        console.print(
            terminal.plain(f"The one of {_utc(done.replaced.published_at)} is kept. Undo: {undo}"), soft_wrap=True
        )
    elif done.replaced is None:
        console.print("What it replaced could not be read as a warehouse, and is not kept.", soft_wrap=True)
    console.print(
        terminal.plain(
            f"It is held: nothing is merged over it. When the exports are right: {command_line('restore --release')}"
        ),
        soft_wrap=True,
    )
    sys.stdout.flush()
    _report(done)


def _report(done: Restored) -> None:
    """Note the restore in the history that the UI shows, if there is one; the warehouse is restored in any case."""
    named = os.environ.get("DAGSTER_HOME", "").strip()
    if not Path(named or DEFAULT_HOME).expanduser().is_dir():
        return
    from dagster import DagsterError
    from sqlalchemy.exc import OperationalError

    from etl_assets.orchestration.restore_event import report_restore

    try:
        report_restore(dagster_home(os.environ), done)
    except (OSError, OperationalError, DagsterError, ConfigError) as error:
        output.write_error(f"warning: the restore is not noted in Dagster's history: {str(error).splitlines()[0]}")


def _list(console: Console, home: Home, *, is_json: bool) -> None:
    present = read_publication(home)
    mark = read_mark(home, present) if present else None
    found = kept_warehouses(home)
    if is_json:
        document = {
            "published_at": present.published_at.isoformat() if present else None,
            "restored_at": mark.restored_at.isoformat() if mark else None,
            "kept": [_facts(one) for one in found],
        }
        output.machine_readable().write(json.dumps(document, indent=2) + "\n")
        return
    if present is not None:
        state = f" (restored {_utc(mark.restored_at)}, held)" if mark else ""
        console.print(
            f"Published: {_utc(present.published_at)}, {terminal.count(present.record_count, 'profile')}{state}",
            soft_wrap=True,
        )
    if not found:
        console.print(terminal.plain(f"No replaced warehouse is kept in {home.kept}."), soft_wrap=True)
        return
    shown = terminal.table(("published (UTC)", "left"), ("profiles", "right"), ("size", "right"), ("digest", "left"))
    for one in found:
        publication = publication_in(one.path)
        shown.add_row(
            one.when,
            terminal.number(publication.record_count if publication else None),
            terminal.size(one.path.stat().st_size),
            terminal.plain(publication.digest if publication else "cannot be read"),
        )
    console.print(shown)


def _facts(one: KeptWarehouse) -> dict[str, object]:
    publication = publication_in(one.path)
    return {
        "path": str(one.path),
        "published_at": one.published_at.isoformat(),
        "record_count": publication.record_count if publication else None,
        "digest": publication.digest if publication else None,
        "size_bytes": one.path.stat().st_size,
    }


def _release(console: Console, home: Home) -> None:
    mark = release(home)
    if mark is None:
        console.print("The published warehouse is not held: nothing to release.", soft_wrap=True)
        return
    text = held_text(mark).replace(" and is held.", ".")
    console.print(terminal.plain(f"{text} The next merge replaces it: {command_line('run')}"), soft_wrap=True)


def _forget(console: Console, home: Home, when: str | None) -> None:
    gone = forget(home, when)
    if not gone:
        console.print("No kept warehouse to delete.", soft_wrap=True)
    for one in gone:
        console.print(f"Deleted the warehouse of {one.when} UTC.", soft_wrap=True)


def _utc(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
