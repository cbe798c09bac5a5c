"""`etl-assets check`: all mistakes in a project and its exports, and what a run would do; runs and writes nothing."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from etl_assets.cli import output, terminal
from etl_assets.cli.arguments import EXIT_OK, EXIT_USAGE, Parser, Subparsers, add_project, add_subcommand
from etl_assets.cli.environment import warn_of_unknown
from etl_assets.cli.output import printable_lines
from etl_assets.cli.program import command as command_line
from etl_assets.cli.wording import advised
from etl_assets.engine.published.unmatched import unmatched_texts
from etl_assets.pipeline.configuration import project_of, site_of
from etl_assets.pipeline.inspection import Inspection, Mistake, inspect
from etl_assets.project.settings import load_settings

_DESCRIPTION = """
    Read the project's contract and SQL and the headers of its exports, without running anything, and list every mistake
    with its place, what was expected and what was found. Show which files a run would read, which shards it would build
    and why. Writes nothing. The exit code is 2 when there is a mistake.
"""
_EXAMPLES = """
    etl-assets check
    etl-assets check --project my360
    etl-assets check --json | jq '.mistakes'
"""
_NAMES_SHOWN = 6


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "check", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument("--json", action="store_true", help="the same facts as one JSON document")
    return parser


def command(args: argparse.Namespace) -> int:
    """Look and report; 2 when there is a mistake. A contract that cannot be loaded is an error of its own."""
    settings = load_settings()
    warn_of_unknown()
    site = site_of(project_of(settings), settings)
    found = inspect(site, settings)
    if args.json:
        output.machine_readable().write(json.dumps(asdict(found), indent=2) + "\n")
    else:
        console = terminal.console()
        console.print(terminal.plain(f"Project  {site.project.folder}"), soft_wrap=True)
        _show_sources(console, found)
        _show_shards(console, found)
        console.print()
        _show_mistakes(console, found.mistakes)
        if not found.mistakes:
            next_step = command_line("run")
            console.print(Text.assemble("No mistakes. Next: ", (next_step, "bold")))
    return EXIT_USAGE if found.mistakes else EXIT_OK


def _show_sources(console: Console, found: Inspection) -> None:
    shown = terminal.table(("source", "left"), ("files", "left"), ("a run", "left"))
    for source in found.sources:
        plan = f"reads it: {source.reason}" if source.reason else "reuses what was read"
        files = _listed(source.files) or "-"
        if source.map_files:
            files += f"; key_map: {_listed(source.map_files)}"
        shown.add_row(terminal.plain(source.source), terminal.plain(files), terminal.plain(plan))
    console.print()
    console.print(shown)
    for source in found.sources:
        if source.extra_columns:
            text = f"{source.source}: not declared, so ignored: {_listed(source.extra_columns)}"
            console.print(terminal.plain(text), soft_wrap=True)
        for text in unmatched_texts(source.source, source.key_map):
            console.print(terminal.plain(text), soft_wrap=True)
    if found.unread_files:
        console.print(terminal.plain(f"no source reads: {_listed(found.unread_files)}"), soft_wrap=True)


def _show_shards(console: Console, found: Inspection) -> None:
    shown = terminal.table(("shards", "right"), ("a run", "left"))
    for plan in found.shards:
        shown.add_row(
            terminal.number(plan.shard_count),
            terminal.plain(f"builds: {plan.reason}" if plan.reason else "reuses them"),
        )
    console.print()
    console.print(shown)


def _show_mistakes(console: Console, mistakes: Sequence[Mistake]) -> None:
    for one in mistakes:
        place = f"{one.place}, line {one.line}" if one.line else one.place
        text = advised(one.text, one.advice)
        console.print(Text.assemble((f"{place}: ", "bold red"), printable_lines(text)), soft_wrap=True)
    if mistakes:
        console.print(f"\n{terminal.count(len(mistakes), 'mistake')}")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more
