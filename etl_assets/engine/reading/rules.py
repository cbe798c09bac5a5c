"""The rules of a contract as SQL: why a row is rejected, which of its cells are bad, and what is kept of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from etl_assets.engine.reading.null_cells import filled_cell_sql, is_damaged_key_sql
from etl_assets.engine.reading.quarantine import MALFORMED
from etl_assets.engine.sql_text import identifier, literal
from etl_assets.project.columns import Column, ColumnType
from etl_assets.project.contract import Source
from etl_assets.project.identity import Damaged, Key

# The rule that a row broke.
REASON = "_reason"
# Whether a row is longer than any may be. Only Parquet has such rows: in a CSV file they are damage, and left out.
OVERLONG = "_overlong"
# Names of the columns whose cells are lists or objects, each between commas. Only records of objects have such cells.
NESTED = "_nested"
# Of an accepted row, the columns whose cells broke a rule and became null; of a rejected one, what it broke besides its
# reason. There are commas between them. And what was in these cells.
ISSUES, BAD_CELLS = "_issues", "_bad_cells"
# Whether the row's id is not in the key map, or is there with several keys.
UNMAPPED, AMBIGUOUS = "_unmapped", "_ambiguous"
_CELL_CHARS = 1_000


def unmapped_key(key: Key) -> str:
    """The reason of a row whose id the key map lacks."""
    return f"unmapped_{key.name}"


def ambiguous_key(key: Key) -> str:
    """The reason of a row whose id the key map gives several keys."""
    return f"ambiguous_{key.name}"


def cell_name(name: str) -> str:
    """The name under which a column's cells are read, before they are values."""
    return identifier(f"_cell_{name}")


