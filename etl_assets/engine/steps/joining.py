"""The relations that a project's `sql/profiles.sql` reads, over the slices of one shard or of several small ones.

Each source is a relation of its own name. The entity's relation has one row for each key: a struct for each source,
null fields where it has no record, and `base` (key, sources, shard_id, idempotency_key).
"""

import re
from collections.abc import Mapping, Sequence

import duckdb

from etl_assets.engine.files.layout import Home
from etl_assets.engine.keys import SOURCE_NAME, encoding_sql
from etl_assets.engine.published.shards import ShardInput
from etl_assets.engine.routing import shard_key_sql
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, identifiers, literal, pattern_list, statement
from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.project.contract import BASE, IDEMPOTENCY_COLUMN, SHARD_COLUMN, SOURCES_COLUMN, Contract, Source
from etl_assets.project.loading import Project
from etl_assets.project.version import plain_sql

# Macros of the engine that a project's SQL may use.
_ENGINE_MACROS = ("strip",)


def add_project_macros(connection: duckdb.DuckDBPyConnection, project: Project) -> None:
    """Define the project's macros, whichever order they need; ConfigError names one that DuckDB refuses."""
    for name in _ENGINE_MACROS:
        connection.execute(statement(name))
    left = dict(project.macros)
    while left:
        errors = _define(connection, left)
        if len(errors) == len(left):
            name, error = next(iter(errors.items()))
            raise ConfigError(
                f"sql/macros/{name}.sql cannot be used ({str(error).splitlines()[0]}).",
                Advice(Action.EDIT, value=f"sql/macros/{name}.sql"),
                subject=name,
            ) from error
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


def profiles_sql(site: Site, given: Sequence[ShardInput]) -> str:
    """The project's query over the slices of these shards."""
    contract = site.contract
    text = plain_sql(site.project.profiles_sql).rstrip("; ")
    sources = [f"{_slice_sql(site.home, given, source)} AS {identifier(source.name)}" for source in contract.sources]
    key = identifier(contract.key.name)
    joined = sources[0] + "".join(f"\nFULL JOIN {other} USING ({key})" for other in sources[1:])
    if _is_flat(text, contract):
        fields = _base_fields(contract, given)
        # The key keeps its name without an alias, which the other expressions would be taken to refer to.
        base = ", ".join(value if value == identifier(name) else f"{value} AS {name}" for name, value in fields.items())
        return f"{text[: -len(contract.entity)]}{joined},\nLATERAL (SELECT {base}) AS {BASE}"
    views = ", ".join(
        f"{identifier(s.name)} AS (SELECT {identifiers(s.required)} FROM {_slice_sql(site.home, given, s)})"
        for s in contract.sources
    )
    structs = ", ".join(f"{_struct_sql(source)} AS {identifier(source.name)}" for source in contract.sources)
    base = ", ".join(f"{identifier(name)} := {value}" for name, value in _base_fields(contract, given).items())
    entity = f"{identifier(contract.entity)} AS (SELECT struct_pack({base}) AS {BASE}, {structs} FROM {joined})"
    return f"WITH {views}, {entity} SELECT * FROM (\n{text}\n)"


def _is_flat(text: str, contract: Contract) -> bool:
    """Whether the query can read the joined slices themselves, which saves the making and opening of structs.

    It can where it ends in `FROM <entity>`, names the entity nowhere else and never asks for all columns of it.
    Structs took 4.5 % more CPU of a shard's build, the flat form 1.5 % more than a join by hand.
    """
    is_last = re.search(rf"\bFROM {re.escape(contract.entity)}$", text, re.IGNORECASE) is not None
    mentions = len(re.findall(rf"\b{re.escape(contract.entity)}\b", text, re.IGNORECASE))
    has_star = re.search(r"(?:\bSELECT|,)\s*\*", text, re.IGNORECASE) is not None
    is_one_select = len(re.findall(r"\bSELECT\b", text, re.IGNORECASE)) == 1 and not text.upper().startswith("WITH")
    return is_last and mentions == 1 and is_one_select and not has_star


def _base_fields(contract: Contract, given: Sequence[ShardInput]) -> dict[str, str]:
    """What the engine adds to the sources' columns: name and SQL over the joined slices."""
    key = identifier(contract.key.name)
    names = ", ".join(f"{identifier(name)}.{SOURCE_NAME}" for name in contract.source_names)
    return {
        contract.key.name: key,
        SOURCES_COLUMN: f"list_filter([{names}], lambda name: name IS NOT NULL)",
        SHARD_COLUMN: literal(given[0].shard_id) if len(given) == 1 else shard_key_sql(key, given[0].shard_count),
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
