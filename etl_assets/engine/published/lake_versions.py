"""Versions of a lake's table: the document that each was published with, and the scratch copy of the latest one.

The copy is a DuckDB file like the warehouse of the local mode, with every table but the profiles, whose rows stay in
the table's Parquet files. So all that reads a publication reads it here, after `fetch_publication`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.files.layout import Home
from etl_assets.engine.lake.delta import LakeTable, TableFile, Version
from etl_assets.engine.lake.store import Store, at_once
from etl_assets.engine.published import tables
from etl_assets.engine.published.lake_names import PROFILES_FOLDER, profiles_key
from etl_assets.engine.published.mirroring import download
from etl_assets.engine.published.restored import mark_restored
from etl_assets.engine.published.warehouse import LAKE_FILES, LAKE_VERSION, PROFILES_TABLE, Publication
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, identifiers, pattern_list
from etl_assets.errors import ConfigError, escaped
from etl_assets.project.contract import Contract

FORMAT = 1
_LIMITS = duck.Limits(256)


@dataclass(frozen=True)
class Document:
    """What a version was made from. `tables` has the rows of every published table but profiles and quarantine.

    `columns` are those of the profiles with their types, `quarantine` the keys of the snapshots' rejected rows, `files`
    the table's files. `restored_at` is set for a version that was brought back and is held, `replaced_published_at`
    is then the time of the one that it replaced.
    """

    columns: Mapping[str, str]
    tables: Mapping[str, Sequence[Mapping[str, Any]]]
    quarantine: Sequence[str]
    files: Sequence[Mapping[str, Any]]
    restored_at: str | None = None
    replaced_published_at: str | None = None

    @property
    def table_files(self) -> list[TableFile]:
        """The files, as a commit takes them."""
        return [TableFile(**one) for one in self.files]

    @property
    def publication(self) -> Publication:
        """The row of the table `publication`."""
        values = dict(self.tables[tables.PUBLICATION.name][0])
        moment = datetime.fromisoformat(values["published_at"])
        return Publication(**values | {"published_at": moment, "missing_shards": tuple(values["missing_shards"])})

    def encoded(self) -> bytes:
        """The object."""
        return json.dumps({"format": FORMAT, **asdict(self)}, default=_plain).encode()


def table_rows(table: tables.Table, rows: Iterable[object]) -> list[dict[str, Any]]:
    """Objects as the rows of a table."""
    return [{one.name: getattr(row, one.attribute or one.name) for one in table.columns} for row in rows]


def lake_table(site_or_store: Site | Store) -> LakeTable:
    """The Delta table of a lake."""
    store = site_or_store.lake if isinstance(site_or_store, Site) else site_or_store
    assert store is not None, "only for a lake"
    return LakeTable(store, PROFILES_FOLDER)


def read_document(store: Store, key: str) -> Document:
    """The document of a version; ConfigError when it is gone or of a newer release."""
    found = store.get(key)
    try:
        values = json.loads(found.content) if found else {}
        if values.get("format") != FORMAT:
            raise ValueError
        del values["format"]
        return Document(**values)
    except (ValueError, TypeError, AttributeError) as error:
        why = "is of another release, or damaged" if found else "is gone"
        raise ConfigError(
            f"{escaped(f'{store.url}/{key}')}, which a version of the table names, {why}.", subject=store.url
        ) from error


def fetch_publication(home: Home, store: Store, contract: Contract) -> Version | None:
    """Make the scratch's warehouse a copy of the latest version; returns that, None when nothing is published."""
    now = lake_table(store).current()
    if now is None:
        sweeping.discard(home.warehouse)
    elif copied_version(home) != (now.number, now.document):
        document = read_document(store, now.document)
        with (
            publishing.scratch_directory(home) as scratch,
            publishing.publish_file(home.warehouse, what=None, is_durable=False) as target,
            duck.workbench(_LIMITS, scratch, folders=[home.root]) as connection,
        ):
            write_copy(connection, store, contract, document, target, scratch)
            note_version(connection, now.number, now.document, now.files)
            close_copy(connection)
        _mark(home, document)
    return now


