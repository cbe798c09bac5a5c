"""The relations that a project's `sql/profiles.sql` reads, over one shard's slices.

Each source is a relation of its own name. The entity's relation has one row for each key: a struct for each source
with one record a key, null fields where it has none, and `base` (key, sources, shard_id, idempotency_key).
"""

import re
from collections.abc import Mapping, Sequence

import duckdb

from etl_assets.engine.files.layout import Home
from etl_assets.engine.keys import RECORDS, SOURCE_NAME, encoding_sql, records_sql
from etl_assets.engine.published.preview import MASK
from etl_assets.engine.published.shards import ShardInput
from etl_assets.engine.routing import shard_key_sql
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, identifiers, literal, pattern_list, statement
from etl_assets.errors import Action, Advice, ConfigError, ProfileError
from etl_assets.project.contract import BASE, IDEMPOTENCY_COLUMN, SHARD_COLUMN, SOURCES_COLUMN, Contract, Source
from etl_assets.project.loading import Project
from etl_assets.project.version import plain_sql

PROFILES_FILE = "sql/profiles.sql"
# Words of a query whose rows depend on other rows.
_ACROSS_ROWS = frozenset({"over", "group", "having", "distinct", "limit", "offset", "order", "qualify", "sample"})
# Macros of the engine that a project's SQL may use.
_ENGINE_MACROS = ("strip",)
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\w+|\S""")


def add_project_macros(connection: duckdb.DuckDBPyConnection, project: Project) -> None:
    """Define the project's macros, whichever order they need; ConfigError names every one that DuckDB refuses."""
    for name in _ENGINE_MACROS:
        connection.execute(statement(name))
    left = dict(project.macros)
    while left:
        errors = _define(connection, left)
        if len(errors) == len(left):
            raise _bad_macros(errors) from next(iter(errors.values()))
        left = {name: left[name] for name in errors}


def _define(connection: duckdb.DuckDBPyConnection, macros: Mapping[str, str]) -> dict[str, duckdb.Error]:
    """Define those macros that can be defined now; returns the errors of the others, which may need these first."""
    errors = {}
    for name, text in macros.items():
        try:
            connection.execute(text)
        except duckdb.Error as error:
            errors[name] = error
    return errors


def _bad_macros(errors: Mapping[str, duckdb.Error]) -> ConfigError:
    # A macro that lacks another one is refused too: those with a fault of their own come first.
    names = sorted(errors, key=lambda name: isinstance(errors[name], duckdb.CatalogException))
    listed = "; ".join(f"sql/macros/{name}.sql ({_first_line(errors[name])})" for name in names)
    return ConfigError(
        f"DuckDB refuses {listed}.", Advice(Action.EDIT, value=f"sql/macros/{names[0]}.sql"), subject=names[0]
    )


def check_profiles_sql(connection: duckdb.DuckDBPyConnection, site: Site) -> None:
    """Bind the project's query without reading a row; ProfileError when DuckDB refuses it or columns are missing.

    Always the form with structs, which is what the project's files promise.
    """
    contract = site.contract
    nothing = {source.name: _no_rows_sql(source) for source in contract.sources}
    try:
        # DESCRIBE binds and no more: 8 ms for each connection, where running it over no rows takes 17.
        query = _struct_form(_query_of(site.project), contract, nothing, literal(""))
        bound = connection.execute(f"DESCRIBE {query}").fetchall()
    except (duckdb.ProgrammingError, duckdb.NotSupportedError, duckdb.PermissionException) as error:
        raise ProfileError(
            f"DuckDB refuses {PROFILES_FILE} ({_first_line(error)}).",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=PROFILES_FILE,
        ) from error
    types = {row[0]: row[1] for row in bound}
    missing = [f"{BASE}.{name}" for name, type_name in _base_types(contract).items() if types.get(name) != type_name]
    missing += [column.name for column in contract.profile if column.name not in types]
    if missing:
        raise ProfileError(
            f"{PROFILES_FILE} does not select {', '.join(missing)}. Expected all four columns of {BASE} as they are, "
            "and every column that the contract declares under profile.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=PROFILES_FILE,
        )


def profiles_sql(site: Site, given: Sequence[ShardInput]) -> str:
    """The project's query over the slices of these shards: of one, or of several if it works row by row."""
    contract, text = site.contract, _query_of(site.project)
    slices = {source.name: _slice_sql(site.home, given, source) for source in contract.sources}
    form = _flat_form if is_flat(text, contract) else _struct_form
    first, key = given[0], identifier(contract.key.name)
    shard = literal(first.shard_id) if len(given) == 1 else shard_key_sql(key, first.shard_count)
    return form(text, contract, slices, shard)


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
    fields[BASE] = set(_base_types(contract))
    columns = {SOURCE_NAME, RECORDS}.union(*fields.values())
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


