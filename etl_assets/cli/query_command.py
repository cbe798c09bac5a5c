"""`etl-assets query`: read-only SQL against the published warehouse.

A statement may come from anywhere, so it can read the warehouse and nothing else: no files, no other database, no
extension, no setting. The warehouse file is opened read-only. That does not block the pipeline, which publishes by
replacing the file.
"""

import argparse
import contextlib
import os
import resource
import shutil
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn, TypeVar

import duckdb

from etl_assets.cli import rendering
from etl_assets.cli.arguments import EXIT_FAILED, EXIT_OK, Parser, Subparsers, add_project, add_subcommand, whole_number
from etl_assets.cli.output import write_error
from etl_assets.cli.program import program
from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.tables import table_names
from etl_assets.engine.sql_text import literal
from etl_assets.errors import ConfigError, EtlError
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
    etl-assets query - --format json <question.sql | jq .
"""
# PIVOT without a list of values is parsed as several statements in one.
_READING = frozenset({"SELECT", "EXPLAIN", "MULTI"})
# Failures of the machine, not of the statement.
_MACHINE = (duckdb.IOException, duckdb.InternalException, duckdb.FatalException)
_BATCH_ROWS = 2_000
_TOO_LONG = "The statement was stopped after {} s. Narrow it down or give it more time with --timeout."
# Space for spilling, in memory limits; DuckDB's own bound is nine tenths of the free disk.
_SPILL_FACTOR = 8
# Memory of the process beyond DuckDB's limit, which does not count single long texts: code, heap, the result.
_OVERHEAD_MB = 2_048
# How often the time limit is checked; the end of a call is seen at once.
_POLL_S = 0.1
# How long a statement may take to react to its interrupt: DuckDB checks between steps, and one step can take minutes.
_GRACE_S = 5.0

_T = TypeVar("_T")


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    names = textwrap.fill(", ".join(table_names()), width=90, subsequent_indent="    ")
    parser = add_subcommand(subparsers, "query", _DESCRIPTION.format(tables=names), _EXAMPLES)
    add_project(parser)
    parser.add_argument("sql", metavar="SQL", help="the statement, or - to read it from stdin")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table", help="output format (table)")
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


def command(args: argparse.Namespace) -> int:
    """Run the statement and write its result."""
    settings = load_settings()
    sql = _text(args.sql)
    # Deliberately not under ETL_HOME: a reader does not need write access there.
    with (
        _bounded_memory(settings.memory_limit + _OVERHEAD_MB),
        tempfile.TemporaryDirectory(prefix="etl-assets-") as scratch,
        _connected(settings, scratch) as connection,
    ):
        statement = _reading_statement(connection, sql)
        clock = Clock(connection, args.timeout, lambda: _give_up(scratch, args.timeout))
        with _explained(settings, args.timeout):
            result = _execute(connection, statement, clock)
            if args.format == "csv":
                rendering.write_csv(result)
            elif args.format == "json":
                rendering.write_json(result)
            elif statement.type.name == "EXPLAIN":
                rendering.write_plan(result)
            else:
                rendering.write_table(result, args.limit)
                sys.stdout.flush()
                rendering.write_footer(result, round(clock.used_s * 1000))
    return EXIT_OK


def _text(argument: str) -> str:
    """The SQL of the command line, or of stdin for `-`."""
    try:
        if argument == "-":
            return sys.stdin.buffer.read().decode("utf-8")
        # In a C locale Python keeps the bytes beyond ASCII as surrogates.
        is_decoded = not any("\ud800" <= character <= "\udfff" for character in argument)
        return argument if is_decoded else os.fsencode(argument).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"The statement is not valid UTF-8 (byte {error.start}): {error.reason}.") from error


class Clock:
    """Runs calls into DuckDB; interrupts them on Ctrl-C and when their time is used up.

    Only time inside DuckDB counts: a pager that waits for its reader must not end the query. The calls run on another
    thread, because Python handles signals on the main thread, and only outside of C code.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, limit_s: float, abandon: Callable[[], None] = lambda: None
    ) -> None:
        """`abandon` is called when a statement ignores its interrupt; it may end the process."""
        self.used_s = 0.0
        self._connection = connection
        self._limit_s = limit_s
        self._abandon = abandon
        self._worker = ThreadPoolExecutor(max_workers=1)

    def run(self, call: Callable[[], _T]) -> _T:
        """The result of `call`; TimeoutError when the time is used up. For the main thread."""
        started = time.perf_counter()
        with _collected_interrupts() as interrupts:
            future = self._worker.submit(call)
            is_over = False
            while not future.done():
                # Repeated, because DuckDB ignores an interrupt that arrives before the statement starts.
                if interrupts or is_over:
                    self._connection.interrupt()
                wait([future], timeout=_POLL_S)
                used_s = self.used_s + time.perf_counter() - started
                is_over = used_s > self._limit_s
                if used_s > self._limit_s + _GRACE_S and not future.done():
                    self._abandon()
        self.used_s += time.perf_counter() - started
        if interrupts:
            raise KeyboardInterrupt
        if is_over and future.exception():
            raise TimeoutError
        return future.result()


