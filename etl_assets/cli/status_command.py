"""`etl-assets status`: the state of sources, shards and warehouse, for a person or as JSON."""

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console
from rich.text import Text

from etl_assets.cli import file_list, notice_report, output, terminal
from etl_assets.cli.arguments import EXIT_OK, Parser, Subparsers, add_project, add_subcommand
from etl_assets.cli.environment import warn_of_unknown
from etl_assets.cli.output import printable_lines
from etl_assets.cli.program import command as command_line
from etl_assets.cli.wording import advised
from etl_assets.engine.published.unmatched import unmatched_texts
from etl_assets.errors import ConfigError
from etl_assets.pipeline import overview as facts
from etl_assets.pipeline.configuration import project_of, site_of
from etl_assets.project.settings import load_settings

_DESCRIPTION = """
    Show the sources (rows in, accepted, quarantined; whether their files have changed
    or were refused, when and why), every shard (published, stale,
    missing, damaged, running or failed, and why) and the warehouse (and why the last merge was refused, if it was).
    Changes nothing; works before, during and after a run. The exit code is 0 in every state; scripts read --json.
"""
_EXAMPLES = """
    etl-assets status
    etl-assets status --json | jq '.shards[] | select(.state != "published")'
"""
_NAMES_SHOWN = 4
_STYLES = {
    "current": "green",
    "published": "green",
    "running": "cyan",
    "stale": "yellow",
    "not_staged": "yellow",
    "missing": "yellow",
    "outdated": "yellow",
    "partial": "yellow",
    "restored": "yellow",
    "refused": "red",
    "unavailable": "red",
    "failed": "red",
    "damaged": "red",
    "unreadable": "red",
}


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "status", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument("--json", action="store_true", help="the same facts as one JSON document")
    return parser


def command(args: argparse.Namespace) -> int:
    """Collect the facts and show them."""
    settings = load_settings()
    warn_of_unknown()
    site = site_of(project_of(settings), settings)
    try:
        found = facts.collect(site, settings)
    except OSError as error:
        raise ConfigError(f"{settings.home} or {settings.sources} cannot be read: {error}") from error
    if args.json:
        # In ASCII with escapes: valid whatever the locale, also for a path whose bytes are no text.
        output.machine_readable().write(json.dumps(document(found), indent=2) + "\n")
        return EXIT_OK
    show(terminal.console(), found)
    return EXIT_OK


def show(console: Console, found: facts.Facts) -> None:
    """Write the facts for a person."""
    _show_sources(console, found)
    _show_shards(console, found)
    _show_warehouse(console, found.warehouse)
    notice_report.show_notices(console, found.notices)
    notice_report.show_overlap(console, found.overlap)
    _show_next(console, found)


def document(found: facts.Facts) -> dict[str, object]:
    """The facts as JSON; `next_command` is the next step as a command."""
    return asdict(found) | {"next_command": f"etl-assets {found.next_step}" if found.next_step else None}


def _show_sources(console: Console, found: facts.Facts) -> None:
    shown = terminal.table(
        ("source", "left"),
        ("state", "left"),
        ("rows in", "right"),
        ("accepted", "right"),
        ("quarantined", "right"),
        ("snapshot", "left"),
    )
    for source in found.sources:
        numbers = (source.rows_in, source.rows_accepted, source.rows_quarantined)
        shown.add_row(
            terminal.plain(source.source),
            _state(source.state),
            *map(terminal.number, numbers),
            terminal.plain(source.snapshot or "-"),
        )
    _heading(console, "Sources", found.sources_folder)
    console.print(shown)
    file_list.show(
        console,
        {source.source: source.read_files for source in found.sources},
        {source.source: source.ignored_columns for source in found.sources},
    )
    file_list.show_unread(console, found.unread_files)
    _show_reasons(
        console, [(source.source, source.reason and advised(source.reason, source.advice)) for source in found.sources]
    )
    for source in found.sources:
        for text in unmatched_texts(source.source, source.key_map):
            console.print(terminal.plain(text), soft_wrap=True)


def _show_shards(console: Console, found: facts.Facts) -> None:
    shown = terminal.table(
        ("shard", "left"),
        ("state", "left"),
        ("records", "right"),
        ("built in", "right"),
        ("attempts (last run)", "right"),
        ("published", "right"),
    )
    for part in found.shards:
        shown.add_row(
            terminal.plain(part.shard_id),
            _state(part.state),
            terminal.number(part.record_count),
            terminal.duration(part.elapsed_ms),
            terminal.number(part.last_attempt.attempt if part.last_attempt else None),
            terminal.moment(part.published_at),
        )
    published = [part for part in found.shards if part.state == "published"]
    records = sum(part.record_count or 0 for part in published)
    console.print()
    _heading(
        console,
        "Shards",
        f"{len(published)} of {found.shard_count} published and current, {terminal.count(records, 'record')}",
    )
    console.print(shown)
    _show_reasons(console, [(part.shard_id, part.reason) for part in found.shards])


def _show_reasons(console: Console, reasons: Sequence[tuple[str, str | None]]) -> None:
    """Each reason once, with the names it applies to: a hundred stale shards share one."""
    grouped: dict[str, list[str]] = defaultdict(list)
    for name, reason in reasons:
        if reason:
            grouped[reason].append(name)
    for reason, names in grouped.items():
        more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
        who = ", ".join(names[:_NAMES_SHOWN]) + more
        console.print(Text.assemble((f"{who}: ", "bold"), printable_lines(reason)), overflow="fold")


def _show_warehouse(console: Console, warehouse: facts.WarehouseFacts) -> None:
    console.print()
    _heading(console, "Warehouse", warehouse.path)
    line = _state(warehouse.state)
    if warehouse.reason:
        line.append_text(terminal.plain(f": {warehouse.reason}"))
    console.print(line)
    if warehouse.record_count is not None:
        console.print(
            f"{terminal.count(warehouse.record_count, 'record')}, published {terminal.moment(warehouse.published_at)}, "
            f"digest {warehouse.digest}"
        )
    if warehouse.refusal:
        when = warehouse.refusal.refused_at[:19].replace("T", " ")
        why = printable_lines(advised(warehouse.refusal.finding, warehouse.refusal.advice))
        console.print(Text.assemble((f"The last merge was refused at {when} UTC: ", "bold"), why), overflow="fold")


def _show_next(console: Console, found: facts.Facts) -> None:
    console.print()
    if found.next_step:
        is_refused = found.warehouse.refusal or any(source.refusal for source in found.sources)
        first = "fix the cause, then " if is_refused else ""
        console.print(Text.assemble(f"Next: {first}", (command_line(found.next_step), "bold")))
    elif found.warehouse.state == "restored":
        console.print(f"Nothing is merged over it before: {command_line('restore --release')}", soft_wrap=True)
    elif any(part.state == "running" for part in found.shards):
        console.print("A run is in progress.")
    elif found.warehouse.state == "current" and all(source.state == "current" for source in found.sources):
        console.print("Everything is up to date.")


def _heading(console: Console, title: str, what: str) -> None:
    console.print(Text.assemble((f"{title}  ", "bold"), terminal.plain(what)), soft_wrap=True)


def _state(state: str) -> Text:
    return Text(state.replace("_", " "), style=_STYLES[state])
