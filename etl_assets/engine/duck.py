"""DuckDB connections: limits, the functions SQL may call, and the lockdown for untrusted input.

Every connection of the package is opened here, by `connect`. It is in memory; databases on disk are attached. Without
limits each process would take 80 % of the memory and every core, and spill beside the files it has open. Without the
lockdown a view in a database file from elsewhere could read any file of this user.
"""

import contextlib
import inspect
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import MappingProxyType

import duckdb
import xxhash

from etl_assets.engine.files import publishing
from etl_assets.engine.files.wal import WAL_SUFFIX
from etl_assets.engine.sql_text import identifier, literal, pattern, statement
from etl_assets.engine.stopping import Stop

# Files that DuckDB 1.5 tools (DBeaver, older drivers) can still read; the 2.0 default cannot be read by them.
STORAGE_VERSION = "v1.5.0"
# Half of DuckDB's default, in which a shard of 100 000 rows is less than one row group. DuckDB combines the row groups
# of many such shards on one thread: the merge took twice as long, a shard a tenth more.
_ROW_GROUP_ROWS = 61_440
_SMALL_BLOCK_BYTES = 16_384
# For connections that read one file: enough to hash rows, and to find the first rows of a large table in key order.
_READER_MB = 256
# Readers of one file that wait to be used again, by process and path: to make one takes longer than most reads.
_IDLE: dict[tuple[int, str], duckdb.DuckDBPyConnection] = {}
_IDLE_READERS = 8
# Fixed when a connection is made. Else the first ATTACH of another kind of file, or a function of an extension, would
# download code; and a table name could refer to a Python variable of the program.
_CLOSED: Mapping[str, bool] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "allow_unsigned_extensions": False,
    "allow_persistent_secrets": False,
    "python_enable_replacements": False,
}
# A Parquet time stamp with a zone is written out in this one, whatever machine this is.
_IN_UTC: Mapping[str, str | int] = {"TimeZone": "UTC"}
# Without it, a file of SQLite or another system is a matter for an extension.
_AS_DUCKDB = "TYPE duckdb"


