"""The key, found by how the values of columns overlap between the sources, and the overlaps to judge it by."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from etl_assets.drafting.observing import Observed, Table
from etl_assets.engine.sql_text import identifier
from etl_assets.project.columns import plain_name

# Columns of more values are compared by a part of them, the same part in all.
_MAX_VALUES = 200_000
_MAX_CHARS = 128
# Values in common, of those of the column that has fewer: below this, two columns agree by chance.
_MIN_SHARE = 0.1
# A column that names what a source is about has hardly any value twice.
_NEARLY_UNIQUE = 0.9
# Identifiers change less often than addresses: one that links nearly as well is the better key.
_NEARLY_AS_GOOD = 0.9
# Numbers of which at least so many between the first and the last one are there were counted, not drawn.
_DENSE = 0.01
_MIN_STEM = 4
_SEVERAL = 2
# Words of headers that do not say what is named.
_GENERIC = frozenset(
    {"id", "ids", "key", "no", "nr", "number", "num", "code", "ref", "reference", "name", "external", "record"}
)
# Of two keys that link as many sources, the one of those who are served is meant.
_SERVED = re.compile(r"customer|account|member|user|client|contact|person|company|patient|student|subscriber|mail|kund")


# Words for one thing. Deliberately not those of `_SERVED`: a company has contacts, and an account has users.
_CUSTOMER = re.compile(r"customer|client|kund")


@dataclass(frozen=True, eq=False)
class Node:
    """A column of a source."""

    table: Table
    column: Observed

    @property
    def source(self) -> str:
        """The source's name."""
        return self.table.group.name

    @property
    def is_nearly_unique(self) -> bool:
        """Whether hardly any value is there twice."""
        return self.column.distinct >= _NEARLY_UNIQUE * self.column.filled

    @property
    def subject(self) -> frozenset[str]:
        """What is named, in the words of the header, or of the source where the header is just `ID`."""
        words = set(plain_name(self.column.header).split("_")) - _GENERIC
        words = words or set(self.source.split("_"))
        return frozenset(_singular(word) for word in words)

    @property
    def is_served(self) -> bool:
        """Whether those are named who are served."""
        return any(_SERVED.search(word) for word in self.subject)

    @property
    def is_customer(self) -> bool:
        """Whether customers are named, in one of the words for them."""
        return any(_CUSTOMER.search(word) for word in self.subject)

    def __str__(self) -> str:
        return f"{self.source}.{self.column.header}"


@dataclass(frozen=True)
class Overlap:
    """How many of the `of` values of one column another one has, by which many a wrong guess is seen."""

    one: Node
    other: Node
    common: int
    of: int
    # Whether one of them has numbers without large gaps, which overlap with any others.
    may_be_chance: bool = False

    @property
    def share(self) -> float:
        """The part of the values that both have."""
        return self.common / self.of if self.of else 0.0

    def __str__(self) -> str:
        return f"{self.other} ↔ {self.one}: {self.share:.0%} of {self.of:,}"


@dataclass(frozen=True)
class Keys:
    """The key's column in each source that has one; the overlaps that speak for it; the next best ones."""

    chosen: Mapping[str, Node]
    hub: Node
    overlaps: tuple[Overlap, ...]
    others: tuple[Overlap, ...]
    folds_case: bool


