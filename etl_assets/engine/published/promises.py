"""The contract's promises about profile columns, as SQL: ranges, allowed values, required values."""

from etl_assets.engine.sql_text import identifier, literal
from etl_assets.project.contract import Contract, ProfileColumn


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
