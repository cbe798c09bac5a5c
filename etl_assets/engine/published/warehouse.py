"""The published warehouse: its `publication` row, connections for reading it, and whether its rows are as published."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.access import unreadable
from etl_assets.engine.files.layout import Home
from etl_assets.engine.hashing import SetHash, digest, set_hash_sql, total
from etl_assets.engine.published import tables
from etl_assets.engine.published.shards import hashed_columns
from etl_assets.engine.sql_text import identifiers, pattern_list
from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.project.contract import SHARD_COLUMN

PROFILES_TABLE = "merged_profiles"
# In the scratch copy of a lake's version: the names and sizes of its files, and which version it is.
LAKE_FILES, LAKE_VERSION = "lake_files", "lake_version"
# Space for spilling, in memory limits; DuckDB's own bound is nine tenths of the free disk.
SPILL_FACTOR = 8


@dataclass(frozen=True)
class Publication:
    """The `publication` row of a warehouse; fields and their order are those of the table."""

    published_at: datetime
    run_id: str
    record_count: int
    digest: str
    shard_count: int
    code_version: str
    set_hash: str
    is_partial: bool
    missing_shards: tuple[str, ...]
    duplicates_dropped: int


def read_publication(home: Home) -> Publication | None:
    """The warehouse's `publication` row; None when nothing is published or it cannot be read."""
    return publication_in(home.warehouse)


def publication_in(path: Path) -> Publication | None:
    """The `publication` row of a published or kept warehouse; None when there is none that can be read.

    A link is not read: it may lead to someone else's file, and the next publication replaces it.
    """
    if not publishing.is_regular(path):
        return None
    names = [field.name for field in fields(Publication)]
    try:
        with duck.opened(path, tables.PUBLICATION.name) as connection:
            row = connection.execute(f"SELECT {identifiers(names)} FROM publication").fetchone()
    except (duckdb.Error, OSError):
        return None
    if row is None:
        return None
    values = dict(zip(names, row, strict=True))
    return Publication(**values | {"missing_shards": tuple(values["missing_shards"])})


def listed_attempts(home: Home) -> set[tuple[str, str, int]]:
    """The attempts that the warehouse lists: shard, first 8 characters of the run, number; duckdb.Error or OSError."""
    with duck.opened(home.warehouse, tables.SHARD_ATTEMPTS.name) as connection:
        rows = connection.execute("SELECT shard_id, left(run_id, 8), attempt FROM shard_attempts").fetchall()
    return {(shard_id, run, number) for shard_id, run, number in rows}


@contextlib.contextmanager
def opened_whole(
    home: Home, limits: duck.Limits, *, folders: Sequence[Path] = (), path: Path | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection for reading all of the published warehouse, and `folders`; duckdb.Error when it cannot be opened.

    `path` is that of a kept warehouse to read instead.
    Its memory is limited and it may spill: counting distinct keys takes memory for every key.
    """
    with (
        publishing.scratch_directory(home) as scratch,
        duck.workbench(
            limits, scratch, folders=[*folders, *_profile_folders(home)], files=[path or home.warehouse]
        ) as connection,
    ):
        duck.attach_published(connection, path or home.warehouse, "warehouse", *tables.table_names())
        connection.execute("USE warehouse")
        add_profiles_view(connection, home)
        yield connection


def connect(home: Home, limits: duck.Limits, scratch: Path, *, path: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection that reads the published warehouse and nothing else, for the caller to close.

    `path` is that of a kept warehouse to read instead. It spills to `scratch`, to eight times its memory. It keeps the
    publication that it has opened, and blocks no other.
    ConfigError when nothing is published or the file cannot be read.
    """
    path = path or home.warehouse
    try:
        is_there = bool(publishing.size_bytes(path))
    except PermissionError as error:
        finding = unreadable(path) or str(error)
        raise ConfigError(finding, Advice(Action.ALLOW, value=str(path)), subject=str(path)) from error
    if not is_there:
        raise ConfigError(f"There is no warehouse at {home.warehouse} yet.", Advice(Action.RUN))
    spilling = {"max_temp_directory_size": f"{limits.memory_mb * SPILL_FACTOR}MB"}
    connection = duck.connect(limits, scratch, folders=_profile_folders(home), files=[path], settings=spilling)
    try:
        duck.attach_published(connection, path, "warehouse")
        connection.execute("USE warehouse")
        add_profiles_view(connection, home)
    except duckdb.Error as error:
        connection.close()
        kept_out = unreadable(path)
        if kept_out is not None:
            raise ConfigError(kept_out, Advice(Action.ALLOW, value=str(path)), subject=str(path)) from error
        raise ConfigError(
            f"{path} cannot be read as a warehouse ({str(error).splitlines()[0]}).",
            Advice(Action.RUN_FORCED),
            subject=str(path),
        ) from error
    return connection


def _profile_folders(home: Home) -> list[Path]:
    """Where the profiles are, if not in the warehouse itself."""
    return [publishing.ensure_directory(home.shards)] if home.is_lake else []


def add_profiles_view(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    """Let the current database, a scratch copy of a lake's version, show the rows of that version's Parquet files.

    They must be in the scratch. The view goes before the table, which has the columns and no rows.
    """
    if not home.is_lake:
        return
    names = [row[0] for row in connection.execute(f"SELECT name FROM {LAKE_FILES} ORDER BY name").fetchall()]
    if names:
        paths = pattern_list(home.shards / name for name in names)
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {PROFILES_TABLE} AS FROM read_parquet({paths}, hive_partitioning = false)"
        )


def damage(home: Home, limits: duck.Limits, path: Path | None = None) -> str | None:
    """Read the published warehouse, or a kept one, whole; returns what is wrong with its profiles, or None."""
    publication = publication_in(path or home.warehouse)
    if publication is None:
        return "it cannot be read"
    try:
        with opened_whole(home, limits, path=path) as connection:
            found = total(hash_by_shard(connection).values())
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        return str(error).splitlines()[0]
    is_sound = (digest(found), found.count) == (publication.digest, publication.record_count)
    return None if is_sound else "its rows are not those published"


def hash_by_shard(connection: duckdb.DuckDBPyConnection) -> dict[str, SetHash]:
    """The hash of the rows of each shard in the current database; their total is that of the whole.

    A row counts by all its columns but `shard_id`, so every published value does. Deliberately not over the rows' text,
    which is the same for every version of DuckDB: hashing the text of all columns took five times as long, and that of
    some columns would miss a change in the others.
    """
    columns = hashed_columns(connection, PROFILES_TABLE)
    rows = connection.execute(
        f"SELECT {SHARD_COLUMN}, {set_hash_sql(columns)} FROM {PROFILES_TABLE} GROUP BY {SHARD_COLUMN}"
    ).fetchall()
    return {shard_id: SetHash.of_row(sums) for shard_id, *sums in rows}