@dataclass(frozen=True)
class Limits:
    """The limits of one connection, and the stop that interrupts it."""

    memory_mb: int
    threads: int = 1
    stop: Stop = field(default_factory=Stop, compare=False)

    def share(self, count: int) -> "Limits":
        """The limits of each of `count` connections that work at once; they share one stop."""
        return replace(self, memory_mb=max(64, self.memory_mb // count), threads=max(1, self.threads // count))


@contextlib.contextmanager
def workbench(
    limits: Limits,
    scratch: Path,
    *,
    folders: Sequence[Path] = (),
    files: Sequence[Path] = (),
    flush_rows: int | None = None,
    keep_order: bool = True,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory connection that may use only `folders`, `files` and `scratch`, whatever SQL it runs.

    `flush_rows` is how many rows a partitioned COPY collects before it hands them to its files. `keep_order` is for
    files whose rows are numbered. Each thread needs 130 MB for it; with less, the threads work one after another.
    """
    settings: dict[str, str | int] = {"preserve_insertion_order": keep_order}
    if flush_rows is not None:
        settings["partitioned_write_flush_threshold"] = flush_rows
    opened = connect(limits, scratch, folders=[scratch, *folders], files=files, settings={**_IN_UTC, **settings})
    with contextlib.closing(opened) as connection, limits.stop.watching(connection), _explained(limits):
        yield connection


class Workbenches:
    """A pool of `workbench` connections: opening one costs about as much as building a small shard.

    `prepare` is called with each connection that is opened.
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
        """A connection for the block, interrupted by `stop`; after an error it is closed and not used again."""
        try:
            connection = self._idle.get_nowait()
        except Empty:
            # A folder of its own: two databases that spill to one would write to files of the same names.
            scratch = publishing.subfolder(self._scratch, str(next(self._numbers)))
            connection = connect(self._limits, scratch, folders=[scratch, *self._folders], settings=_IN_UTC)
            try:
                self._prepare(connection)
            except BaseException:
                connection.close()
                raise
        try:
            with stop.watching(connection), _explained(self._limits):
                yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def close(self) -> None:
        """Close the idle connections."""
        while not self._idle.empty():
            self._idle.get_nowait().close()


@contextlib.contextmanager
def _explained(limits: Limits) -> Iterator[None]:
    """Name the limit that was too small, and what to do: DuckDB names settings of its own, which users do not set."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise duckdb.OutOfMemoryException(
            f"{limits.memory_mb} MB of memory, this step's part of ETL_MEMORY_LIMIT, are too little "
            f"({str(error).splitlines()[0]}). Raise ETL_MEMORY_LIMIT, or spread the data over more shards with "
            "ETL_NUM_SHARDS."
        ) from error


def connect(
    limits: Limits,
    scratch: Path | None,
    *,
    folders: Sequence[Path] = (),
    files: Sequence[Path] = (),
    settings: Mapping[str, str | int] = MappingProxyType({}),
) -> duckdb.DuckDBPyConnection:
    """A new in-memory connection, the only way to one: closed to the network, limited, and confined to some files.

    It spills to `scratch`, or not at all, and reads and writes `folders` and the database files `files`. `settings`
    are further ones of DuckDB, by name. None can be changed afterwards.
    """
    connection = duckdb.connect(config=dict(_CLOSED))
    try:
        connection.execute(f"SET memory_limit = '{limits.memory_mb}MB'")
        connection.execute(f"SET threads = {limits.threads}")
        connection.execute(f"SET temp_directory = {literal(str(scratch or ''))}")
        for name, value in settings.items():
            # Global, so that it holds for cursors too.
            connection.execute(f"SET GLOBAL {name} = {literal(str(value))}")
        lock_down(connection, folders, files)
    except BaseException:
        connection.close()
        raise
    return connection


def reader(*folders: Path) -> contextlib.closing[duckdb.DuckDBPyConnection]:
    """A small connection that reads files in `folders`: schemas, footers, previews, hashes. It cannot spill."""
    return contextlib.closing(connect(Limits(_READER_MB), None, folders=folders, settings=_IN_UTC))


@contextlib.contextmanager
def opened(path: Path, *tables: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A reader with the published file `path` as its current database, and no way to any other file.

    duckdb.CatalogException unless each of `tables` is a table in it: a view would be evaluated.

    Deliberately not duckdb.connect(path): within one process that returns an older instance of the same path that
    another thread still holds open, from before the file was swapped.
    """
    key = (os.getpid(), str(path))
    small = _IDLE.pop(key, None) or connect(Limits(_READER_MB), None, files=[path], settings=_IN_UTC)
    try:
        # What is temporary ends with the cursor.
        with contextlib.closing(small.cursor()) as connection, attached(connection, path, *tables):
            connection.execute("USE opened")
            try:
                yield connection
            finally:
                connection.execute("USE memory")
    except BaseException:
        small.close()
        raise
    if len(_IDLE) < _IDLE_READERS:
        _IDLE[key] = small
    else:
        small.close()


@contextlib.contextmanager
def attached(connection: duckdb.DuckDBPyConnection, path: Path, *tables: str) -> Iterator[None]:
    """A published file as the database `opened` of a connection; `tables` as in `attach_published`."""
    attach_published(connection, path, "opened", *tables)
    try:
        yield
    finally:
        connection.execute("DETACH opened")


def attach_published(connection: duckdb.DuckDBPyConnection, path: Path, name: str, *tables: str) -> None:
    """Attach a published file for reading, known to the connection as `name`.

    duckdb.CatalogException unless each of `tables` is a table in it: a database file from elsewhere may hold a view of
    that name, which is code. duckdb.PermissionException when its log is a link to another file.
    """
    log = path.with_name(path.name + WAL_SUFFIX)
    if log.is_symlink() and log.exists():
        raise duckdb.PermissionException(f"{log} is a link to another file")
    connection.execute(f"ATTACH {literal(str(path))} AS {identifier(name)} ({_AS_DUCKDB}, READ_ONLY)")
    try:
        _require_tables(connection, name, tables)
    except BaseException:
        connection.execute(f"DETACH {identifier(name)}")
        raise


def _require_tables(connection: duckdb.DuckDBPyConnection, database: str, names: Sequence[str]) -> None:
    if not names:
        return
    found = connection.execute(
        "SELECT table_name FROM duckdb_tables() WHERE database_name = ? AND schema_name = 'main'", [database]
    ).fetchall()
    missing = [name for name in names if (name,) not in found]
    if missing:
        raise duckdb.CatalogException(f"it has no table {', '.join(missing)}")


def attach_writable(connection: duckdb.DuckDBPyConnection, path: Path, name: str, *, is_small: bool = False) -> None:
    """Make the unpublished database file `path`, or open it again, known to the connection as `name`.

    Nothing in it is safe before a CHECKPOINT: there is no write-ahead log. A file is published whole or not at all, so
    the leftover of a crash is swept, and a log would only write all rows of a small shard twice. A small file takes
    blocks of a sixteenth of the usual size: 200 rows are 94 KB instead of 537, and 100,000 rows would take twice as
    long.
    """
    blocks = f", BLOCK_SIZE {_SMALL_BLOCK_BYTES}" if is_small else ""
    connection.execute(
        f"ATTACH {literal(str(path))} AS {identifier(name)} ({_AS_DUCKDB}, STORAGE_VERSION '{STORAGE_VERSION}', "
        f"ROW_GROUP_SIZE {_ROW_GROUP_ROWS}, RECOVERY_MODE no_wal_writes{blocks})"
    )


def lock_down(connection: duckdb.DuckDBPyConnection, folders: Sequence[Path] = (), files: Sequence[Path] = ()) -> None:
    """Confine the connection; blocks `../`, links that lead out of `folders`, ATTACH outside, INSTALL and later SET."""
    resolved = [str(folder.resolve()) for folder in folders]
    # DuckDB checks a path as it is written, and the readers write it as a pattern.
    spellings = dict.fromkeys(spelling for path in resolved for spelling in (path, pattern(path)))
    allowed = ", ".join(literal(f"{spelling}/") for spelling in spellings)
    connection.execute(f"SET allowed_directories = [{allowed}]")
    # ATTACH looks for the log of a database file.
    paths = ", ".join(literal(f"{path}{suffix}") for path in files for suffix in ("", WAL_SUFFIX))
    connection.execute(f"SET allowed_paths = [{paths}]")
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

    Deliberately no Python function around it, which would cost as much again. DuckDB needs a signature, which the C
    function lacks. A partial, written in C too, can carry one.
    """
    signed = partial(function)
    parameter = inspect.Parameter("data", inspect.Parameter.POSITIONAL_ONLY)
    signed.__signature__ = inspect.Signature([parameter])  # type: ignore[attr-defined]
    connection.create_function(name, signed, ["BLOB"], returns)


def add_macros(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> None:
    """Define the macros of the engine's named `sql/` files."""
    for name in names:
        connection.execute(statement(name))


@contextlib.contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Run the block as one transaction; after an error, roll it back and raise the error."""
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
