"""`etl-assets rejects`: the rejected rows and cells, also of a source that failed and before the first publication.

It shows personal data, as `query` does. The rows belong to the user, who has to see a cell to correct it.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence

import duckdb
from rich.text import Text

from etl_assets.cli import rendering, terminal, terminations
from etl_assets.cli.arguments import EXIT_OK, Parser, Subparsers, add_project, add_subcommand, whole_number
from etl_assets.cli.environment import warn_of_unknown
from etl_assets.cli.output import printable_lines, write_error
from etl_assets.engine import duck
from etl_assets.engine.files.private_folders import private_folder
from etl_assets.engine.published import rejects
from etl_assets.engine.published.rejects import REJECTS, Origin, Rejects
from etl_assets.engine.sql_text import identifier
from etl_assets.errors import ConfigError
from etl_assets.pipeline.configuration import project_of
from etl_assets.pipeline.fetching import readable_home
from etl_assets.project.settings import Settings, load_settings

_DESCRIPTION = """
    Show the rejected rows and cells: how many for each reason, then some of them with file, line, column and text. Of a
    source that failed, those of the exports that were refused; of the others, those of the staged exports, or of the
    warehouse where nothing is staged. With csv and json, all of them.
"""
_EXAMPLES = """
    etl-assets rejects
    etl-assets rejects billing --reason invalid:mrr --sample 20
    etl-assets rejects --format csv >rejects.csv
