"""The words that mean null in an export: those that programs write by default, and what a project declares instead.

Deliberately without `NA`, which is Namibia, North America and a grade, and without `none`, `unknown` and `0`, which are
values of many columns. A word that a column declares among its `values` is a value there.
"""

from etl_assets.project.columns import Column
from etl_assets.project.dialect import Dialect

# Databases, pandas, Python, spreadsheets and pivot tables.
DEFAULT_NULLS = (
    *("NULL", "null", "(null)", "<null>", "\\N", "None", "nan", "NaN", "NaT", "<NA>"),
    *("N/A", "n/a", "#N/A", "#NV", "(blank)", "-"),
)
# What a spreadsheet writes where a formula failed. No value in a text; in a number, a bad cell; in a key, a damaged id.
SHEET_ERRORS = ("#REF!", "#NAME?", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!")


def declared_nulls(dialect: Dialect, column: Column | None = None) -> tuple[str, ...] | None:
    """The words that the column declares, else those of its file; None where the default words count."""
    return column.nulls if column is not None and column.nulls is not None else dialect.nulls


def text_nulls(dialect: Dialect, column: Column) -> tuple[str, ...]:
    """The words that are null in a column of texts; case counts, because `Null`, `NONE` and `Nan` are names."""
    declared = declared_nulls(dialect, column)
    if declared is not None:
        return declared
    return tuple(word for word in (*DEFAULT_NULLS, *SHEET_ERRORS) if word not in column.values)


def folded_nulls() -> tuple[str, ...]:
    """The default words in a key, a number, a date or a truth value, where case does not count, in lower case."""
    return tuple(dict.fromkeys(word.lower() for word in DEFAULT_NULLS))


def key_refuses_defaults(dialect: Dialect) -> bool:
    """Whether the default words are no ids: always, unless the project says that no word at all is null."""
    return dialect.nulls is None or any(word.strip() for word in dialect.nulls)
