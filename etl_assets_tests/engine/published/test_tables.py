"""The published tables: each declared once, filled from what the engine has, its meanings written beside the data."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts, tables
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.shards import Manifest
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.published.tables import Table, TableColumn
from etl_assets.engine.published.warehouse import Publication, read_publication
from etl_assets.engine.steps.build_many import ShardsRequest, build_shards
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.project.contract import Contract
from etl_assets_tests.factory import (
    LIMITS,
    PROJECT,
    SOURCES,
    query,
    row,
    site_at,
    stage_all,
    staging_request,
    write_csv,
    write_exports,
)

CONTRACT = PROJECT.contract
STAFF = Contract.model_validate(
    {
        "name": "staff",
        "entity": "people",
        "key": {"name": "person"},
        "sources": {"payroll": {"title": "Payroll", "columns": {"team": {"meaning": "Where they work"}, "room": None}}},
        "profile": {"team": {"meaning": "Their team"}, "grade": {"type": "int"}},
    }
)
# The types whose objects are inserted as they are.
_INSERTED: Mapping[str, tuple[Table, type]] = {
    "shard_manifest": (tables.SHARD_MANIFEST, Manifest),
    "shard_attempts": (tables.SHARD_ATTEMPTS, Attempt),
    "source_snapshots": (tables.SOURCE_SNAPSHOTS, Snapshot),
    "publication": (tables.PUBLICATION, Publication),
}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three shards with attempts, rejected rows and a column that the contract does not name; no test changes it."""
    folder = tmp_path_factory.mktemp("tables")
    site = site_at(Home(folder / "home"))
    write_exports(folder / "sources", crm=[row(name) for name in "abcdef"] + [row("")], billing=[row("a"), row("a")])
    write_csv(
        folder / "sources" / "support.csv",
        CONTRACT.source("support"),
        [row("b", note="x", kind="y")],
        [*CONTRACT.source("support").required, "note", "kind"],
    )
    stage_all(staging_request(folder / "sources", site))
    list(build_shards(ShardsRequest(site, LIMITS, "run", 1), site.shard_ids))
    merge_shards(site, LIMITS, run_id="run")
    return site.home


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect()) as opened:
        yield opened


def _described(warehouse: Home, table: str) -> list[tuple[Any, ...]]:
    types = {"TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ"}
    return [(name, types.get(kind, kind)) for name, kind, *_ in query(warehouse.warehouse, f"DESCRIBE {table}")]


def test_the_warehouse_holds_exactly_the_declared_tables(warehouse: Home) -> None:
    """Fails: `query --help` and the documentation list tables that are not there, or leave one out."""
    found = query(warehouse.warehouse, "SELECT table_name FROM duckdb_tables() ORDER BY 1")
    assert [name for (name,) in found] == sorted(tables.table_names())


@pytest.mark.parametrize("contract", [CONTRACT, STAFF])
def test_table_names_are_the_same_for_every_contract_and_declared_once(contract: Contract) -> None:
    names = [table.name for table in tables.warehouse_tables(contract)]
    assert tuple(names) == tables.table_names()
    assert len(set(names)) == len(names)


def test_every_table_has_the_declared_columns_in_their_order_and_types(warehouse: Home) -> None:
    for table in tables.warehouse_tables(CONTRACT):
        if table.name != "merged_profiles":
            assert _described(warehouse, table.name) == [(column.name, column.type) for column in table.columns]


def test_every_column_of_every_table_says_what_it_means(warehouse: Home) -> None:
    """Fails: a person who opens the warehouse in a notebook has to guess."""
    uncommented = query(
        warehouse.warehouse,
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal AND coalesce(comment, '') = ''",
    )
    assert uncommented == []
    assert query(warehouse.warehouse, "SELECT table_name FROM duckdb_tables() WHERE coalesce(comment, '') = ''") == []


def test_the_comments_are_the_declared_meanings(warehouse: Home) -> None:
    comments = dict(
        query(
            warehouse.warehouse,
            "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'merged_profiles'",
        )
    )
    declared = {column.name: column.meaning for column in CONTRACT.profile}
    assert {name: comments[name] for name in declared} == declared
    mrr = next(column for column in CONTRACT.source("billing").columns if column.name == "mrr")
    assert comments["mrr"] == f"{mrr.meaning} (Billing)"
    assert comments["shard_id"] == "The shard that holds the profile"