@contextlib.contextmanager
def _collected_interrupts() -> Iterator[list[int]]:
    """Yields a list that Ctrl-C adds to, instead of raising KeyboardInterrupt at any line.

    An exception at any line would close the connection while DuckDB still works on it.
    """
    interrupts: list[int] = []
    # A shell's background job ignores Ctrl-C and must go on ignoring it.
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_default:
        signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield interrupts
    finally:
        if is_default:
            signal.signal(signal.SIGINT, signal.default_int_handler)


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
            rows = self.clock.run(lambda: self.connection.fetchmany(_BATCH_ROWS))


@contextlib.contextmanager
def _bounded_memory(limit_mb: int) -> Iterator[None]:
    """Let the system refuse more memory: DuckDB then reports "out of memory" before the machine itself runs out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = limit_mb << 20
    wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _give_up(scratch: str, timeout_s: int) -> NoReturn:
    """End the process at once: the statement ignores its interrupt, and a query writes nothing that could be lost."""
    shutil.rmtree(scratch, ignore_errors=True)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    write_error(f"error: {_TOO_LONG.format(timeout_s)}")
    os._exit(EXIT_FAILED)


@contextlib.contextmanager
def _connected(settings: Settings, scratch: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory connection that sees the warehouse and nothing else."""
    path = Home(settings.home).warehouse
    if not path.is_file():
        raise ConfigError(f"There is no warehouse at {path} yet. Make it with: {program()} run")
    with contextlib.closing(duckdb.connect()) as found:
        # Otherwise a table name could refer to a Python variable of this program.
        found.execute("SET python_enable_replacements = false")
        found.execute(f"SET memory_limit = '{settings.memory_limit}MB'")
        found.execute(f"SET threads = {settings.workers}")
        found.execute(f"SET temp_directory = {literal(scratch)}")
        found.execute(f"SET max_temp_directory_size = '{settings.memory_limit * _SPILL_FACTOR}MB'")
        _attach(found, path)
        duck.lock_down(found)
        yield found


def _attach(connection: duckdb.DuckDBPyConnection, path: Path) -> None:
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS warehouse (READ_ONLY)")
        connection.execute("USE warehouse")
    except duckdb.Error as error:
        raise ConfigError(
            f"{path} cannot be read as a warehouse ({str(error).splitlines()[0]}). "
            f"Rebuild it with: {program()} run --force"
        ) from error


def _reading_statement(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """The one statement in `sql`, if it is one that reads."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise ConfigError(_message(error)) from error
    if len(statements) != 1:
        found = f"{len(statements)} statements" if statements else "none"
        raise ConfigError(f'Expected one SQL statement, found {found}. Try: {program()} query "SHOW TABLES"')
    kind = statements[0].type.name
    if kind not in _READING:
        raise ConfigError(
            f"The warehouse is read-only: a statement of type {kind} is not run. Use SELECT, FROM, WITH, VALUES, "
            "DESCRIBE, SHOW, SUMMARIZE, PIVOT or EXPLAIN."
        )
    return statements[0]


def _execute(connection: duckdb.DuckDBPyConnection, statement: duckdb.Statement, clock: Clock) -> _Streamed:
    """Start the statement and fetch its first rows, so that most errors come before any output."""

    def start() -> list[tuple[object, ...]]:
        return connection.execute(statement).fetchmany(_BATCH_ROWS)

    first = clock.run(start)
    columns = [rendering.ColumnShown(str(name), str(kind)) for name, kind, *_ in connection.description or []]
    return _Streamed(columns, connection=connection, clock=clock, first=first)


@contextlib.contextmanager
def _explained(settings: Settings, timeout_s: int) -> Iterator[None]:
    """Turn DuckDB's errors into a message and an exit code."""
    try:
        yield
    except TimeoutError as error:
        raise EtlError(_TOO_LONG.format(timeout_s)) from error
    except duckdb.OutOfMemoryException as error:
        # DuckDB's own advice names settings that are locked here.
        raise EtlError(
            f"{_message(error).splitlines()[0]}. The memory limit is {settings.memory_limit} MB, and "
            f"{_SPILL_FACTOR} times as much on disk: raise it with ETL_MEMORY_LIMIT, or narrow the statement down."
        ) from error
    except _MACHINE as error:
        raise EtlError(_message(error)) from error
    except duckdb.Error as error:
        raise ConfigError(_message(error)) from error


def _message(error: duckdb.Error) -> str:
    """DuckDB's own text: it points at the place in the statement and suggests names."""
    return str(error).strip()