@dataclass(frozen=True)
class Rules:
    """What a source's rows are judged by, as SQL."""

    source: Source
    may_be_nested: bool
    # SQL for whether the default words for null count in the file of a row.
    has_defaults: str

    def of(self, column: Column) -> list[str]:
        """The conditions under which a cell of this column is bad."""
        has_defaults = self.has_defaults if column.nulls is None else "false"
        return [*self._nested(column.name), *_broken_rules(column, has_defaults)]

    def flags(self) -> str:
        """Whether the cell of each column that has rules is bad, as columns behind others, which the rest asks."""
        return "".join(f", coalesce({' OR '.join(self.of(one))}, false) AS {_flag(one)}" for one in self._breakable)

    @cached_property
    def _breakable(self) -> tuple[Column, ...]:
        return tuple(column for column in self.source.columns if self.of(column))

    @cached_property
    def _nulled(self) -> tuple[Column, ...]:
        """The columns whose bad cells become null.

        None where the contract says of no cell that it may be lost: then a list in a text costs its row.
        """
        return tuple(one for one in self._breakable if self.source.has_issues and self.source.nulls(one))

    def reason(self, *, may_be_overlong: bool) -> str:
        """The first rule of the contract that a row breaks, as SQL; null for a sound row."""
        key = self.source.key
        broken = [*self._nested(key.name), f"length({identifier(key.name)}) > {key.max_chars}"]
        if key.damaged is Damaged.REJECT:
            broken.append(is_damaged_key_sql(identifier(key.name), len(self.source.key_headers)))
        whens = [
            *([f"WHEN {OVERLONG} THEN {literal(MALFORMED)}"] if may_be_overlong else []),
            f"WHEN {identifier(key.name)} IS NULL THEN {literal(f'missing_{key.name}')}",
            f"WHEN {' OR '.join(broken)} THEN {literal(f'invalid:{key.name}')}",
        ]
        if self.source.key_map:
            whens += [
                f"WHEN {UNMAPPED} THEN {literal(unmapped_key(key))}",
                f"WHEN {AMBIGUOUS} THEN {literal(ambiguous_key(key))}",
            ]
        for column in self.source.columns:
            if column in self._breakable and column not in self._nulled:
                whens.append(f"WHEN {_flag(column)} THEN {literal(f'invalid:{column.name}')}")
            if column.name in self.source.needed:
                whens.append(f"WHEN {identifier(column.name)} IS NULL THEN {literal(f'missing:{column.name}')}")
        return f"CASE {' '.join(whens)} END"

    def issues(self) -> str:
        """What is wrong with the cells of a row, and these cells, as SQL.

        Of an accepted row, the columns whose cells became null; of a rejected one, all reasons besides its own.
        """
        names, cells = _listed([(_flag(one), one.name, cell_name(one.name)) for one in self._nulled])
        reasons, bad_cells = _listed(self._other_reasons())
        is_any = " OR ".join(map(_flag, self._nulled)) or "false"
        return (
            f"CASE WHEN {REASON} IS NOT NULL THEN {reasons} WHEN {is_any} THEN {names} END AS {ISSUES}, "
            f"CASE WHEN {REASON} IS NOT NULL THEN {bad_cells} WHEN {is_any} THEN {cells} END AS {BAD_CELLS}"
        )

    def _other_reasons(self) -> list[tuple[str, str, str]]:
        """What may be wrong with the cells of a rejected row besides its reason: condition, reason and cell, as SQL.

        Nothing with those of a row that is too long: they were not read.
        """
        found = []
        for column in self.source.columns:
            invalid, missing, cell = f"invalid:{column.name}", f"missing:{column.name}", cell_name(column.name)
            is_breakable = column in self._breakable
            if is_breakable:
                found.append((_besides(invalid, _flag(column)), invalid, cell))
            if column.name in self.source.needed:
                empty = f"{identifier(column.name)} IS NULL" + (f" AND NOT {_flag(column)}" if is_breakable else "")
                found.append((_besides(missing, empty), missing, f"coalesce({cell}, '')" if is_breakable else "''"))
        return found

    def kept(self, column: Column) -> str:
        """A column's value as it is kept: null where it broke a rule that its type alone does not tell."""
        name = identifier(column.name)
        has_limits = column.min is not None or column.max is not None or column.values or column.pattern
        may_be_bad = has_limits or (self.may_be_nested and column.type is ColumnType.TEXT)
        is_lost = column in self._nulled and may_be_bad
        return f"CASE WHEN NOT {_flag(column)} THEN {name} END AS {name}" if is_lost else name

    def _nested(self, name: str) -> list[str]:
        return [f"contains({NESTED}, {literal(f',{name},')})"] if self.may_be_nested else []


def _flag(column: Column) -> str:
    """Whether the cell of this column is bad."""
    return identifier(f"_bad_{column.name}")


def _besides(reason: str, condition: str) -> str:
    return f"{REASON} NOT IN ({literal(reason)}, {literal(MALFORMED)}) AND {condition}"


def _listed(entries: Sequence[tuple[str, str, str]]) -> tuple[str, str]:
    """The names whose condition holds, with commas between them, and the list of their cells."""
    if not entries:
        return "NULL::VARCHAR", "NULL::VARCHAR[]"
    names = ", ".join(f"CASE WHEN {condition} THEN {literal(name)} END" for condition, name, _ in entries)
    cells = ", ".join(f"CASE WHEN {condition} THEN left({cell}, {_CELL_CHARS}) END" for condition, _, cell in entries)
    return f"nullif(concat_ws(',', {names}), '')", f"list_filter([{cells}], lambda cell: cell IS NOT NULL)"


def _broken_rules(column: Column, has_defaults: str) -> Iterator[str]:
    name = identifier(column.name)
    if column.type is not ColumnType.TEXT:
        # Deliberately not AND, which DuckDB computes on both sides for every row.
        yield f"CASE WHEN {name} IS NULL THEN {filled_cell_sql(cell_name(column.name), has_defaults)} ELSE false END"
    if column.min is not None:
        yield f"{name} < {column.min}"
    if column.max is not None:
        yield f"{name} > {column.max}"
    if column.values:
        yield f"{name} NOT IN ({', '.join(literal(value) for value in column.values)})"
    if column.pattern:
        yield f"NOT regexp_full_match({name}, {literal(column.pattern)})"