def find_keys(connection: duckdb.DuckDBPyConnection, tables: Sequence[Table]) -> Keys:
    """The columns that name the same thing in as many sources as can be."""
    nodes = [Node(table, column) for table in tables for column in table.columns if _may_link(column)]
    overlaps = _overlaps(connection, nodes)
    best = _best(nodes, overlaps, [overlap for overlap in overlaps if _is_link(overlap)])
    if len({node.source for node in best}) < _SEVERAL:
        # Tickets and payments without the customers themselves.
        best = _best(nodes, overlaps, [overlap for overlap in overlaps if _is_link(overlap, has_owner=False)])
    if len({node.source for node in best}) < _SEVERAL:
        best = _without_overlap(nodes, tables)
    chosen = _one_a_source(best, overlaps)
    hub = max(chosen.values(), key=lambda node: (node.is_nearly_unique, node.column.distinct))
    shown = [_towards(overlap, hub) for overlap in overlaps if hub in (overlap.one, overlap.other)]
    of_key = [overlap for overlap in shown if overlap.other in chosen.values()]
    rest = [one for one in overlaps if not (one.one in chosen.values() and one.other in chosen.values())]
    others = sorted((one for one in rest if _is_link(one)), key=lambda one: -one.common)
    folds = any(node.column.is_email for node in chosen.values()) or _differs_in_case(connection, chosen, hub)
    return Keys(chosen, hub, tuple(sorted(of_key, key=lambda one: -one.common)), tuple(others[:5]), folds)


def _may_link(column: Observed) -> bool:
    """Whether the values may name something."""
    if not column.distinct or column.usual_chars > _MAX_CHARS or column.type not in ("text", "int"):
        return False
    return column.is_label or column.is_digits or 2 * column.distinct >= column.filled


def _overlaps(connection: duckdb.DuckDBPyConnection, nodes: Sequence[Node]) -> list[Overlap]:
    part = 1 + max((node.column.distinct for node in nodes), default=0) // _MAX_VALUES
    connection.execute("CREATE OR REPLACE TEMP TABLE linked (node INTEGER, value VARCHAR)")
    for number, node in enumerate(nodes):
        value = f"lower(strip({identifier(node.column.name)}))"
        connection.execute(
            f"INSERT INTO linked SELECT DISTINCT {number}, {value} FROM {identifier(node.table.name)} "
            f"WHERE {value} <> '' AND hash({value}) % {part} = 0"
        )
    sizes = dict(connection.execute("SELECT node, count(*) FROM linked GROUP BY node").fetchall())
    ranges = connection.execute(
        # Without the outermost values: one of a test would make a gap in any numbers.
        "SELECT node, quantile_disc(number, 0.95) - quantile_disc(number, 0.05) + 1 "
        "FROM (SELECT node, TRY_CAST(value AS HUGEINT) AS number FROM linked) GROUP BY node"
    ).fetchall()
    counted = {
        node
        for node, width in ranges
        if nodes[node].column.is_digits and width is not None and _DENSE * width <= sizes[node] * part
    }
    pairs = connection.execute(
        "SELECT a.node, b.node, count(*) FROM linked AS a JOIN linked AS b ON a.value = b.value AND a.node < b.node "
        "GROUP BY ALL ORDER BY ALL"
    ).fetchall()
    found = []
    for one, other, common in pairs:
        large, small = (one, other) if sizes[one] >= sizes[other] else (other, one)
        if nodes[one].source != nodes[other].source:
            may_be_chance = one in counted or other in counted
            found.append(Overlap(nodes[large], nodes[small], common * part, sizes[small] * part, may_be_chance))
    return found


def _best(nodes: Sequence[Node], overlaps: Sequence[Overlap], links: Sequence[Overlap]) -> list[Node]:
    """The columns that link the most."""
    return max(_components(nodes, links), key=lambda group: _worth(group, overlaps), default=[])


def _is_link(overlap: Overlap, *, has_owner: bool = True) -> bool:
    """Whether the columns name the same thing; of counted numbers any two overlap, so their headers must say so.

    With an owner, one of them has hardly any value twice; without one, their headers must be alike, or both addresses.
    """
    one, other = overlap.one, overlap.other
    is_alike = _are_alike(one.subject, other.subject) or (one.is_customer and other.is_customer)
    if has_owner:
        is_sure = one.is_nearly_unique or other.is_nearly_unique
    else:
        is_sure = is_alike or (one.column.is_email and other.column.is_email)
    return overlap.share >= _MIN_SHARE and is_sure and (not overlap.may_be_chance or is_alike)


