"""`etl-assets restore` with a lake: its kept versions are those of the table."""

import argparse
import json

from rich.console import Console
from rich.text import Text

from etl_assets.cli import output, terminal
from etl_assets.cli.program import command as command_line
from etl_assets.engine.published.restored import held_text
from etl_assets.engine.site import Site
from etl_assets.engine.steps.lake_restoring import KeptVersion, kept_versions, release_version, restore_version
from etl_assets.engine.steps.vacuuming import vacuum
from etl_assets.pipeline.preflight import prepare_lake


def restore(console: Console, site: Site, keep_count: int, args: argparse.Namespace) -> None:
    """Do one of the four things of the command."""
    prepare_lake(site)
    if args.list:
        _list(console, site, keep_count, is_json=args.json)
    elif args.release:
        mark = release_version(site)
        text = held_text(mark).replace(" and is held.", ".") if mark else "The published version is not held."
        console.print(terminal.plain(text), soft_wrap=True)
    elif args.forget:
        gone = vacuum(site, 0)
        console.print(f"Deleted {terminal.count(len(gone), 'object')} older than a day.", soft_wrap=True)
    else:
        done = restore_version(site, args.when, keep_count)
        publication = done.publication
        console.print(
            Text.assemble(
                ("Restored ", "green"),
                f"{terminal.count(publication.record_count, 'profile')} published "
                f"{publication.published_at:%Y-%m-%d %H:%M:%S} UTC, digest {publication.digest}",
            ),
            soft_wrap=True,
        )
        console.print(
            terminal.plain(f"It is held: nothing is merged over it before {command_line('restore --release')}"),
            soft_wrap=True,
        )


def _list(console: Console, site: Site, keep_count: int, *, is_json: bool) -> None:
    present, kept = kept_versions(site, keep_count)
    if is_json:
        document = {
            "published_at": present.publication.published_at.isoformat() if present else None,
            "restored_at": present.document.restored_at if present else None,
            "kept": [_facts(one) for one in kept],
        }
        output.machine_readable().write(json.dumps(document, indent=2) + "\n")
        return
    if present is not None:
        state = " (restored, held)" if present.document.restored_at else ""
        count = terminal.count(present.publication.record_count, "profile")
        console.print(f"Published: {present.when} UTC, {count}{state}", soft_wrap=True)
    shown = terminal.table(("published (UTC)", "left"), ("profiles", "right"), ("version", "right"), ("digest", "left"))
    for one in kept:
        published = one.publication
        numbers = map(terminal.number, (published.record_count, one.number))
        shown.add_row(one.when, *numbers, terminal.plain(published.digest))
    console.print(shown)


def _facts(one: KeptVersion) -> dict[str, object]:
    return {
        "version": one.number,
        "published_at": one.publication.published_at.isoformat(),
        "record_count": one.publication.record_count,
        "digest": one.publication.digest,
    }
