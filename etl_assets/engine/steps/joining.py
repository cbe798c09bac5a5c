"""A project's `sql/profiles.sql` over the relations that it reads: bound before anything is built, then run."""

import re
from collections.abc import Mapping, Sequence

import duckdb

from etl_assets.engine.keys import RECORDS, SOURCE_NAME
from etl_assets.engine.published.masking import masked
from etl_assets.engine.published.promises import broken_types
from etl_assets.engine.published.shards import ShardInput
from etl_assets.engine.reading.rules import ISSUES
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, statement
from etl_assets.engine.steps.macro_cycles import find_cycle
from etl_assets.engine.steps.relations import Relations, base_types, needed_of_base, over_nothing, over_slices
from etl_assets.errors import Action, Advice, ConfigError, ProfileError
from etl_assets.project.contract import BASE, Contract
from etl_assets.project.loading import Project
from etl_assets.project.version import plain_sql

PROFILES_FILE = "sql/profiles.sql"
# Words of a query whose rows depend on other rows.
_ACROSS_ROWS = frozenset({"over", "group", "having", "distinct", "limit", "offset", "order", "qualify", "sample"})
# Macros of the engine that a project's SQL may use.
_ENGINE_MACROS = ("strip",)
# What a query is made of: quoted text, words, and single signs.
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|\S""")


def add_project_macros(connection: duckdb.DuckDBPyConnection, project: Project) -> None:
    """Define the project's macros, whichever order they need; ConfigError names every one that DuckDB refuses."""
    errors = refused_macros(connection, project)
    if errors:
        cycle = find_cycle({name: project.macros[name] for name in errors})
        raise _bad_macros(errors, cycle) from next(iter(errors.values()))


def refused_macros(connection: duckdb.DuckDBPyConnection, project: Project) -> dict[str, duckdb.Error]:
    """Define the project's macros, whichever order they need; returns the errors of those that DuckDB refuses."""
    for name in _ENGINE_MACROS:
        connection.execute(statement(name))
    left = dict(project.macros)
    while left:
        errors = _define(connection, left)
        if len(errors) == len(left):
            return errors
        left = {name: left[name] for name in errors}
    return {}


def _define(connection: duckdb.DuckDBPyConnection, macros: Mapping[str, str]) -> dict[str, duckdb.Error]:
    """Define those macros that can be defined now; returns the errors of the others, which may need these first."""
    errors = {}
    for name, text in macros.items():
        try:
            connection.execute(text)
        except duckdb.Error as error:
            errors[name] = error
    return errors


def _bad_macros(errors: Mapping[str, duckdb.Error], cycle: Sequence[str]) -> ConfigError:
    # A macro that lacks another one is refused too: those with a fault of their own come first.
    names = sorted(errors, key=lambda name: isinstance(errors[name], duckdb.CatalogException))
    listed = "; ".join(f"sql/macros/{name}.sql ({_first_line(errors[name])})" for name in names)
    circular = f" A macro may not call itself: {' → '.join([*cycle, cycle[0]])}." if cycle else ""
    return ConfigError(
        f"DuckDB refuses {listed}.{circular}",
        Advice(Action.EDIT, value=f"sql/macros/{names[0]}.sql"),
        subject=names[0],
    )


def check_profiles_sql(connection: duckdb.DuckDBPyConnection, site: Site) -> dict[str, str]:
    """Bind the project's query without reading a row; returns the types of its columns.

    ProfileError when DuckDB refuses it or columns are missing.

    Always the form with structs, which is what the project's files promise.
    """
    contract = site.contract
    try:
        # DESCRIBE binds and no more: 8 ms for each connection, where running it over no rows takes 17.
        query = struct_form(_query_of(site.project), over_nothing(contract))
        bound = connection.execute(f"DESCRIBE {query}").fetchall()
    except (duckdb.ProgrammingError, duckdb.NotSupportedError, duckdb.PermissionException) as error:
        raise ProfileError(
            f"DuckDB refuses {PROFILES_FILE} ({_first_line(error)}).",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=PROFILES_FILE,
        ) from error
    types = {row[0]: row[1] for row in bound}
    missing = missing_of_profile(contract, types)
    if missing:
        raise ProfileError(
            f"{PROFILES_FILE} does not select {', '.join(missing)}. Expected {', '.join(needed_of_base(contract))} of "
            f"{BASE} as they are, and every column that the contract declares under profile.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=PROFILES_FILE,
        )
    broken = broken_types(contract, types)
    if broken:
        raise ProfileError(
            f"{PROFILES_FILE}: {'; '.join(broken.values())}.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=PROFILES_FILE,
        )
    return types


