"""Rejected rows and cells, wherever they lie: of the snapshot that was refused last, else of the staged one.

Before the first publication, and while a source is refused, the warehouse has none of them or older ones. Where nothing
is staged any more, the warehouse's are the only ones.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import tables
from etl_assets.engine.published.holding import hold
from etl_assets.engine.published.snapshots import QUARANTINE_FILE, Refused, current_folder, read_refused
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.sql_text import identifier, literal, parquet_sql
from etl_assets.errors import SourceChangedError
from etl_assets.project.contract import Contract

# The view of a connection of `opened`.
REJECTS = "rejects"
COLUMNS = ("source", "origin", "reason", "file", "line_number", "key", "cell", "raw_text")


class Origin(StrEnum):
    """Where the rejects of a source were read."""

    REFUSED = "refused"
    STAGED = "staged"
    WAREHOUSE = "warehouse"


@dataclass(frozen=True)
class Rejects:
    """Where the rejects of one source are, None for nowhere; and why its exports were refused, if they were."""

    source: str
    origin: Origin | None
    refused: Refused | None
    published_at: datetime | None = None


@contextlib.contextmanager
def opened(
    home: Home, contract: Contract, sources: Sequence[str], limits: duck.Limits, scratch: Path
) -> Iterator[tuple[duckdb.DuckDBPyConnection, list[Rejects]]]:
    """A connection that reads the view REJECTS with COLUMNS, and where the rows of each of these sources come from.

    What it reads is kept during the block. It spills to `scratch`, and reads nothing else.
    """
    with contextlib.ExitStack() as holder:
        places = {source: _place(home, source, holder) for source in sources}
        publication = read_publication(home) if None in places.values() else None
        connection = holder.enter_context(
            duck.workbench(
                limits,
                scratch,
                folders=[path.parent for _, path in filter(None, places.values())],
                files=[home.warehouse] if publication else [],
            )
        )
        if publication:
            duck.attach_published(connection, home.warehouse, "warehouse", tables.quarantine_table(contract).name)
        key = identifier(contract.key.name)
        parts = [
            f"SELECT source, {literal(place[0] if place else Origin.WAREHOUSE)} AS origin, reason, file, line_number, "
            f"{key} AS key, cell, raw_text FROM {rows}"
            for source, place in places.items()
            if (rows := _rows(source, place, is_published=publication is not None))
        ]
        none = f"SELECT {', '.join(f'NULL::VARCHAR AS {name}' for name in COLUMNS)} WHERE false"
        connection.execute(f"CREATE TEMP VIEW {REJECTS} AS {' UNION ALL '.join(parts) or none}")
        published_at = publication.published_at if publication else None
        yield connection, [_found(home, source, place, published_at) for source, place in places.items()]


def _place(home: Home, source: str, holder: contextlib.ExitStack) -> tuple[Origin, Path] | None:
    refused = read_refused(home, source)
    wanted = [(Origin.REFUSED, refused.folder if refused else None), (Origin.STAGED, current_folder(home, source))]
    for origin, folder in wanted:
        if folder is None:
            continue
        path = home.snapshot(source, folder) / QUARANTINE_FILE
        # A run that takes newer exports may sweep it just now.
        with contextlib.suppress(SourceChangedError):
            hold(home, source, folder, holder)
            if publishing.is_regular(path):
                return origin, path
    return None


def _rows(source: str, place: tuple[Origin, Path] | None, *, is_published: bool) -> str | None:
    if place is not None:
        return parquet_sql(place[1])
    return f"warehouse.quarantine WHERE source = {literal(source)}" if is_published else None


def _found(home: Home, source: str, place: tuple[Origin, Path] | None, published_at: datetime | None) -> Rejects:
    refused = read_refused(home, source)
    if place is not None:
        return Rejects(source, place[0], refused)
    return Rejects(source, Origin.WAREHOUSE if published_at else None, refused, published_at)
