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

    @cached_property
    def nulled(self) -> dict[Column, str]:
        """The columns whose bad cells become null, and SQL for whether a row's cell is bad.

        None where the contract says of no cell that it may be lost: then a list in a text costs its row.
        """
        if not self.source.has_issues:
            return {}
        rules = {column: self.of(column) for column in self.source.columns if self.source.nulls(column)}
        return {column: f"coalesce({' OR '.join(broken)}, false)" for column, broken in rules.items() if broken}

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
            rules = self.of(column)
            if rules and column not in self.nulled:
                whens.append(f"WHEN {' OR '.join(rules)} THEN {literal(f'invalid:{column.name}')}")
            if column.name in self.source.needed:
                whens.append(f"WHEN {identifier(column.name)} IS NULL THEN {literal(f'missing:{column.name}')}")
        return f"CASE {' '.join(whens)} END"

    def issues(self) -> str:
        """What is wrong with the cells of a row, and these cells, as SQL.

        Of an accepted row, the columns whose cells became null; of a rejected one, all reasons besides its own.
        """
        others = self._other_reasons()
        reasons, cells = _listed(others)
        if not self.nulled:
            return (
                f"CASE WHEN {REASON} IS NOT NULL THEN {reasons} END AS {ISSUES}, "
                f"CASE WHEN {REASON} IS NOT NULL THEN {cells} END AS {BAD_CELLS}"
            )
        is_any = " OR ".join(self.nulled.values())
        names, bad_cells = _listed([(bad, column.name, cell_name(column.name)) for column, bad in self.nulled.items()])
        return (
            f"CASE WHEN {REASON} IS NOT NULL THEN {reasons} WHEN {is_any} THEN {names} END AS {ISSUES}, "
            f"CASE WHEN {REASON} IS NOT NULL THEN {cells} WHEN {is_any} THEN {bad_cells} END AS {BAD_CELLS}"
        )

    def _other_reasons(self) -> list[tuple[str, str, str]]:
        """What may be wrong with the cells of a rejected row besides its reason: condition, reason and cell, as SQL.

        Nothing with those of a row that is too long: they were not read.
        """
        found = []
        for column in self.source.columns:
            invalid, cell = f"invalid:{column.name}", cell_name(column.name)
            rules = self.of(column)
            if rules:
                found.append((_not_for(invalid, f"({' OR '.join(rules)})"), invalid, cell))
            if column.name in self.source.needed:
                missing, name = f"missing:{column.name}", identifier(column.name)
                is_invalid = " OR ".join(
                    [f"{REASON} = {literal(invalid)}", *(f"coalesce({one}, false)" for one in rules)]
                )
                empty = f"{name} IS NULL AND NOT ({is_invalid})"
                found.append((_not_for(missing, empty), missing, f"coalesce({cell}, '')" if rules else "''"))
        return found

    def kept(self, column: Column) -> str:
        """A column's value as it is kept: null where it broke a rule that its type alone does not tell."""
        name, bad = identifier(column.name), self.nulled.get(column)
        has_limits = column.min is not None or column.max is not None or column.values or column.pattern
        may_be_bad = has_limits or (self.may_be_nested and column.type is ColumnType.TEXT)
        return f"CASE WHEN NOT {bad} THEN {name} END AS {name}" if bad and may_be_bad else name

    def _nested(self, name: str) -> list[str]:
        return [f"contains({NESTED}, {literal(f',{name},')})"] if self.may_be_nested else []


def _not_for(reason: str, condition: str) -> str:
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