def missing_of_profile(contract: Contract, types: Mapping[str, str]) -> list[str]:
    """What a query that gives columns of these types lacks."""
    wanted = needed_of_base(contract)
    missing = [f"{BASE}.{name}" for name, type_name in wanted.items() if types.get(name) != type_name]
    return missing + [column.name for column in contract.profile if column.name not in types]


def profiles_sql(site: Site, given: Sequence[ShardInput]) -> str:
    """The project's query over the slices of these shards: of one, or of several if it works row by row."""
    text = _query_of(site.project)
    form = _flat_form if is_flat(text, site.contract) else struct_form
    return form(text, over_slices(site, given))


def is_row_wise(site: Site) -> bool:
    """Whether a profile depends on its own records only, so that several shards may be joined in one statement."""
    text = _query_of(site.project)
    return is_flat(text, site.contract) and not _ACROSS_ROWS & {token.lower() for token in _TOKEN.findall(text)}


def is_flat(text: str, contract: Contract) -> bool:
    """Whether the query can read the joined slices themselves, which saves the making and opening of structs.

    It can where it is one SELECT that ends in `FROM <entity>` and names nothing but declared fields of `base` and the
    sources, with their relation: then the columns that only the joined slices have cannot show. When in doubt it is
    not. Structs took 4.5 % more CPU of a shard's build, the flat form 1.5 % more than a join written by hand.
    """
    words = ["", "", *(token.strip('"').lower() for token in _TOKEN.findall(text)), "", ""]
    fields = {source.name: {column.name for column in source.columns} for source in contract.sources}
    # A source with many records has no struct: only a query of its own can read it.
    many = {source.name for source in contract.sources if source.has_many}
    fields[BASE] = set(base_types(contract))
    columns = {SOURCE_NAME, RECORDS, ISSUES}.union(*fields.values())
    is_one_select = all(words.count(word) == 1 for word in ("select", "from", contract.entity))
    if not is_one_select or words[-4:-2] != ["from", contract.entity] or {"with", "columns", *many} & set(words):
        return False
    for place, word in enumerate(words):
        before, after = words[place - 1], words[place + 1 : place + 3]
        if word == "*" and words[place - 2 : place] != [BASE, "."]:
            return False
        if before in (".", "as"):
            continue
        if word in fields and not (after[0] == "." and (after[1] in fields[word] or after == [".", "*"])):
            return False
        if word in columns and word not in fields:
            return False
    return True


def _flat_form(text: str, relations: Relations) -> str:
    """The query with the joined slices and `base` in the place of the entity."""
    # The key keeps its name without an alias, which the other expressions would be taken to refer to.
    base = ", ".join(
        value if value == identifier(name) else f"{value} AS {name}" for name, value in relations.base_fields().items()
    )
    before = re.sub(rf'"?{relations.contract.entity}"?$', "", text, flags=re.IGNORECASE)
    return f"{before}{relations.joined()},\nLATERAL (SELECT {base}) AS {BASE}"


def struct_form(text: str, relations: Relations) -> str:
    """The query over named relations: the sources', and the entity's with its structs."""
    return f"WITH {relations.views()} SELECT * FROM (\n{text}\n)"


def _query_of(project: Project) -> str:
    return plain_sql(project.profiles_sql).rstrip("; ")


def refused_values(error: duckdb.Error, shard_id: str) -> ProfileError:
    """The error for values that the project's query cannot compute with.

    DuckDB quotes the value, which may be personal, so it is masked.
    """
    return ProfileError(
        f"{shard_id}: {PROFILES_FILE} cannot be computed for a record ({masked(error)}). Nothing was published.",
        Advice(Action.EDIT, value=PROFILES_FILE),
        subject=shard_id,
    )


def _first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0]