def _flat_form(text: str, contract: Contract, slices: Mapping[str, str], shard: str) -> str:
    """The query with the joined slices and `base` in the place of the entity."""
    fields = _base_fields(contract, shard)
    # The key keeps its name without an alias, which the other expressions would be taken to refer to.
    base = ", ".join(value if value == identifier(name) else f"{value} AS {name}" for name, value in fields.items())
    before = re.sub(rf'"?{contract.entity}"?$', "", text, flags=re.IGNORECASE)
    return f"{before}{_joined(contract, slices)},\nLATERAL (SELECT {base}) AS {BASE}"


def _struct_form(text: str, contract: Contract, slices: Mapping[str, str], shard: str) -> str:
    """The query over named relations: the sources', and the entity's with its structs."""
    views = ", ".join(
        f"{identifier(source.name)} AS (SELECT {identifiers(source.required)} FROM {slices[source.name]})"
        for source in contract.sources
    )
    structs = "".join(
        f", {_struct_sql(source)} AS {identifier(source.name)}" for source in contract.sources if not source.has_many
    )
    base = ", ".join(f"{identifier(name)} := {value}" for name, value in _base_fields(contract, shard).items())
    joined = _joined(contract, slices)
    entity = f"{identifier(contract.entity)} AS (SELECT struct_pack({base}) AS {BASE}{structs} FROM {joined})"
    return f"WITH {views}, {entity} SELECT * FROM (\n{text}\n)"


def _query_of(project: Project) -> str:
    return plain_sql(project.profiles_sql).rstrip("; ")


def _joined(contract: Contract, slices: Mapping[str, str]) -> str:
    """The slices joined by key; of a source with many records, their encodings in one row a key."""
    first, *others = [
        f"{_row_a_key(source, slices[source.name])} AS {identifier(source.name)}" for source in contract.sources
    ]
    return first + "".join(f"\nFULL JOIN {other} USING ({identifier(contract.key.name)})" for other in others)


def _row_a_key(source: Source, rows: str) -> str:
    if not source.has_many:
        return rows
    key = identifier(source.key.name)
    return (
        f"(SELECT '{source.name}' AS {SOURCE_NAME}, {key}, {records_sql(source)} AS {RECORDS} "
        f"FROM {rows} GROUP BY {key})"
    )


def _base_types(contract: Contract) -> dict[str, str]:
    """The columns of `base` and their types in DuckDB."""
    return {
        contract.key.name: "VARCHAR",
        SOURCES_COLUMN: "VARCHAR[]",
        SHARD_COLUMN: "VARCHAR",
        IDEMPOTENCY_COLUMN: "VARCHAR",
    }


def _base_fields(contract: Contract, shard: str) -> dict[str, str]:
    """The columns that the engine adds to the sources': name and SQL over the joined slices; `shard` is SQL too."""
    key = identifier(contract.key.name)
    names = ", ".join(f"{identifier(name)}.{SOURCE_NAME}" for name in contract.source_names)
    return {
        contract.key.name: key,
        SOURCES_COLUMN: f"list_filter([{names}], lambda name: name IS NOT NULL)",
        SHARD_COLUMN: shard,
        IDEMPOTENCY_COLUMN: f"{key} || ':' || stable_hash({encoding_sql(contract.sources)})",
    }


def _struct_sql(source: Source) -> str:
    fields = ", ".join(
        f"{identifier(column.name)} := {identifier(source.name)}.{identifier(column.name)}" for column in source.columns
    )
    return f"struct_pack({fields})"


def _slice_sql(home: Home, given: Sequence[ShardInput], source: Source) -> str:
    """A source's slices as a relation, with the source's name on every row so that presence shows after the joins."""
    paths = [home.snapshot(source.name, g.snapshots[source.name].folder) / f"{g.shard_id}.parquet" for g in given]
    columns = identifiers(source.required)
    return f"(SELECT '{source.name}' AS {SOURCE_NAME}, {columns} FROM read_parquet({pattern_list(paths)}))"


def _no_rows_sql(source: Source) -> str:
    """A relation like that of a slice, without rows."""
    columns = ", ".join(f"NULL::{column.duckdb} AS {identifier(column.name)}" for column in source.columns)
    key = identifier(source.key.name)
    return f"(SELECT '{source.name}' AS {SOURCE_NAME}, NULL::VARCHAR AS {key}, {columns} WHERE false)"


def refused_values(error: duckdb.Error, shard_id: str) -> ProfileError:
    """The error for values that the project's query cannot compute with.

    DuckDB quotes the value, which may be personal: what is in quotes is masked.
    """
    finding = re.sub(r"""'[^']*'|"[^"]*\"""", f"'{MASK}'", _first_line(error))
    return ProfileError(
        f"{shard_id}: {PROFILES_FILE} cannot be computed for a record ({finding}). Nothing was published.",
        Advice(Action.EDIT, value=PROFILES_FILE),
        subject=shard_id,
    )


def _first_line(error: duckdb.Error) -> str:
    return str(error).strip().splitlines()[0]