"""
_SAMPLE = 5
_TEXT_CHARS = 200
_BATCH_ROWS = 2_000
# The parts of a reason `invalid:mrr` are a kind and a column.
_COLUMN = "CASE WHEN contains(reason, ':') THEN regexp_replace(reason, '^[^:]*:', '') END AS \"column\""
_ORDER = "source, reason, file, line_number, cell, raw_text"


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "rejects", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="only this source (all)")
    parser.add_argument(
        "--reason", metavar="REASON", help="only this reason, or all of its kind: invalid:mrr, invalid (all)"
    )
    parser.add_argument(
        "--sample",
        type=whole_number(0, 2**31),
        metavar="N",
        help=f"rows to show of each source and reason, 0 for all (default {_SAMPLE}; csv and json: all)",
    )
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="output format (table)")
    return parser


def command(args: argparse.Namespace) -> int:
    """Read the rejects and write them."""
    settings = load_settings()
    warn_of_unknown()
    contract = project_of(settings).contract
    names = contract.source_names
    if args.source is not None and args.source not in names:
        raise ConfigError(f"There is no source '{args.source}'. The sources are {', '.join(names)}.")
    limits = duck.Limits(settings.memory_limit, settings.workers)
    chosen = [args.source] if args.source is not None else list(names)
    with (
        terminations.ordinary_end(),
        rejects.opened(readable_home(settings, with_profiles=False), contract, chosen, limits, private_folder()) as (
            connection,
            places,
        ),
    ):
        _select(connection, args.reason)
        if args.format == "table":
            _show_places(settings, places)
            if _show_counts(connection):
                _show_sample(connection, _SAMPLE if args.sample is None else args.sample, contract.key.name)
        else:
            _say_where(places)
            write = rendering.write_csv if args.format == "csv" else rendering.write_json
            write(_all(connection, args.sample or 0, contract.key.name))
    return EXIT_OK


def _select(connection: duckdb.DuckDBPyConnection, reason: str | None) -> None:
    """Make the view `chosen`: the rejects of this reason or kind of reason."""
    # A view takes no parameters.
    connection.execute("CREATE TEMP TABLE wanted AS SELECT ?::VARCHAR AS reason", [reason])
    connection.execute(
        f"CREATE TEMP VIEW chosen AS SELECT r.* FROM {REJECTS} r, wanted w "
        "WHERE w.reason IS NULL OR r.reason = w.reason OR starts_with(r.reason, w.reason || ':')"
    )


def _show_places(settings: Settings, places: Sequence[Rejects]) -> None:
    console = terminal.console()
    for one in places:
        console.print(Text.assemble((one.source, "bold"), f": {printable_lines(_place(one))}"), soft_wrap=True)
    if not any(one.origin for one in places):
        console.print(terminal.plain(f"No rejected rows are known in {settings.home}."), soft_wrap=True)


def _place(one: Rejects) -> str:
    """Which exports the rows are of, in words."""
    if one.refused is not None and one.origin is not Origin.REFUSED:
        why = f"refused{_when(one)}before its rows were read: {one.refused.finding or 'no reason was noted'}"
        return f"{why}\nThe rows below are of the exports that were accepted before." if one.origin else why
    match one.origin:
        case Origin.REFUSED:
            return f"rows of the exports that were refused{_when(one).rstrip()}"
        case Origin.STAGED:
            return "rows of the staged exports"
        case Origin.WAREHOUSE:
            return f"rows of the warehouse published {terminal.moment(one.published_at)}; nothing is staged"
        case None:
            return "nothing was read yet"


def _when(one: Rejects) -> str:
    at = one.refused.refused_at if one.refused else None
    return f" {terminal.moment(at)} " if at else " "


def _say_where(places: Sequence[Rejects]) -> None:
    """The same on stderr, for the formats whose stdout is for programs; only what a reader must know."""
    for one in places:
        if one.refused is not None or one.origin is None:
            write_error(f"{one.source}: {_place(one)}")


def _show_counts(connection: duckdb.DuckDBPyConnection) -> bool:
    """Show how many there are for each reason; returns whether there are any."""
    counts = connection.execute(
        "SELECT source, reason, count(*) FILTER (cell IS NULL), count(cell) FROM chosen GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    console = terminal.console()
    if not counts:
        console.print("No rejected rows.")
        return False
    shown = terminal.table(("source", "left"), ("reason", "left"), ("rows", "right"), ("cells", "right"))
    for source, reason, row_count, cell_count in counts:
        shown.add_row(
            terminal.plain(source), terminal.plain(reason), terminal.number(row_count), terminal.number(cell_count)
        )
    console.print()
    console.print(shown)
    console.print()
    return True


class _Streamed(rendering.Result):
    """Rows that are fetched while they are written."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(
            [rendering.ColumnShown(str(name), str(kind)) for name, kind, *_ in connection.description or []]
        )
        self._connection = connection

    def batches(self) -> Iterator[list[tuple[object, ...]]]:
        """The rows, a few thousand at a time."""
        while rows := self._connection.fetchmany(_BATCH_ROWS):
            yield rows


def _sampled(count: int) -> str:
    """The rejects of which `count` of each source and reason are left, 0 for all."""
    if not count:
        return "chosen"
    return f"(FROM chosen QUALIFY row_number() OVER (PARTITION BY source, reason ORDER BY {_ORDER}) <= {count})"


def _show_sample(connection: duckdb.DuckDBPyConnection, count: int, key: str) -> None:
    """The first rows of each source and reason, in the order of the files."""
    cut = f"CASE WHEN length(raw_text) > {_TEXT_CHARS} THEN left(raw_text, {_TEXT_CHARS}) || '…' ELSE raw_text END"
    result = _Streamed(
        connection.execute(
            f"SELECT source, reason, file || ':' || line_number AS place, {_COLUMN}, cell, key AS {identifier(key)}, "
            f"{cut} AS text FROM {_sampled(count)} ORDER BY {_ORDER}"
        )
    )
    rendering.write_table(result, 0)
    sys.stdout.flush()


def _all(connection: duckdb.DuckDBPyConnection, count: int, key: str) -> rendering.Result:
    return _Streamed(
        connection.execute(
            f"SELECT source, origin, reason, file, line_number, {_COLUMN}, cell, key AS {identifier(key)}, raw_text "
            f"FROM {_sampled(count)} ORDER BY {_ORDER}"
        )
    )
