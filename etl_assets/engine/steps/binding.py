"""What DuckDB refuses of a project's SQL: all of it at once, with file and line, over relations without rows.

For `etl-assets check`, and for `etl-assets run` before it builds anything. A shard that Dagster starts binds the query
in `joining`, and stops at the first error.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.hashing import STABLE_HASH_MACRO
from etl_assets.engine.published.checks import warehouse_checks
from etl_assets.engine.published.failing_rows import RefusedError, add_views, bind
from etl_assets.engine.published.promises import broken_types
from etl_assets.engine.published.tables import warehouse_tables
from etl_assets.engine.published.warehouse import PROFILES_TABLE
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier
from etl_assets.engine.steps.joining import PROFILES_FILE, missing_of_profile, refused_macros, struct_form
from etl_assets.engine.steps.macro_cycles import find_cycle
from etl_assets.engine.steps.relations import base_types, over_nothing
from etl_assets.errors import ConfigError
from etl_assets.project.contract import BASE, Contract
from etl_assets.project.version import plain_sql

_LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)
_LINES_KEPT = 3
_FIELD = re.compile(r'(?<![\w.])"?(\w+)"?\."?(\w+)"?(?!\s*\()')
_NO_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'", re.DOTALL)


@dataclass(frozen=True)
class Refusal:
    """Something wrong in a file of the project; `line` is None where it is about the whole file."""

    file: str
    line: int | None
    text: str


def refusals(site: Site) -> list[Refusal]:
    """Everything in macros, `sql/profiles.sql` and checks that DuckDB refuses or that lacks what is promised."""
    with duck.reader() as connection:
        duck.add_hashing(connection)
        connection.execute(STABLE_HASH_MACRO)
        errors = refused_macros(connection, site.project)
        found = _of_macros(site.project.macros, errors)
        columns, of_profiles = _bind_profiles(connection, site)
        # What needs a macro that is refused has no fault of its own.
        found += [one for one in of_profiles if not _is_about(one.text, errors)]
        if columns is not None:
            found += _of_checks(site, columns)
    return found


def _of_macros(macros: Mapping[str, str], errors: Mapping[str, duckdb.Error]) -> list[Refusal]:
    cycle = find_cycle({name: macros[name] for name in errors})
    found = []
    for name, error in errors.items():
        text = f"a macro that calls itself: {' → '.join([*cycle, cycle[0]])}" if name in cycle else _worded(error)
        found.append(Refusal(f"sql/macros/{name}.sql", _line(error), text))
    return found


def _bind_profiles(connection: duckdb.DuckDBPyConnection, site: Site) -> tuple[dict[str, str] | None, list[Refusal]]:
    """The columns of a profile and their types, None where the query cannot be bound; and what is wrong."""
    relations = over_nothing(site.contract)
    text = site.project.profiles_sql
    before = struct_form("\0", relations).partition("\0")[0].count("\n")
    try:
        bound = connection.execute(f"DESCRIBE {struct_form(plain_sql(text).rstrip('; '), relations)}").fetchall()
    except duckdb.Error as error:
        # Bound as it is written, the error has the line of the file; a semicolon would end the query inside another.
        line = _line_of(connection, f"DESCRIBE {struct_form(text.rstrip().rstrip(';'), relations)}")
        place = line - before if line is not None and line > before else None
        # DuckDB stops at the first unknown field, and says of fields of structs not where they are.
        fields = unknown_fields(text, site.contract)
        is_of_field = any(f'"{name}"' in str(error) for name in fields)
        first = [] if is_of_field else [Refusal(PROFILES_FILE, place, _worded(error))]
        return None, first + list(fields.values())
    types = {str(row[0]): str(row[1]) for row in bound}
    missing = missing_of_profile(site.contract, types)
    texts = [f"it does not select {name}" for name in missing] + list(broken_types(site.contract, types).values())
    return types, [Refusal(PROFILES_FILE, None, text) for text in texts]


def unknown_fields(text: str, contract: Contract) -> dict[str, Refusal]:
    """The fields of sources and `base` in a query that none of them has, each once, with the nearest one."""
    known = {source.name: [contract.key.name, *(one.name for one in source.columns)] for source in contract.sources}
    known[BASE] = list(base_types(contract))
    found: dict[str, Refusal] = {}
    for number, line in enumerate(_without_comments(text), start=1):
        for match in _FIELD.finditer(line):
            relation, name = match[1].lower(), match[2]
            if relation not in known or name.lower() in known[relation]:
                continue
            close = get_close_matches(name.lower(), known[relation], n=1)
            hint = f"did you mean {relation}.{close[0]}?" if close else f"known are {', '.join(known[relation])}"
            found.setdefault(name, Refusal(PROFILES_FILE, number, f"{relation} has no column {name}; {hint}"))
    return found


def _without_comments(text: str) -> list[str]:
    """The lines, with blanks in the place of comments and of text in quotes."""
    blank = _NO_CODE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    return blank.split("\n")


def _of_checks(site: Site, columns: Mapping[str, str]) -> list[Refusal]:
    """The checks, bound as a merge binds them: to the warehouse's tables and the sources, without the macros."""
    try:
        checks = [check for check in warehouse_checks(site.project) if check.file]
    except ConfigError as error:
        return [Refusal(error.subject or "sql/checks", None, error.finding)]
    profiles, *others = warehouse_tables(site.contract)
    assert profiles.name == PROFILES_TABLE
    listed = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
    found = []
    with duck.reader() as connection:
        connection.execute(f"CREATE TABLE {identifier(profiles.name)} ({listed})")
        for table in others:
            table.create(connection)
        rows = over_nothing(site.contract).slices
        add_views(connection, site.contract, rows, [check.statement for check in checks])
        for check in checks:
            try:
                bind(connection, check.statement)
            except RefusedError as error:
                cause = error.__cause__
                text = _worded(cause) if isinstance(cause, duckdb.Error) else str(error)
                line = _line_of(connection, f"DESCRIBE {check.statement}")
                found.append(Refusal(check.file, line, text))
    return found


def _line_of(connection: duckdb.DuckDBPyConnection, statement: str) -> int | None:
    try:
        connection.execute(statement)
    except duckdb.Error as error:
        return _line(error)
    return None


def _line(error: duckdb.Error) -> int | None:
    found = _LINE.search(str(error))
    return int(found[1]) if found else None


def _worded(error: duckdb.Error) -> str:
    """DuckDB's finding with the names that it proposes, without the excerpt of the statement."""
    lines: Sequence[str] = _LINE.split(str(error))[0].split("\n")
    return " ".join(" ".join(line.strip() for line in lines[:_LINES_KEPT]).split())


def _is_about(text: str, macros: Mapping[str, duckdb.Error]) -> bool:
    return any(re.search(rf"Function with name {re.escape(name)} does not exist", text) for name in macros)
