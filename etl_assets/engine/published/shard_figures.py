"""Figures of one shard that add up to those of the whole, so that a merge of a lake reads no row.

They are measured while the shard is proved, and lie in its manifest.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import duckdb

from etl_assets.engine.published.overlap import SourceOverlap
from etl_assets.engine.sql_text import identifier
from etl_assets.project.contract import SOURCES_COLUMN, Contract


@dataclass(frozen=True)
class ShardFigures:
    """Counts of a shard's profiles.

    `filled` has the values that are not null by column; `value_counts` how often each declared value occurs; `sums` the
    number and the sum of each declared column of numbers; `combinations` the profiles by their sources, with commas.
    """

    filled: dict[str, int]
    value_counts: dict[str, dict[str, int]]
    sums: dict[str, tuple[int, float]]
    combinations: dict[str, int]
    # The words of columns that have few.
    words: dict[str, dict[str, int]] = field(default_factory=dict)


def measure(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    contract: Contract,
    columns: Sequence[str],
    with_words: Sequence[str],
    most_words: int,
) -> ShardFigures:
    """Read a shard's profiles once; of the columns `with_words`, the words of those that have at most `most_words`."""
    valued = [column.name for column in contract.profile if column.values]
    numbers = [column.name for column in contract.profile if column.is_number and not column.values]
    parts = [
        *(f"count({identifier(name)})" for name in columns),
        *(f"coalesce(sum({identifier(name)}), 0)::DOUBLE" for name in numbers),
        f"histogram(array_to_string({SOURCES_COLUMN}, ','))",
    ]
    row = connection.execute(f"SELECT {', '.join(parts)} FROM {relation}").fetchone()
    assert row is not None, "an aggregate always returns a row"
    filled = dict(zip(columns, row, strict=False))
    *totals, combinations = row[len(columns) :]
    words = _words(connection, relation, list(dict.fromkeys([*valued, *with_words])))
    return ShardFigures(
        filled,
        {name: words[name] for name in valued},
        {name: (filled[name], total) for name, total in zip(numbers, totals, strict=True)},
        combinations or {},
        {name: words[name] for name in with_words if len(words[name]) <= most_words},
    )


def _words(connection: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[str]) -> dict[str, dict[str, int]]:
    """How often each word occurs, by column: a histogram for each costs three times as much in a small shard."""
    found: dict[str, dict[str, int]] = {name: {} for name in columns}
    if columns:
        groups = " UNION ALL ".join(
            f"SELECT {number} AS part, {identifier(name)}::VARCHAR AS word, count(*) AS count FROM {relation} "
            f"WHERE {identifier(name)} IS NOT NULL GROUP BY word"
            for number, name in enumerate(columns)
        )
        for number, word, count in connection.execute(f"{groups} ORDER BY ALL").fetchall():
            found[columns[number]][word] = count
    return found


def total_figures(parts: Iterable[ShardFigures]) -> ShardFigures:
    """The figures of all shards together."""
    listed = list(parts)
    return ShardFigures(
        dict(_sum(one.filled for one in listed)),
        {
            name: dict(_sum(one.value_counts.get(name, {}) for one in listed))
            for name in dict.fromkeys(name for one in listed for name in one.value_counts)
        },
        {
            name: (
                sum(one.sums[name][0] for one in listed if name in one.sums),
                sum(one.sums[name][1] for one in listed if name in one.sums),
            )
            for name in dict.fromkeys(name for one in listed for name in one.sums)
        },
        dict(_sum(one.combinations for one in listed)),
        {
            name: dict(_sum(one.words[name] for one in listed))
            for name in dict.fromkeys(name for one in listed for name in one.words)
            if all(name in one.words for one in listed)
        },
    )


def overlap_of(figures: ShardFigures, names: Sequence[str]) -> tuple[SourceOverlap, ...]:
    """How many keys the sources share, as `measure_overlap` counts it in the rows; nothing for a single source."""
    if len(names) < 2:
        return ()
    shared: Counter[tuple[str, str]] = Counter()
    only: Counter[str] = Counter()
    everywhere = 0
    for text, count in figures.combinations.items():
        members = text.split(",")
        shared.update({(one, other): count for one in members for other in members})
        if len(members) == 1:
            only[members[0]] += count
        if len(members) == len(names):
            everywhere += count
    return tuple(
        SourceOverlap(
            name,
            shared[name, name],
            only[name],
            everywhere,
            {other: shared[name, other] for other in names if other != name},
        )
        for name in names
    )


def _sum(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    result: Counter[str] = Counter()
    for one in counts:
        result.update(one)
    return result
