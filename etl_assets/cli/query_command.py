"""`etl-assets query`: read-only SQL against the published warehouse.

A statement may come from anywhere, so it can read the warehouse and nothing else: no files, no other database, no
extension, no setting; and it writes nothing. The warehouse file is opened read-only. That does not block the pipeline,
which publishes by replacing the file.
"""

import argparse
import contextlib
import os
import resource
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar

import duckdb

from etl_assets.cli import rendering, terminations
from etl_assets.cli.arguments import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    Parser,
    Subparsers,
    add_project,
    add_subcommand,
    whole_number,
)
from etl_assets.cli.clock import Bounds, Clock, DiskFullError
from etl_assets.cli.output import write_error
from etl_assets.cli.statements import message, reading_statement
from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import warehouse
from etl_assets.engine.published.kept_warehouses import chosen
from etl_assets.engine.published.tables import table_names
from etl_assets.errors import ConfigError, EtlError
from etl_assets.pipeline.fetching import readable_home
from etl_assets.project.settings import Settings, load_settings

_DESCRIPTION = """
    Run one reading statement (SELECT, FROM, WITH, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT, EXPLAIN) against
    $ETL_HOME/warehouse.duckdb. Tables: {tables}.
    The result goes to stdout; with a table, row count and time go to stderr. A statement that takes longer than
    --timeout is stopped, with exit code 1.
"""
_EXAMPLES = """
    etl-assets query "SELECT sources, count(*) AS profiles FROM merged_profiles GROUP BY ALL ORDER BY 2 DESC"
    etl-assets query "SELECT reason, count(*) FROM quarantine GROUP BY ALL" --format csv >reasons.csv
    etl-assets query "SUMMARIZE merged_profiles"
    etl-assets query "SELECT count(*) FROM merged_profiles" --at 2026-05-01
    etl-assets query - --format json <question.sql | jq .
"""
# Failures of the machine, not of the statement.
_MACHINE = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException)
_BATCH_ROWS = 2_000
_TOO_LONG = "The statement was stopped after {} s. Narrow it down or give it more time with --timeout."
_TOO_LARGE = (
    "The statement was stopped: it wrote more than {} MB of temporary files. Narrow it down, or raise ETL_MEMORY_LIMIT "
    "(the bound is {} times as much)."
)
# DuckDB keeps to its bound on spilling but for what it is writing just then; what else a statement writes is measured.
_SPILL_MARGIN = 1.1
# Memory of the process beyond DuckDB's limit, which does not count single long texts: code, heap, the result.
_OVERHEAD_MB = 2_048
_MAX_STATEMENT_BYTES = 1_000_000
# A statement that cannot be stopped may write a file while its folder is removed.
_REMOVALS = 10

_T = TypeVar("_T")


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    names = textwrap.fill(", ".join(table_names()), width=90, subsequent_indent="    ")
    parser = add_subcommand(subparsers, "query", _DESCRIPTION.format(tables=names), _EXAMPLES)
    add_project(parser)
    parser.add_argument("sql", metavar="SQL", help="the statement, or - to read it from stdin")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="output format (table)")
    parser.add_argument(
        "--at", metavar="WHEN", help="read a kept warehouse: the beginning of a time that `restore --list` shows"
    )
    parser.add_argument(
        "--limit",
        type=whole_number(0, 2**31),
        metavar="N",
        help=f"rows of the table to show, 0 for all (default {rendering.TABLE_ROWS}; "
        f"{rendering.WIDE_RECORDS} when a row does not fit on a line); csv and json have all rows",
    )
    parser.add_argument(
        "--timeout", type=whole_number(1, 86_400), default=60, metavar="SECONDS", help="time for the statement (60)"
    )
    return parser


@dataclass(frozen=True)
class Form:
    """How a result is written; `limit` is for tables, see `rendering.write_table`."""

    name: str = "table"
    limit: int | None = None


def command(args: argparse.Namespace) -> int:
    """Run the statement and write its result."""
    settings = load_settings()
    if settings.lake and args.at is not None:
        raise ConfigError("--at reads a kept warehouse. A version of a lake is read by any engine for Delta tables.")
    kept = chosen(Home(settings.home), args.at).path if args.at is not None else None
    answer(settings, _text(args.sql), Form(args.format, args.limit), args.timeout, kept)
    return EXIT_OK


def answer(settings: Settings, sql: str, form: Form, timeout_s: float, kept: Path | None = None) -> None:
    """Run the one reading statement in `sql` and write its result to stdout; ConfigError when it is refused.

    `kept` is a kept warehouse to read instead of the published one. For the main thread. A statement that cannot be
    interrupted ends the process.
    """
    # Deliberately not under ETL_HOME: a reader does not need write access there.
    with (
        terminations.ordinary_end(),
        _bounded_memory(settings.memory_limit + _OVERHEAD_MB),
        _temporary_folder() as scratch,
        _connected(settings, scratch, kept) as connection,
        _explained(settings, timeout_s),
    ):
        statement = reading_statement(connection, sql)
        bounds = Bounds(timeout_s, scratch, int(_spill_mb(settings) * _SPILL_MARGIN * 1_000_000))
        clock = Clock(
            connection, bounds, lambda reason: _give_up(reason, scratch, _stopped(reason, settings, timeout_s))
        )
        result = _execute(connection, statement, clock)
        if form.name == "csv":
            rendering.write_csv(result)
        elif form.name == "json":
            rendering.write_json(result)
        elif statement.type.name == "EXPLAIN":
            rendering.write_plan(result)
        else:
            rendering.write_table(result, form.limit)
            sys.stdout.flush()
            rendering.write_footer(result, round(clock.used_s * 1000))


