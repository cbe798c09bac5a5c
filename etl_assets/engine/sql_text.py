"""Text of SQL: quoting of names, literals and file patterns, and the statements in `sql/`."""

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources
from pathlib import Path


@cache
def statement(name: str) -> str:
    """The text of `sql/<name>.sql`."""
    return (resources.files("etl_assets.engine") / "sql" / f"{name}.sql").read_text(encoding="utf-8")


def identifier(name: str) -> str:
    """`name` as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def identifiers(names: Iterable[str], *, of: str | None = None) -> str:
    """Names as a list of columns, all of the relation `of` if one is named."""
    prefix = f"{identifier(of)}." if of else ""
    return ", ".join(f"{prefix}{identifier(name)}" for name in names)


def literal(text: str) -> str:
    """`text` as an SQL string literal, for the statements that take no parameters (SET, COPY, ATTACH)."""
    return "'" + text.replace("'", "''") + "'"


def pattern(path: Path | str) -> str:
    """The pattern that only this path matches: `read_csv` and its like would take `[ab].csv` for a.csv and b.csv."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


def pattern_literal(path: Path | str) -> str:
    """`path` for the readers' functions in an SQL text."""
    return literal(pattern(path))


def parquet_sql(path: Path | str, *options: str) -> str:
    """The rows of one Parquet file. Folders of its path are no columns, whatever they are called."""
    return f"read_parquet({', '.join([pattern_literal(path), *options, 'hive_partitioning = false'])})"


def pattern_list(paths: Iterable[Path | str]) -> str:
    """Paths as a list for the readers' functions in an SQL text."""
    return f"[{', '.join(pattern_literal(path) for path in paths)}]"
