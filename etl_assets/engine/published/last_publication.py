"""What the published warehouse says of itself, for comparing the next one with it: times, counts and sources.

A warehouse may be missing, damaged, or a database of someone else. Then there is nothing to compare with.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import tables
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.sql_text import identifier

_PUBLICATION = """
    SELECT epoch_us(published_at::TIMESTAMPTZ), record_count::BIGINT, code_version::VARCHAR
    FROM publication
"""
_SOURCES = """
    SELECT source::VARCHAR, snapshot::VARCHAR, data_hash::VARCHAR, rows_accepted::BIGINT, files::VARCHAR[]
    FROM source_snapshots
"""


@dataclass(frozen=True)
class LastSource:
    """A source as it was published: the id of its snapshot, the hash of its files' bytes, and what it had."""

    snapshot_id: str
    data_hash: str
    rows_accepted: int
    files: tuple[str, ...]


@dataclass(frozen=True)
class LastPublication:
    """The published warehouse in short."""

    published_at: datetime
    record_count: int
    code_version: str
    sources: Mapping[str, LastSource]


def read_last(home: Home) -> LastPublication | None:
    """The last publication; None when there is none or it cannot be read."""
    # A link may lead to the file of someone else.
    if not publishing.is_regular(home.warehouse):
        return None
    try:
        with duck.opened(home.warehouse, tables.PUBLICATION.name, tables.SOURCE_SNAPSHOTS.name) as connection:
            row = connection.execute(_PUBLICATION).fetchone()
            rows = connection.execute(_SOURCES).fetchall()
        if row is None or None in row:
            return None
        moment_us, record_count, version = row
        sources = {
            name: LastSource(snapshot, data_hash, accepted, tuple(filter(None, files)))
            for name, snapshot, data_hash, accepted, files in rows
            if None not in (name, snapshot, data_hash, accepted, files)
        }
        moment = datetime.fromtimestamp(moment_us / 1e6, UTC)
    except (duckdb.Error, OSError, ValueError, OverflowError):
        return None
    return LastPublication(moment, record_count, version, sources)


def values_in(home: Home, columns: tuple[str, ...]) -> dict[str, int]:
    """How many profiles of the last publication have a value in each of these columns, where it has the column.

    duckdb.Error or OSError when the warehouse cannot be read.
    """
    with duck.opened(home.warehouse, PROFILES_TABLE) as connection:
        cursor = connection.execute(f"SELECT * FROM {PROFILES_TABLE} LIMIT 0")
        known = {str(column[0]) for column in cursor.description or ()}
        asked = [column for column in columns if column in known]
        if not asked:
            return {}
        counts = ", ".join(f"count({identifier(column)})" for column in asked)
        row = connection.execute(f"SELECT {counts} FROM {PROFILES_TABLE}").fetchone()
    assert row is not None, "an aggregate always returns a row"
    return dict(zip(asked, row, strict=True))