def _are_alike(one: Iterable[str], other: Iterable[str]) -> bool:
    """Whether the words have one in common, be it as the beginning of another: `member` and `memberships`."""
    pairs = [sorted((first, second), key=len) for first in one for second in other]
    return any(long == short or (len(short) >= _MIN_STEM and long.startswith(short)) for short, long in pairs)


def _singular(word: str) -> str:
    return f"{word[:-3]}y" if word.endswith("ies") else word.removesuffix("s")


def _components(nodes: Sequence[Node], links: Iterable[Overlap]) -> list[list[Node]]:
    """Columns that are linked, directly or through others."""
    group_of = {id(node): [node] for node in nodes}
    for link in links:
        one, other = group_of[id(link.one)], group_of[id(link.other)]
        if one is not other:
            one.extend(other)
            group_of.update({id(node): one for node in other})
    return list({id(group): group for group in group_of.values()}.values())


def _worth(group: Sequence[Node], overlaps: Sequence[Overlap]) -> tuple[int, bool, float, int]:
    """More sources first, then more in common; of two that are as good, the identifier before the address."""
    chosen = list(_one_a_source(group, overlaps).values())
    within = [one for one in overlaps if one.one in chosen and one.other in chosen]
    strength = sum(one.share for one in within) / max(len(within), 1)
    is_address = any(node.column.is_email for node in chosen)
    label_count = sum(node.column.is_label for node in chosen)
    is_served = any(node.is_served for node in chosen)
    strength *= _NEARLY_AS_GOOD if is_address else 1.0
    return len({node.source for node in group}), is_served, strength, label_count


def _one_a_source(group: Sequence[Node], overlaps: Sequence[Overlap]) -> dict[str, Node]:
    """Of a source's columns in the group, the one that has most in common with the others."""
    strength: dict[int, float] = defaultdict(float)
    for overlap in overlaps:
        if overlap.one in group and overlap.other in group:
            strength[id(overlap.one)] += overlap.common
            strength[id(overlap.other)] += overlap.common
    best: dict[str, Node] = {}
    for node in group:
        held = best.get(node.source)
        if held is None or (strength[id(node)], node.column.is_label) > (strength[id(held)], held.column.is_label):
            best[node.source] = node
    return best


def _without_overlap(nodes: Sequence[Node], tables: Sequence[Table]) -> list[Node]:
    """Where nothing overlaps: the addresses, else what is unique in the first source."""
    addresses = [node for node in nodes if node.column.is_email]
    if len({node.source for node in addresses}) > 1:
        return addresses
    first = tables[0]
    own = [Node(first, column) for column in first.columns]
    labels = [node for node in own if node.column.is_unique and node.column.is_label]
    return [next(iter([*labels, *(node for node in own if node.column.is_unique), *own]))]


def _towards(overlap: Overlap, hub: Node) -> Overlap:
    other = overlap.other if overlap.one is hub else overlap.one
    return Overlap(hub, other, overlap.common, overlap.of)


def _differs_in_case(connection: duckdb.DuckDBPyConnection, chosen: Mapping[str, Node], hub: Node) -> bool:
    """Whether keys are the same only without capitals."""
    for node in chosen.values():
        exact, folded = (_common(connection, hub, node, function) for function in ("", "lower"))
        if node is not hub and exact < folded:
            return True
    return False


def _common(connection: duckdb.DuckDBPyConnection, one: Node, other: Node, function: str) -> int:
    """The values that two columns share, after a function of SQL."""
    rows = [
        f"(SELECT DISTINCT {function}(strip({identifier(node.column.name)})) AS value "
        f"FROM {identifier(node.table.name)})"
        for node in (one, other)
    ]
    row = connection.execute(f"SELECT count(*) FROM {rows[0]} JOIN {rows[1]} USING (value)").fetchone()
    assert row is not None
    return int(row[0])
