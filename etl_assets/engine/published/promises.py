"""The contract's promises about profile columns: types, and as SQL ranges, allowed values, required values."""

import re
from collections.abc import Mapping

from etl_assets.engine.sql_text import identifier, literal
from etl_assets.project.columns import ColumnType
from etl_assets.project.contract import Contract, ProfileColumn

# What keeps a promised type. A sum of whole numbers is a HUGEINT, a sum of decimals has 38 digits.
_FAMILIES = {
    ColumnType.TEXT: r"VARCHAR|ENUM\(.*\)",
    ColumnType.INT: r"U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?",
    ColumnType.FLOAT: r"FLOAT|DOUBLE",
    ColumnType.DECIMAL: r"DECIMAL\(\d+,(?P<scale>\d+)\)",
    ColumnType.BOOL: r"BOOLEAN",
    ColumnType.DATE: r"DATE",
    ColumnType.TIMESTAMP: r"TIMESTAMP(_S|_MS|_NS| WITH TIME ZONE)?",
}


def broken_types(contract: Contract, types: Mapping[str, str]) -> dict[str, str]:
    """By profile column of another type than is promised: what is wrong, and how to write it.

    `types` are DuckDB's, by column. A type that no promise can name, such as a list, breaks none.
    """
    found = {}
    for column in contract.profile:
        bound = types.get(column.name, "")
        kind = next((kind for kind, form in _FAMILIES.items() if re.fullmatch(form, bound, re.DOTALL)), None)
        if kind is not None and not _is_kept(column, kind, bound):
            promised = column.duckdb.lower() if column.type is ColumnType.DECIMAL else column.type.value
            found[column.name] = (
                f"{column.name} is {bound}, but the contract promises {promised}: write CAST(… AS {column.duckdb}), or "
                f"declare type: {_declared(kind, bound)}"
            )
    return found


def _is_kept(column: ProfileColumn, kind: ColumnType, bound: str) -> bool:
    if kind is not column.type:
        return False
    digits = re.fullmatch(_FAMILIES[ColumnType.DECIMAL], bound)
    return digits is None or int(digits["scale"]) == column.scale


def _declared(kind: ColumnType, bound: str) -> str:
    return f'"{bound.lower()}"' if kind is ColumnType.DECIMAL else kind.value


def promise_rules(contract: Contract) -> dict[str, str]:
    """By column of which something is promised: SQL for whether a profile breaks it."""
    rules = {column.name: _broken_sql(column) for column in contract.profile}
    return {name: rule for name, rule in rules.items() if rule is not None}


def promised_text(column: ProfileColumn) -> str:
    """A column's promise in words: `0 to 100, not null`."""
    words = []
    if column.min is not None and column.max is not None:
        words.append(f"{column.min} to {column.max}")
    elif column.min is not None:
        words.append(f"at least {column.min}")
    elif column.max is not None:
        words.append(f"at most {column.max}")
    if column.values:
        words.append(f"one of {', '.join(column.values)}")
    return ", ".join([*words, *(["not null"] if column.required else [])])


def _broken_sql(column: ProfileColumn) -> str | None:
    """SQL for whether a profile breaks a column's promise; null never does unless it is required. None: no promise."""
    name = identifier(column.name)
    rules = []
    if column.min is not None:
        rules.append(f"{name} < {column.min}")
    if column.max is not None:
        rules.append(f"{name} > {column.max}")
    if column.values:
        rules.append(f"{name} NOT IN ({', '.join(literal(value) for value in column.values)})")
    if column.required:
        rules.append(f"{name} IS NULL")
    return " OR ".join(rules) if rules else None
