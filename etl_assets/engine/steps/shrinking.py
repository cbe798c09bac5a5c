"""Nothing shrinks unseen: sources and the result are compared with the last publication before they replace it.

A failed query of the exporting system leaves a header without rows, an interrupted transfer a part of the rows. Both
are files without a fault of their own. What is refused here leaves everything that was staged or published as it is.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.last_publication import LastPublication, LastSource, read_last, values_in
from etl_assets.engine.published.notices import Notice, NoticeKind
from etl_assets.engine.published.shards import ShardSet
from etl_assets.engine.published.snapshots import Snapshot, load_snapshot, read_pointer
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier
from etl_assets.errors import Action, Advice, ShrunkError, shown
from etl_assets.project.contract import IDEMPOTENCY_COLUMN, SHARD_COLUMN, SOURCES_COLUMN

SETTING = "ETL_MIN_ROWS_RATIO"
_FILES_SHOWN = 3
# A column that few profiles had a value in may well be without any now.
_MIN_VALUES, _MIN_SHARE, _MIN_SHARE_OF_FEW = 10, 0.1, 0.5


# Columns without any value and how many they had in the last publication; and why that could not be read.
Emptied = tuple[Mapping[str, int], Sequence[str]]


@dataclass(frozen=True)
class ShrinkLimit:
    """The share of what was published last that must still be there; 0 allows everything, and so does `is_accepted`."""

    min_ratio: float = 0.0
    is_accepted: bool = False

    def is_below(self, count: int, before: int) -> bool:
        """Whether `count` is too little where `before` was published."""
        return self.min_ratio > 0 and before > 0 and (count == 0 or count < self.min_ratio * before)


ANY_SIZE = ShrinkLimit()


@dataclass(frozen=True)
class _Before:
    """What a source had before, and where."""

    row_count: int
    files: tuple[str, ...]
    where: str


def check_source(home: Home, snapshot: Snapshot, limit: ShrinkLimit) -> bool:
    """Compare a snapshot that is to become current with the last publication, else with the current snapshot.

    ShrunkError when it has too few rows. Returns whether it has, and was accepted all the same. The same bytes as
    those published or staged last are no export that shrank, whatever the project now makes of them.
    """
    pointer = read_pointer(home, snapshot.source)
    current = load_snapshot(home, snapshot.source, pointer.folder) if pointer else None
    if pointer is not None and current is not None and current.data_hash == snapshot.data_hash:
        return pointer.is_shrink_accepted
    if not limit.min_ratio:
        return False
    last = read_last(home)
    published = last.sources.get(snapshot.source) if last else None
    if published is not None and published.data_hash == snapshot.data_hash:
        return False
    before = _before(last, published, current)
    if before is None or not limit.is_below(snapshot.rows_accepted, before.row_count):
        return False
    if not limit.is_accepted:
        raise _refusal(snapshot, before, limit)
    return True


def _before(last: LastPublication | None, published: LastSource | None, current: Snapshot | None) -> _Before | None:
    if last is not None and published is not None:
        where = f"in the publication of {last.published_at:%Y-%m-%d %H:%M} UTC"
        return _Before(published.rows_accepted, published.files, where)
    return _Before(current.rows_accepted, current.files, "when it was staged last") if current else None


def _refusal(snapshot: Snapshot, before: _Before, limit: ShrinkLimit) -> ShrunkError:
    return ShrunkError(
        f"Source '{snapshot.source}': its export has shrunk. {_rows(snapshot.rows_accepted)} accepted now "
        f"({_listed(snapshot.files)}), {_rows(before.row_count)} {before.where} ({_listed(before.files)}); at least "
        f"a share of {limit.min_ratio:g} of them is expected ({SETTING}). The rows staged before stay in use.",
        *_advice(snapshot.rows_accepted, before.row_count),
        subject=snapshot.source,
    )


def check_result(
    site: Site,
    found: ShardSet,
    record_count: int,
    limit: ShrinkLimit,
    emptied: Callable[[LastPublication], Emptied],
) -> tuple[Notice, ...]:
    """Compare the merged profiles with the last publication; `emptied` tells which columns have lost all values since.

    ShrunkError when there are too few of them, or when a column has lost all of its values. Returns what is only
    reported: after a change of the project, fewer profiles or values may be what it is meant to give.

    Nothing is compared when the caller accepts it, when a source that has shrunk was accepted since the last
    publication, and when the merge leaves out shards.
    """
    if not limit.min_ratio or limit.is_accepted or found.obstacles:
        return ()
    last = read_last(site.home)
    if last is None:
        if publishing.size_bytes(site.home.warehouse) is None:
            return ()
        return (_not_compared("The last publication cannot be read, so the result was not compared with it."),)
    if _is_explained(site.home, found, last):
        return ()
    lost, unread = emptied(last)
    findings = [*_fewer(site, last, record_count, limit), *_lost_text(site, last, lost)]
    if findings and last.code_version == site.profile_version:
        raise ShrunkError(
            f"{' '.join(findings)} It was compared with the publication of {last.published_at:%Y-%m-%d %H:%M} UTC, "
            "which stays.",
            *_advice(record_count, last.record_count),
        )
    changed = [f"{finding} The project or the engine has changed since." for finding in findings]
    return (*(Notice(NoticeKind.SHRUNK, PROFILES_TABLE, text) for text in changed), *map(_not_compared, unread))


def _not_compared(finding: str) -> Notice:
    return Notice(NoticeKind.NOT_COMPARED, PROFILES_TABLE, finding, is_warning=False)


def _is_explained(home: Home, found: ShardSet, last: LastPublication) -> bool:
    """Whether someone has accepted that a source has shrunk, and this is the first result from it."""
    for name, snapshot in found.snapshots.items():
        published, pointer = last.sources.get(name), read_pointer(home, name)
        is_new = published is None or published.snapshot_id != snapshot.id
        if is_new and pointer is not None and pointer.is_shrink_accepted:
            return True
    return False


def _fewer(site: Site, last: LastPublication, record_count: int, limit: ShrinkLimit) -> Iterator[str]:
    if limit.is_below(record_count, last.record_count):
        yield (
            f"The result has shrunk: {record_count:,} {site.contract.entity}, {last.record_count:,} were published "
            f"last; at least a share of {limit.min_ratio:g} of them is expected ({SETTING})."
        )


def emptied_in(connection: duckdb.DuckDBPyConnection, site: Site) -> Emptied:
    """The columns of the current database without any value, and how many the last publication had in each."""
    empty = _empty_columns(connection, site)
    try:
        return (values_in(site.home, empty) if empty else {}), []
    except (duckdb.Error, OSError):
        return {}, ["The profiles published last cannot be read, so empty columns were not compared with them."]


def _lost_text(site: Site, last: LastPublication, counts: Mapping[str, int]) -> Iterator[str]:
    """What is to be said of columns without any value that had many."""
    least = max(_MIN_SHARE * last.record_count, min(_MIN_VALUES, _MIN_SHARE_OF_FEW * last.record_count))
    lost = {column: count for column, count in counts.items() if count and count >= least}
    if lost:
        listed = ", ".join(f"{shown(column)} ({count:,})" for column, count in lost.items())
        entity = site.contract.entity
        yield f"Columns have lost all of their values: {listed}; in brackets the {entity} that had one."


def own_columns(site: Site) -> set[str]:
    """Columns of the engine, which no query can empty."""
    return {site.contract.key.name, SOURCES_COLUMN, SHARD_COLUMN, IDEMPOTENCY_COLUMN}


def _empty_columns(connection: duckdb.DuckDBPyConnection, site: Site) -> tuple[str, ...]:
    """The columns of the result in which every value is null. A search ends at the first value, so it costs nothing."""
    own = own_columns(site)
    cursor = connection.execute(f"SELECT * FROM {PROFILES_TABLE} LIMIT 0")
    columns = [name for column in cursor.description or () if (name := str(column[0])) not in own]
    return tuple(
        name
        for name in columns
        if not duck.scalar(connection, f"SELECT EXISTS (FROM {PROFILES_TABLE} WHERE {identifier(name)} IS NOT NULL)")
    )


def _advice(count: int, before: int) -> tuple[Advice, ...]:
    share = int(100 * count / before) / 100 if before and count < before else 0
    return (
        Advice(Action.EXPORT_AGAIN),
        Advice(Action.ACCEPT_SHRUNK),
        Advice(Action.SET, SETTING, f"{share:g}"),
        Advice(Action.EDIT, value="min_rows_ratio under settings: for every run"),
    )


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"


def _listed(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - _FILES_SHOWN} more" if len(files) > _FILES_SHOWN else ""
    return ", ".join(map(shown, files[:_FILES_SHOWN])) + more
