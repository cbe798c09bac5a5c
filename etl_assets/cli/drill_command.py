"""`etl-assets drill`: break a shard on purpose, watch it recover, compare the results."""

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from etl_assets.cli import terminal
from etl_assets.cli.arguments import EXIT_FAILED, EXIT_OK, Parser, Subparsers, add_project, add_subcommand, whole_number
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.pipeline import drill
from etl_assets.pipeline.configuration import exports_of, project_of, site_of
from etl_assets.pipeline.fetching import fetch_exports
from etl_assets.project.contract import Contract
from etl_assets.project.settings import Settings, load_settings
from etl_assets.samples.any_files import writer_of

_DESCRIPTION = """
    Run the pipeline undisturbed, then again with a fault in one shard, let it recover, and prove that the result is
    the same. Uses the project's exports (ETL_SOURCES) if there are any, else sample data. Both runs write only to a
    temporary folder.
"""
_EXAMPLES = """
    etl-assets drill
    etl-assets drill --fault kill --shard shard_07
    etl-assets drill --fault hang --attempts 2
"""


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "drill", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument("--fault", choices=list(drill.FAULTS), default="raise", help="the fault (raise)")
    parser.add_argument("--shard", metavar="NAME", default=None, help="the shard to break (shard_03, or the last one)")
    parser.add_argument(
        "--attempts",
        type=whole_number(1, 3),
        default=1,
        metavar="N",
        help="how many of its first attempts fail (1)",
    )
    parser.add_argument(
        "--rows",
        type=whole_number(100, 10_000_000),
        default=20_000,
        metavar="N",
        help="customers, or whatever the project is about, in the sample (20000)",
    )
    parser.add_argument("--sample", action="store_true", help="use sample data even when there are exports")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder and print its path")
    return parser


def command(args: argparse.Namespace) -> int:
    """Run the drill; 0 when every proof holds."""
    settings = load_settings()
    if settings.lake:
        raise ConfigError(
            "The drill works in a folder of its own, without a lake. It breaks shards on purpose.",
            Advice(Action.UNSET, "ETL_LAKE"),
            subject="ETL_LAKE",
        )
    site = site_of(project_of(settings), settings)
    shard_id = _shard(args.shard, site)
    console = terminal.console()
    with _folder(args.keep) as folder:
        sources = _sources(args, settings, site.project.contract, folder, console)
        result = drill.drill(
            folder,
            sources,
            site,
            kind=args.fault,
            shard_id=shard_id,
            failing=args.attempts,
            on_moment=lambda moment: _show_moment(console, moment, shard_id),
        )
        _show(console, result, shard_id)
        if args.keep:
            console.print(terminal.plain(f"Kept: {folder}"), soft_wrap=True)
    return EXIT_OK if result.ok else EXIT_FAILED


def _shard(name: str | None, site: Site) -> str:
    known = site.shard_ids
    if name is None:
        return known[min(3, len(known) - 1)]
    if name not in known:
        raise ConfigError(f"No such shard: {name}. The shards are {known[0]} to {known[-1]}.")
    return name


@contextlib.contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    if keep:
        yield Path(tempfile.mkdtemp(prefix="etl-assets-drill-"))
        return
    with tempfile.TemporaryDirectory(prefix="etl-assets-drill-") as name:
        yield Path(name)


def _sources(args: argparse.Namespace, settings: Settings, contract: Contract, folder: Path, console: Console) -> Path:
    exports = exports_of(settings)
    if not args.sample:
        fetch_exports(settings)
    if not args.sample and exports.is_dir() and any(exports.iterdir()):
        console.print(terminal.plain(f"Exports: {settings.sources}, not changed"), soft_wrap=True)
        return exports
    console.print(terminal.plain(f"Exports: sample data of {args.rows:,} {contract.entity}, 2 % of the rows dirty"))
    writer_of(contract)(folder / "sources", rows=args.rows, dirty=0.02)
    return folder / "sources"


def _show_moment(console: Console, moment: drill.Moment, shard_id: str) -> None:
    """A line of the timeline: the end of an attempt at a shard or of the merge, or a note of the run."""
    text = moment.note if moment.step is None else _step_text(moment.step)
    if text is None:
        return
    line = terminal.plain(f"{moment.at_s:6.1f} s  {moment.run:<12} {text}")
    is_hit = moment.step is not None and moment.step["shard_id"] == shard_id and moment.step["error"] is not None
    line.stylize("bold yellow" if is_hit else "")
    console.print(line, soft_wrap=True)


def _step_text(step: Mapping[str, Any]) -> str | None:
    name = step["shard_id"] or step["step"]
    if step["status"] == Status.RUNNING or (step["shard_id"] is None and step["step"] != PROFILES_TABLE):
        return None
    attempt = f" attempt {step['attempt']}" if step["attempt"] else ""
    error = f": {step['error'].splitlines()[0]}" if step["error"] else ""
    return f"{name}{attempt} {step['status']}{error}"


def _show(console: Console, result: drill.Result, shard_id: str) -> None:
    console.print()
    rows = terminal.table((f"attempts at {shard_id}", "left"), ("status", "left"), ("took", "right"), ("error", "left"))
    for attempt in result.attempts:
        rows.add_row(
            f"run {attempt.run_id[:8]}, attempt {attempt.number}",
            attempt.status.value,
            terminal.duration(attempt.elapsed_ms),
            terminal.plain((attempt.error or "").splitlines()[0] if attempt.error else ""),
        )
    console.print(rows)
    console.print(
        f"{terminal.count(len(result.exit_codes), 'run')} in all; {terminal.count(result.rebuilt, 'shard')} built, "
        f"{result.reused} reused"
    )
    console.print()
    proofs = terminal.table(("proof", "left"), ("undisturbed", "left"), ("after recovery", "left"), ("", "left"))
    for proof in result.proofs:
        verdict = Text("holds", style="green") if proof.holds else Text("FAILS", style="bold red")
        proofs.add_row(proof.claim, terminal.plain(proof.expected), terminal.plain(proof.found), verdict)
    console.print(proofs)
    console.print("\nThe fault changed nothing." if result.ok else "\nThe proof fails. Please report it.")
