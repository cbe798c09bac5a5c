"""The rows that a merge can keep from the published warehouse, instead of copying every shard again (docs/adr/0005).

It keeps rows only while every source is unchanged. DuckDB leaves deleted rows in a file until it needs their space, so
the bytes of a copied warehouse would still hold rows that have since been deleted from the exports. From the same
sources and the same code, a shard always has the same rows; then the copy holds nothing that was deleted.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.shards import ShardSet
from etl_assets.engine.published.tables import MERGED_FILES, SOURCE_SNAPSHOTS, warehouse_tables
from etl_assets.engine.published.warehouse import PROFILES_TABLE, read_publication
from etl_assets.engine.site import Site
from etl_assets.errors import AccountingError, ShardSetError, WriteError

# Beyond this share of shards to replace, a merge starts from an empty file.
_MAX_REPLACED = 0.25
# Beyond this many stored rows for each that is not deleted, it does too.
_MAX_STORED = 1.25
_STORED_ROWS = f"""
    SELECT coalesce(sum(count), 0)::BIGINT FROM pragma_storage_info('{PROFILES_TABLE}')
    WHERE column_name = ? AND segment_type <> 'VALIDITY'
"""
_ENTRIES = """
    SELECT name FROM (
        SELECT table_name AS name, database_name, internal FROM duckdb_tables()
        UNION ALL SELECT view_name, database_name, internal FROM duckdb_views()
        UNION ALL SELECT function_name, database_name, internal FROM duckdb_functions()
        UNION ALL SELECT schema_name, database_name, internal FROM duckdb_schemas()
        UNION ALL SELECT type_name, database_name, internal FROM duckdb_types()
        UNION ALL SELECT sequence_name, database_name, false FROM duckdb_sequences()
        UNION ALL SELECT index_name, database_name, false FROM duckdb_indexes()
    ) WHERE database_name = 'opened' AND NOT internal
"""


class UnfitBaseError(Exception):
    """The published warehouse does not hold what it says; the merge starts from an empty file instead."""


@contextlib.contextmanager
def blaming_base(kept: frozenset[str]) -> Iterator[None]:
    """Raise UnfitBaseError for any fault inside, if rows were kept: they may be its cause."""
    try:
        yield
    except (duckdb.Error, WriteError, ShardSetError, AccountingError) as error:
        if kept:
            raise UnfitBaseError from error
        raise


def copy_base(home: Home, target: Path) -> None:
    """Copy the published warehouse to a temporary file; UnfitBaseError when it is gone, or no file of its own."""
    try:
        publishing.copy_published(home.warehouse, target)
    except OSError as error:
        if publishing.is_regular(home.warehouse):
            raise
        raise UnfitBaseError from error


def shards_to_keep(site: Site, found: ShardSet) -> frozenset[str]:
    """Shards whose rows can be kept from the published warehouse.

    A shard qualifies if its file is unchanged (inode, time of change, size) since the merge that read and verified it.
    Empty if the warehouse cannot serve as a base:

    - it was published from other sources, by another version or for another number of shards, or cannot be read;
    - more than a quarter of the shards would have to be replaced;
    - rows that were replaced before take too much of its file;
    - someone made tables of their own in it.
    """
    publication = read_publication(site.home)
    made_by = publication and (publication.code_version, publication.shard_count)
    if publication is None or made_by != (site.profile_version, site.shard_count):
        return frozenset()
    try:
        with duck.opened(site.home.warehouse, MERGED_FILES.name, PROFILES_TABLE, SOURCE_SNAPSHOTS.name) as connection:
            sources = dict(connection.execute("SELECT source, snapshot FROM source_snapshots").fetchall())
            held = dict(connection.execute("SELECT shard_id, file_stamp FROM merged_files").fetchall())
            stored_rows = duck.scalar(connection, _STORED_ROWS, [site.contract.key.name])
            entries = {row[0] for row in connection.execute(_ENTRIES).fetchall()}
    except (duckdb.Error, OSError):
        return frozenset()
    if sources != {name: snapshot.id for name, snapshot in found.snapshots.items()}:
        return frozenset()
    shard_ids = [manifest.shard_id for manifest in found.manifests]
    kept = frozenset(name for name in shard_ids if held.get(name) == found.stamps[site.home.shard_file(name)])
    replaced = len(held.keys() | set(shard_ids)) - len(kept)
    assert isinstance(stored_rows, int), "a sum of counts"
    is_as_published = entries == {table.name for table in warehouse_tables(site.contract)}
    is_dense = stored_rows <= _MAX_STORED * publication.record_count
    return kept if is_as_published and is_dense and replaced <= _MAX_REPLACED * site.shard_count else frozenset()
