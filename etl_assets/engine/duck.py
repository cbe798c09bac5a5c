"""DuckDB connections: limits, the functions SQL may call, and the lockdown for untrusted input.

Every connection is in memory; databases on disk are attached. Without limits each process would take 80 % of the
memory and every core, and spill beside whatever it has open.
"""

import contextlib
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from importlib import resources
from pathlib import Path
from queue import Empty, SimpleQueue

import duckdb
import xxhash

from etl_assets.engine.workers import Stop

# Files that DuckDB 1.5 tools (DBeaver, older drivers) can still read; the 2.0 default cannot be read by them.
STORAGE_VERSION = "v1.5.0"
# Half of DuckDB's default. A shard of 100 000 rows is less than one row group of the default, and of many such shards
# DuckDB puts row groups together on one thread: the merge took twice as long, a shard a tenth more.
_ROW_GROUP_ROWS = 61_440


@dataclass(frozen=True)
class Limits:
    """What one connection may use, and by whom it can be stopped."""

    memory_mb: int
    threads: int = 1
    stop: Stop = field(default_factory=Stop, compare=False)

    def share(self, count: int) -> "Limits":
        """What each of `count` may use that work at once; one stop for all of them."""
        return replace(self, memory_mb=max(64, self.memory_mb // count), threads=max(1, self.threads // count))


@contextlib.contextmanager
def workbench(
    limits: Limits,
    scratch: Path,
    *,
    folders: Sequence[Path] = (),
    flush_rows: int | None = None,
    keep_order: bool = True,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory connection that may read and write only `folders` and `scratch`, and cannot be talked out of it.

    `flush_rows` is how many rows a partitioned COPY collects before it hands them to its files. `keep_order` is for
    reading files whose rows are numbered; several threads need 130 MB each to keep it, and do without each other where
    they do not get them.
    """
    opened = _confined(limits, scratch, folders, flush_rows, keep_order=keep_order)
    with contextlib.closing(opened) as connection, limits.stop.watching(connection), _explained(limits):
        yield connection


class Workbenches:
    """Connections like those of `workbench`, kept for who works next: to make one takes as long as a small shard.

    `prepare` is called with each one that is made.
    """

    def __init__(
        self,
        limits: Limits,
        scratch: Path,
        *,
        folders: Sequence[Path],
        prepare: Callable[[duckdb.DuckDBPyConnection], None],
    ) -> None:
        self._limits = limits
        self._scratch = scratch
        self._folders = folders
        self._prepare = prepare
        self._idle: SimpleQueue[duckdb.DuckDBPyConnection] = SimpleQueue()
        self._numbers = itertools.count()

    @contextlib.contextmanager
    def one(self, stop: Stop) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection for the block, interrupted by `stop`; one that saw an error is not used again."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            # A folder of its own: two databases that spill to one would write to files of the same names.
            scratch = self._scratch / str(next(self._numbers))
            scratch.mkdir()
            connection = _confined(self._limits, scratch, self._folders)
            self._prepare(connection)
        try:
            with stop.watching(connection), _explained(self._limits):
                yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def close(self) -> None:
        """Close those that nobody uses."""
        while not self._idle.empty():
            self._idle.get_nowait().close()


@contextlib.contextmanager
def _explained(limits: Limits) -> Iterator[None]:
    """Say which limit was too little and what is to be done; DuckDB names its own settings, which nobody here sets."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise duckdb.OutOfMemoryException(
            f"{limits.memory_mb} MB of memory, its part of ETL_MEMORY_LIMIT, are too little for what was to be done "
            f"({str(error).splitlines()[0]}). Raise ETL_MEMORY_LIMIT, or spread the customers over more shards with "
            "ETL_NUM_SHARDS."
        ) from error


def _confined(
    limits: Limits,
    scratch: Path,
    folders: Sequence[Path],
    flush_rows: int | None = None,
    *,
    keep_order: bool = True,
) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    try:
        connection.execute(f"SET memory_limit = '{limits.memory_mb}MB'")
        connection.execute(f"SET threads = {limits.threads}")
        connection.execute(f"SET temp_directory = {literal(str(scratch))}")
        # A Parquet time stamp with a zone is written out in this one, whatever machine this is.
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET preserve_insertion_order = {keep_order}")
        if flush_rows is not None:
            connection.execute(f"SET partitioned_write_flush_threshold = {flush_rows}")
        lock_down(connection, [scratch, *folders])
    except BaseException:
        connection.close()
        raise
    return connection


def attach_writable(connection: duckdb.DuckDBPyConnection, path: Path, name: str) -> None:
    """Make the unpublished database file `path`, or open it again, known to the connection as `name`.

    Nothing of it is safe before a CHECKPOINT: there is no write-ahead log. What a crash leaves of it is nobody's, since
    a file is published whole or not at all, and a log would write all rows of a small shard twice.
    """
    connection.execute(
        f"ATTACH {literal(str(path))} AS {name} (STORAGE_VERSION '{STORAGE_VERSION}', "
        f"ROW_GROUP_SIZE {_ROW_GROUP_ROWS}, RECOVERY_MODE no_wal_writes)"
    )


def lock_down(connection: duckdb.DuckDBPyConnection, folders: Sequence[Path] = ()) -> None:
    """Confine the connection to `folders`; blocks `../`, links that lead out, ATTACH outside, INSTALL and later SET."""
    resolved = [str(folder.resolve()) for folder in folders]
    # A path is checked as it is written, and readers are given it as a pattern.
    spellings = dict.fromkeys(spelling for path in resolved for spelling in (path, pattern(path)))
    allowed = ", ".join(literal(f"{spelling}/") for spelling in spellings)
    connection.execute(f"SET allowed_directories = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")


def add_hashing(connection: duckdb.DuckDBPyConnection) -> None:
    """Give SQL the functions `xxh3_64(blob)` and `xxh3_128(blob)`, the latter as 32 hex digits."""
    _add_native(connection, "xxh3_64", xxhash.xxh3_64_intdigest, "UBIGINT")
    _add_native(connection, "xxh3_128", xxhash.xxh3_128_hexdigest, "VARCHAR")


def _add_native(
    connection: duckdb.DuckDBPyConnection, name: str, function: Callable[[bytes], object], returns: str
) -> None:
    """Let SQL call a function that is written in C, row by row.

    Deliberately no Python function around it, which would cost as much again. DuckDB wants to see a signature, and a
    partial, written in C too, can carry the one that such a function lacks.
    """
    signed = partial(function)
    parameter = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY)
    signed.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    connection.create_function(name, signed, ["BLOB"], returns)


def add_macros(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Define the macros of the named `sql/` files."""
    for name in names:
        connection.execute(sql(name))


@cache
def sql(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (resources.files("etl_assets.engine") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string literal, for the statements that take no parameters (SET, COPY, ATTACH)."""
    return "'" + text.replace("'", "''") + "'"


def pattern(path: Path | str) -> str:
    """The pattern that only this path matches: `read_csv` and its like would take `[ab].csv` for a.csv and b.csv."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def pattern_literal(path: Path | str) -> str:
    """`path` for the readers' functions in an SQL text."""
    return literal(pattern(path))


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what is done inside as one; an error is raised as it is, and nothing is kept."""
    connection.begin()
    try:
        yield
    except BaseException:
        # Not COMMIT: after an error DuckDB would discard everything without a word.
        connection.rollback()
        raise
    connection.commit()


def scalar(connection: duckdb.DuckDBPyConnection, statement: str, parameters: Sequence[object] = ()) -> object:
    """The first value of the first row of a query that returns one."""
    row = connection.execute(statement, list(parameters)).fetchone()
    assert row is not None, "an aggregate always returns a row"
    return row[0]