def _mark(home: Home, document: Document) -> None:
    """Say in the scratch whether the version was restored and is held."""
    if document.restored_at is None:
        sweeping.discard(home.restored_mark)
        return
    replaced = document.replaced_published_at
    restored_at = datetime.fromisoformat(document.restored_at)
    mark_restored(home, document.publication, restored_at, datetime.fromisoformat(replaced) if replaced else None)


def copied_version(home: Home) -> tuple[int, str] | None:
    """Number and document of the version that the scratch's warehouse is a copy of."""
    if not publishing.is_regular(home.warehouse):
        return None
    try:
        with duck.opened(home.warehouse, LAKE_VERSION) as connection:
            row = connection.execute(f"SELECT number, document FROM {LAKE_VERSION}").fetchone()
    except (duckdb.Error, OSError):
        return None
    return (row[0], row[1]) if row else None


def write_copy(
    connection: duckdb.DuckDBPyConnection,
    store: Store,
    contract: Contract,
    document: Document,
    target: Path,
    scratch: Path,
) -> None:
    """Write the tables of a version into an unpublished file, which becomes the current database."""
    duck.attach_writable(connection, target, "warehouse")
    connection.execute("USE warehouse")
    columns = ", ".join(f"{identifier(name)} {kind}" for name, kind in document.columns.items())
    connection.execute(f"CREATE TABLE {PROFILES_TABLE} ({columns})")
    for table in tables.warehouse_tables(contract):
        if table.name in document.tables:
            table.create(connection)
            names = {one.name: one.attribute or one.name for one in table.columns}
            rows = document.tables[table.name]
            table.insert(connection, [SimpleNamespace(**{names[key]: v for key, v in row.items()}) for row in rows])
    _write_quarantine(connection, store, contract, document.quarantine, scratch)
    for table in tables.warehouse_tables(contract):
        table.comment(connection)


def note_version(connection: duckdb.DuckDBPyConnection, number: int, document: str, files: Mapping[str, int]) -> None:
    """Note in the copy which version it is of."""
    connection.execute(
        f"CREATE TABLE {LAKE_VERSION} AS SELECT ?::BIGINT AS number, ?::VARCHAR AS document", [number, document]
    )
    note_files(connection, files)


def note_files(connection: duckdb.DuckDBPyConnection, files: Mapping[str, int]) -> None:
    """Note the names and sizes of the files that hold the profiles."""
    connection.execute(
        f"CREATE OR REPLACE TABLE {LAKE_FILES} AS "
        "SELECT unnest(?::VARCHAR[]) AS name, unnest(?::BIGINT[]) AS size_bytes",
        [list(files), list(files.values())],
    )


def close_copy(connection: duckdb.DuckDBPyConnection) -> None:
    """Write all of the copy to its file, and let go of it."""
    connection.execute("CHECKPOINT warehouse")
    connection.execute("USE memory")
    connection.execute("DETACH warehouse")


def fetch_profiles(home: Home, store: Store, names: Iterable[str]) -> None:
    """Fetch the Parquet files of a version that are not in the scratch yet; their names are never used twice."""

    def fetch(name: str) -> None:
        path = home.shards / name
        if not publishing.is_regular(path):
            download(store, profiles_key(name), path)

    at_once(fetch, names)


def copied_files(home: Home) -> list[str]:
    """The files of the version that the scratch's warehouse is a copy of."""
    with duck.opened(home.warehouse, LAKE_FILES) as connection:
        return [row[0] for row in connection.execute(f"SELECT name FROM {LAKE_FILES}").fetchall()]


def _write_quarantine(
    connection: duckdb.DuckDBPyConnection, store: Store, contract: Contract, keys: Sequence[str], scratch: Path
) -> None:
    table = tables.quarantine_table(contract)
    columns = identifiers(column.name for column in table.columns)
    paths = [scratch / f"quarantine_{number}.parquet" for number, _ in enumerate(keys)]
    at_once(lambda one: download(store, *one), list(zip(keys, paths, strict=True)))
    connection.execute(
        f"CREATE TABLE {table.name} AS SELECT {columns} FROM read_parquet({pattern_list(paths)}, "
        "hive_partitioning = false)"
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a document")
