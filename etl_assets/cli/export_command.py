"""`etl-assets export`: the result of a lake as one DuckDB file."""

import argparse
import sys
from pathlib import Path

from etl_assets.cli import terminal
from etl_assets.cli.arguments import EXIT_OK, Parser, Subparsers, add_project, add_subcommand
from etl_assets.cli.environment import warn_of_unknown
from etl_assets.engine.files import publishing
from etl_assets.engine.steps.exporting import export_warehouse
from etl_assets.pipeline.configuration import merge_limits, project_of, site_of
from etl_assets.project.settings import load_settings

_DESCRIPTION = """
    Write the last version of the lake (ETL_LAKE) to one DuckDB file with every table, as a run without a lake publishes
    it. The file is read back and its digest compared. An existing file is not replaced.
"""
_EXAMPLES = """
    etl-assets export --warehouse profiles.duckdb
"""


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "export", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument("--warehouse", metavar="FILE", required=True, type=Path, help="the file to write")
    return parser


def command(args: argparse.Namespace) -> int:
    """Write the file and say what it holds."""
    settings = load_settings()
    warn_of_unknown()
    target: Path = args.warehouse.expanduser().absolute()
    publication = export_warehouse(site_of(project_of(settings), settings), merge_limits(settings), target)
    size = terminal.size(publishing.size_bytes(target) or 0)
    terminal.console().print(
        terminal.plain(
            f"Wrote {terminal.count(publication.record_count, 'profile')}, digest {publication.digest}, to {target} "
            f"({size})"
        ),
        soft_wrap=True,
    )
    sys.stdout.flush()
    return EXIT_OK