def _text(argument: str) -> str:
    """The SQL of the command line, or of stdin for `-`."""
    try:
        if argument == "-":
            text = sys.stdin.buffer.read(_MAX_STATEMENT_BYTES + 1)
            if len(text) > _MAX_STATEMENT_BYTES:
                raise ConfigError("The statement on stdin is longer than 1 MB.")
            return text.decode("utf-8")
        # In a C locale Python keeps the bytes beyond ASCII as surrogates.
        is_decoded = not any("\ud800" <= character <= "\udfff" for character in argument)
        return argument if is_decoded else os.fsencode(argument).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"The statement is not valid UTF-8 (byte {error.start}): {error.reason}.") from error


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    """A folder of its own, removed at the end even if a signal arrives just then."""
    folder = Path(tempfile.mkdtemp(prefix="etl-assets-"))
    try:
        yield folder
    finally:
        with terminations.collected() as signals:
            shutil.rmtree(folder, ignore_errors=True)
        if signals:
            raise terminations.ending(signals[0])


def _spill_mb(settings: Settings) -> int:
    return settings.memory_limit * warehouse.SPILL_FACTOR


@dataclass
class _Streamed(rendering.Result):
    """A result that is fetched while it is written."""

    connection: duckdb.DuckDBPyConnection = field(kw_only=True)
    clock: Clock = field(kw_only=True)
    first: list[tuple[object, ...]] = field(kw_only=True)

    def batches(self) -> Iterator[list[tuple[object, ...]]]:
        """The rows, a few thousand at a time."""
        rows = self.first
        while rows:
            yield rows
            rows = _fetched(self.clock, lambda: self.connection.fetchmany(_BATCH_ROWS))


@contextlib.contextmanager
def _bounded_memory(limit_mb: int) -> Iterator[None]:
    """Let the system refuse more memory: DuckDB then reports "out of memory" before the machine itself runs out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min([limit_mb << 20, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _stopped(reason: BaseException, settings: Settings, timeout_s: float) -> str:
    """Why a statement was stopped, and what helps."""
    if isinstance(reason, DiskFullError):
        return _TOO_LARGE.format(_spill_mb(settings), warehouse.SPILL_FACTOR)
    return _TOO_LONG.format(f"{timeout_s:g}")


def _give_up(reason: BaseException, scratch: Path, text: str) -> NoReturn:
    """End the process at once: the statement ignores its interrupt, and a query writes nothing that could be lost."""
    for _ in range(_REMOVALS):
        shutil.rmtree(scratch, ignore_errors=True)
        if not scratch.exists():
            break
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    if isinstance(reason, KeyboardInterrupt):
        write_error("interrupted")
        os._exit(EXIT_INTERRUPTED)
    if isinstance(reason, terminations.Terminated):
        os._exit(reason.exit_code)
    write_error(f"error: {text}")
    os._exit(EXIT_FAILED)


def _connected(settings: Settings, scratch: Path, kept: Path | None) -> contextlib.closing[duckdb.DuckDBPyConnection]:
    """A connection that sees the published warehouse and nothing else."""
    limits = duck.Limits(settings.memory_limit, settings.workers)
    return contextlib.closing(warehouse.connect(readable_home(settings), limits, scratch, path=kept))


def _execute(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, clock: Clock) -> _Streamed:
    """Start the statement and fetch its first rows, so that most errors come before any output."""

    def start() -> list[tuple[object, ...]]:
        return connection.execute(statement).fetchmany(_BATCH_ROWS)

    first = _fetched(clock, start)
    columns = [rendering.ColumnShown(str(name), str(kind)) for name, kind, *_ in connection.description or []]
    return _Streamed(columns, connection=connection, clock=clock, first=first)


def _fetched(clock: Clock, call: Callable[[], _T]) -> _T:
    """The result of a call that fetches rows; ConfigError for a value beyond Python's types."""
    try:
        return clock.run(call)
    except (OverflowError, ValueError) as error:
        raise ConfigError(f"A value is out of the range that can be shown ({error}). Cast it to VARCHAR.") from error


@contextlib.contextmanager
def _explained(settings: Settings, timeout_s: float) -> Iterator[None]:
    """Turn DuckDB's errors, and the ends that `Clock` makes, into a message and an exit code."""
    try:
        yield
    except (TimeoutError, DiskFullError) as error:
        raise EtlError(_stopped(error, settings, timeout_s)) from error
    except (duckdb.OutOfMemoryException, MemoryError) as error:
        # DuckDB's own advice names settings that are locked here.
        found = message(error).splitlines()[0] if isinstance(error, duckdb.Error) else "Out of memory"
        raise EtlError(
            f"{found}. The memory limit is {settings.memory_limit} MB, and {warehouse.SPILL_FACTOR} times as much on "
            "disk: raise it with ETL_MEMORY_LIMIT, or narrow the statement down."
        ) from error
    except RecursionError as error:
        raise ConfigError("A value is nested too deeply to be shown. Cast it to VARCHAR.") from error
    except _MACHINE as error:
        raise EtlError(message(error)) from error
    except duckdb.Error as error:
        raise ConfigError(message(error)) from error
