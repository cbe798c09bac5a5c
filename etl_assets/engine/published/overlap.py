"""How many keys the sources share: counted in the merged profiles, kept in the table `source_overlap`.

A source whose ids mean something else gives twice the profiles, each of them half empty, and no row of it is wrong.
Only the overlap shows it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.notices import Notice, NoticeKind
from etl_assets.engine.published.tables import SOURCE_OVERLAP
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.sql_text import identifier
from etl_assets.errors import shown
from etl_assets.project.contract import SOURCES_COLUMN, Contract

# A source that shares less than this share of the keys that it could share is noticed, if it could share so many.
MIN_SHARED_RATIO = 0.01
MIN_KEYS = 20
_CHARS_SHOWN = 40
# By the distinct sets of sources: there are few of them, and many profiles. Grouped by text, which takes half the time
# of lists; no source's name has a comma. Profiles of all sources, mostly the most, need no text.
_PAIRS = f"""
    WITH combined AS (
        SELECT
            CASE WHEN len({SOURCES_COLUMN}) = len($names) THEN array_to_string($names, ',')
            ELSE array_to_string({SOURCES_COLUMN}, ',') END AS names,
            count(*) AS profiles
        FROM {PROFILES_TABLE} GROUP BY names
    ), combinations AS (
        SELECT string_split(names, ',') AS {SOURCES_COLUMN}, profiles FROM combined
    ), members AS (
        SELECT unnest({SOURCES_COLUMN}) AS source, {SOURCES_COLUMN}, profiles FROM combinations
    ), pairs AS (
        SELECT source, unnest({SOURCES_COLUMN}) AS other_source, len({SOURCES_COLUMN}) AS source_count, profiles
        FROM members
    )
    SELECT
        source,
        other_source,
        sum(profiles)::BIGINT,
        coalesce(sum(profiles) FILTER (source_count = 1), 0)::BIGINT,
        coalesce(sum(profiles) FILTER (source_count = len($names)), 0)::BIGINT
    FROM pairs
    GROUP BY source, other_source
"""


@dataclass(frozen=True)
class SourceOverlap:
    """The keys of a source: in how many other sources they are. `shared_counts` is by the other source."""

    source: str
    key_count: int
    only_count: int
    all_count: int
    shared_counts: Mapping[str, int]

    @property
    def elsewhere_count(self) -> int:
        """Keys that are in at least one other source."""
        return self.key_count - self.only_count


@dataclass(frozen=True)
class OverlapRow:
    """A row of `source_overlap`."""

    source: str
    other_source: str
    key_count: int
    shared_count: int
    only_count: int
    all_count: int


def measure_overlap(connection: duckdb.DuckDBPyConnection, names: Sequence[str]) -> tuple[SourceOverlap, ...]:
    """Count in the profiles of the current database; nothing for a single source."""
    if len(names) < 2:
        return ()
    rows = connection.execute(_PAIRS, {"names": list(names)}).fetchall()
    shared = {(source, other): count for source, other, count, _, _ in rows}
    alone = {source: (only, everywhere) for source, other, _, only, everywhere in rows if source == other}
    return tuple(
        SourceOverlap(
            name,
            shared.get((name, name), 0),
            *alone.get(name, (0, 0)),
            {other: shared.get((name, other), 0) for other in names if other != name},
        )
        for name in names
    )


def overlap_rows(overlaps: Iterable[SourceOverlap]) -> Iterator[OverlapRow]:
    """The rows of the table: one for each source and each other one."""
    for one in overlaps:
        for other, shared_count in one.shared_counts.items():
            yield OverlapRow(one.source, other, one.key_count, shared_count, one.only_count, one.all_count)


def read_overlap(home: Home, names: Sequence[str]) -> tuple[SourceOverlap, ...]:
    """The overlap of the published warehouse, in the order of `names`; nothing when it cannot be read."""
    if not publishing.is_regular(home.warehouse):
        return ()
    try:
        with duck.opened(home.warehouse, SOURCE_OVERLAP.name) as connection:
            rows = connection.execute(
                "SELECT source, other_source, key_count, shared_count, only_count, all_count "
                f"FROM {SOURCE_OVERLAP.name} ORDER BY rowid"
            ).fetchall()
    except (duckdb.Error, OSError):
        return ()
    found: dict[str, SourceOverlap] = {}
    for source, other, key_count, shared_count, only_count, all_count in rows:
        before = found[source].shared_counts if source in found else {}
        found[source] = SourceOverlap(source, key_count, only_count, all_count, {**before, other: shared_count})
    return tuple(found[name] for name in names if name in found)


def overlap_notices(
    overlaps: Sequence[SourceOverlap], contract: Contract, record_count: int, connection: duckdb.DuckDBPyConnection
) -> Iterator[Notice]:
    """A notice for each source that shares almost none of the keys that it could share.

    That is of the fewer of its own keys and those of all other sources together: of a million keys, a pilot
    system with a hundred knows few.
    """
    for one in overlaps:
        possible = min(one.key_count, record_count - one.only_count)
        if possible >= MIN_KEYS and one.elsewhere_count < MIN_SHARED_RATIO * possible:
            yield Notice(
                NoticeKind.NO_OVERLAP,
                one.source,
                f"{one.source} shares {one.elsewhere_count:,} of its {one.key_count:,} {contract.entity} with other "
                f"sources{_examples(connection, contract, one.source)}. Expected the same {contract.key.name} there: "
                f"look at key: of {one.source}, and declare a key_map if it has ids of its own.",
                {"key_count": one.key_count, "shared_count": one.elsewhere_count},
            )


def _examples(connection: duckdb.DuckDBPyConnection, contract: Contract, source: str) -> str:
    """An id of this source and one of the others: often they show what is wrong. None of personal ids."""
    if any(one.has_personal_ids for one in contract.sources):
        return ""
    key, is_in = identifier(contract.key.name), f"list_contains({SOURCES_COLUMN}, ?)"
    row = connection.execute(
        f"SELECT min({key}) FILTER ({is_in}), min({key}) FILTER (NOT {is_in}) FROM {PROFILES_TABLE}", [source, source]
    ).fetchone()
    if row is None or None in row:
        return ""
    here, there = (f"'{shown(text[:_CHARS_SHOWN])}'" for text in row)
    return f", such as {here} here and {there} there"