def test_meanings_follow_the_contract_and_know_no_domain() -> None:
    """Fails: the warehouse of a project about staff speaks of customers."""
    meanings = {column.name: column.meaning for column in tables.profiles_table(STAFF).columns}
    assert meanings["person"] == "The key; unique"
    assert meanings["team"] == "Their team"
    assert meanings["room"] == "room (Payroll)"
    assert tables.profiles_table(STAFF).meaning == "One profile for each of the people in the accepted input"
    texts = [
        text
        for table in tables.warehouse_tables(STAFF)
        for text in (table.name, table.meaning, *(f"{column.name} {column.meaning}" for column in table.columns))
    ]
    assert "customer" not in " ".join(texts).lower()
    assert "missing_person" in " ".join(texts)


@pytest.mark.parametrize("name", _INSERTED)
def test_what_is_inserted_has_an_attribute_for_every_declared_column(name: str) -> None:
    """Fails: a column that was declared and never filled ends a merge, after all shards are built."""
    table, kind = _INSERTED[name]
    known = {field.name for field in fields(kind)} | {
        member for member in dir(kind) if isinstance(getattr(kind, member), property)
    }
    assert [column.name for column in table.columns if (column.attribute or column.name) not in known] == []


def test_the_publication_is_declared_as_it_is_read() -> None:
    """Fails: `read_publication` gives a value under the name of another."""
    assert [field.name for field in fields(Publication)] == [column.name for column in tables.PUBLICATION.columns]


def test_every_fact_of_a_manifest_is_published() -> None:
    """Fails: the warehouse cannot say of its shards what their manifests say."""
    published = {column.attribute or column.name for column in tables.SHARD_MANIFEST.columns}
    assert {field.name for field in fields(Manifest)} - {name.removesuffix("_json") for name in published} == set()


def test_what_was_published_is_read_back_with_its_types(warehouse: Home) -> None:
    publication = read_publication(warehouse)
    assert publication is not None
    assert (publication.record_count, publication.is_partial, publication.missing_shards) == (6, False, ())
    assert publication.published_at.tzinfo is not None


def test_lists_are_published_as_lists(warehouse: Home) -> None:
    """Fails: a source of several files, or none, shifts the rows of the others."""
    statement = "SELECT source, files, extra_columns, rows_quarantined FROM source_snapshots ORDER BY source"
    assert query(warehouse.warehouse, statement) == [
        ("billing", ["billing.csv"], [], 1),
        ("crm", ["crm.csv"], [], 1),
        ("product", ["product.csv"], [], 0),
        ("support", ["support.csv"], ["kind", "note"], 0),
    ]


def test_every_attempt_and_manifest_is_published_with_its_run(warehouse: Home) -> None:
    statement = "SELECT shard_id, run_id, attempt, status FROM shard_attempts ORDER BY shard_id"
    assert query(warehouse.warehouse, statement) == [
        (f"shard_{number:02d}", "run", 1, "succeeded") for number in range(3)
    ]
    snapshots = query(warehouse.warehouse, "SELECT DISTINCT json_keys(source_snapshots) FROM shard_manifest")
    assert snapshots == [(sorted(source.name for source in SOURCES),)]


def test_rows_of_any_number_and_with_nulls_are_inserted(connection: duckdb.DuckDBPyConnection, home: Home) -> None:
    tables.SHARD_ATTEMPTS.create(connection)
    tables.SHARD_ATTEMPTS.insert(connection, [])
    begun = attempts.start(home, "shard_03", "run", 1)
    tables.SHARD_ATTEMPTS.insert(
        connection,
        (replace(begun, number=number, error=None if number % 2 else 'it\'s "bad"') for number in range(1, 2001)),
    )
    counted = connection.execute("SELECT count(*), count(error), count(ended_at), sum(attempt) FROM shard_attempts")
    assert counted.fetchall() == [(2000, 1000, 0, 2000 * 2001 // 2)]


def test_comments_are_written_for_the_columns_that_a_table_has(connection: duckdb.DuckDBPyConnection) -> None:
    """Fails: a project whose SQL drops a declared column cannot be published."""
    connection.execute('CREATE TABLE "odd ""name" AS SELECT 1 AS kept, 2 AS silent, 3 AS unknown')
    columns = (TableColumn("kept", "", 'it\'s "kept"'), TableColumn("dropped", "", "x"), TableColumn("silent", "", ""))
    Table('odd "name', "A table", columns).comment(connection)
    found = connection.execute("SELECT column_name, comment FROM duckdb_columns() WHERE NOT internal ORDER BY 1")
    assert found.fetchall() == [("kept", 'it\'s "kept"'), ("silent", None), ("unknown", None)]


def test_no_other_room_of_the_engine_creates_a_table_of_the_warehouse() -> None:
    """Fails: a table gets a second declaration, and the two part ways."""
    package = Path(tables.__file__).parents[1]
    names = set(tables.table_names()) - {"merged_profiles"}
    text = "\n".join(path.read_text() for path in package.rglob("*.py"))
    assert [name for name in sorted(names) if f"CREATE TABLE {name}" in text] == []
