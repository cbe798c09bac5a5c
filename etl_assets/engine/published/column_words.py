"""The words `unique` and `relationships` on a column, as a query for the rows that break them and as a sentence.

A column of the profile is read from the warehouse, one of a source from its accepted rows.
"""

from etl_assets.engine.published.failing_rows import STAGED
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.sql_text import identifier
from etl_assets.project.column_checks import ColumnCheck
from etl_assets.project.contract import Contract


def word_sql(check: ColumnCheck, contract: Contract) -> str:
    """A query for the rows that break the word; null breaks neither."""
    column = identifier(check.column)
    relation = _staged(check.source.name) if check.source else PROFILES_TABLE
    if check.relationship is None:
        return (
            f"SELECT {column}, count(*) AS occurrences FROM {relation} WHERE {column} IS NOT NULL "
            f"GROUP BY {column} HAVING count(*) > 1"
        )
    other = identifier(check.relationship.column or contract.key.name)
    return (
        f"SELECT {identifier(contract.key.name)}, {column} FROM {relation} WHERE {column} IS NOT NULL AND {column} "
        f"NOT IN (SELECT {other} FROM {_staged(check.relationship.to)} WHERE {other} IS NOT NULL)"
    )


def word_text(check: ColumnCheck, contract: Contract) -> str:
    """What the word promises."""
    rows = f"rows of {check.source.label}" if check.source else "profiles"
    if check.relationship is None:
        return f"No two {rows} have the same {check.column}."
    label = contract.source(check.relationship.to).label
    return f"Each {check.column} in {rows} is a {check.relationship.column or contract.key.name} of {label}."


def _staged(source: str) -> str:
    return f"{STAGED}.{identifier(source)}"
