"""`etl-assets init`: a project folder of one's own, drafted from exports or copied from the shipped example."""

import argparse
import os
import shlex
import tempfile
from pathlib import Path

from rich.console import Console

from etl_assets.cli import terminal
from etl_assets.cli.arguments import EXIT_OK, Parser, Subparsers, add_subcommand
from etl_assets.cli.program import command as command_line
from etl_assets.drafting.draft import Draft, draft_project
from etl_assets.drafting.folder import TEMPLATE, refuse_existing, write_draft, write_template
from etl_assets.engine.duck import Limits
from etl_assets.errors import ConfigError
from etl_assets.project.locating import located
from etl_assets.project.settings import load_settings

_DESCRIPTION = """
    Make a project folder: etl_assets.yaml, sql/profiles.sql, README.md. With --from, it is a draft from the exports in
    a folder: files are grouped into sources; encoding, delimiter, types, dates and the key are found from all rows.
    Every guess is a comment in etl_assets.yaml. Without --from, it is a copy of the shipped example. An existing folder
    is never changed.
"""
_EXAMPLES = """
    etl-assets init my360 --from exports/
    etl-assets init my360
"""


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "init", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("name", metavar="NAME", help="the folder to make")
    parser.add_argument("--from", dest="exports", metavar="FOLDER", help="draft the project from the exports in here")
    parser.add_argument("--template", choices=(TEMPLATE,), default=TEMPLATE, help=f"the example to copy ({TEMPLATE})")
    return parser


def command(args: argparse.Namespace) -> int:
    """Make the folder and say what to do next."""
    target = Path(args.name).expanduser().absolute()
    # Before the exports are read, which can take a while.
    refuse_existing(target)
    console = terminal.console()
    if args.exports is None:
        write_template(target)
        console.print(terminal.plain(f"{args.name}: a copy of the example {args.template}"), soft_wrap=True)
        _show_next(console, target, sample=True)
        return EXIT_OK
    exports = Path(args.exports).expanduser().absolute()
    # For the memory only; not those of a project that lies beside the new one.
    settings = load_settings(os.environ, target)
    with tempfile.TemporaryDirectory(prefix="etl-assets-") as scratch:
        draft = draft_project(exports, Path(scratch), Limits(settings.memory_limit, settings.workers))
    write_draft(target, draft, exports)
    _show(console, draft)
    _show_next(console, target, sample=False)
    return EXIT_OK


def _show(console: Console, draft: Draft) -> None:
    sources = terminal.table(
        *(("source", "left"), ("files", "left"), ("rows", "right"), ("key", "left"), ("keys", "right"), ("", "left"))
    )
    for source in draft.sources:
        table = source.table
        sources.add_row(
            terminal.plain(source.name),
            terminal.plain(", ".join(table.group.patterns)),
            terminal.number(table.row_count),
            terminal.plain(source.key_header),
            terminal.number(source.key_count),
            "many rows a key" if source.has_many else "",
        )
    console.print(sources)
    if draft.overlaps:
        overlaps = terminal.table(
            ("guessed key", "left"), ("values in common", "right"), ("of", "right"), ("", "right")
        )
        for one in draft.overlaps:
            overlaps.add_row(
                terminal.plain(f"{one.other} ↔ {one.one}"),
                terminal.number(one.common),
                terminal.number(one.of),
                f"{one.share:.0%}",
            )
        console.print()
        console.print(overlaps)
    for what, why in draft.left_out.items():
        console.print(terminal.plain(f"left out: {what}: {why}"), soft_wrap=True)


def _show_next(console: Console, target: Path, *, sample: bool) -> None:
    place = shlex.quote(os.path.relpath(target, Path.cwd()))
    console.print()
    console.print(terminal.plain(f"Look at {place}/etl_assets.yaml, then:"), soft_wrap=True)
    project = "" if _is_found(target) else f" --project {place}"
    lines = [f"generate{project} --rows 10_000"] if sample else []
    for line in [*lines, f"check{project}", f"run{project}"]:
        console.print(terminal.plain(f"  {command_line(line)}"), soft_wrap=True)


def _is_found(target: Path) -> bool:
    """Whether commands that are started here find this project by themselves."""
    try:
        return located(os.environ) == target
    except ConfigError:
        return False
