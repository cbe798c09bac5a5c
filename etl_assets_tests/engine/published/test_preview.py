"""Published tables at a glance: described whole, shown in part, personal data masked."""

from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.preview import MASK, MAX_COLUMNS, glancing, shard_timings, shown_columns
from etl_assets.project.contract import Contract
from etl_assets_tests.factory import PROJECT, alter, query, row, run_engine, site_at, write_exports

CONTRACT = PROJECT.contract


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """Three shards, customers a to h, c without an address; no test changes it."""
    folder = tmp_path_factory.mktemp("published")
    rows = [row(name, company_name="", email="" if name == "c" else f"{name}@secret.example") for name in "hgfedcba"]
    write_exports(folder / "sources", crm=rows)
    run_engine(folder / "sources", site_at(Home(folder / "home")))
    return Home(folder / "home")


def test_a_table_is_described_in_column_order_with_all_its_columns(warehouse: Home) -> None:
    with glancing(CONTRACT, warehouse.root) as glance:
        columns = glance(warehouse.warehouse, "merged_profiles", 0).columns
        of_shard = glance(warehouse.shard_file("shard_00"), "profiles", 0).columns
    assert columns[:2] == [("customer_id", "VARCHAR"), ("email", "VARCHAR")]
    assert dict(columns)["sources"] == "VARCHAR[]"
    assert dict(columns)["last_contact"] == "DATE"
    assert len(columns) > MAX_COLUMNS
    assert of_shard == columns


def test_a_preview_is_the_first_keys_in_order_and_nulls_stay_null(warehouse: Home) -> None:
    with glancing(CONTRACT, warehouse.root) as glance:
        seen = glance(warehouse.warehouse, "merged_profiles", 3)
        everything = glance(warehouse.warehouse, "merged_profiles", 100)
    cells = [dict(zip(seen.shown, cells, strict=True)) for cells in seen.rows]
    assert [found["customer_id"] for found in cells] == ["a", "b", "c"]
    assert [found["company_name"] for found in cells] == [None, None, None]
    assert len(everything.rows) == 8


def test_personal_data_is_masked_and_its_absence_is_not(warehouse: Home) -> None:
    """Fails: customers' e-mail addresses stay in Dagster's event store for ever."""
    with glancing(CONTRACT, warehouse.root) as glance:
        seen = glance(warehouse.warehouse, "merged_profiles", 100)
    addresses = [found[seen.shown.index("email")] for found in seen.rows]
    assert addresses == [MASK, MASK, None, MASK, MASK, MASK, MASK, MASK]
    assert "secret" not in str(seen)
    assert query(warehouse.warehouse, "SELECT count(*) FROM merged_profiles WHERE email LIKE '%secret%'") == [(7,)]


def test_every_column_that_is_declared_personal_is_masked_whatever_it_is_called(tmp_path: Path) -> None:
    """Fails: only addresses are masked, and a phone number or a salary is shown."""
    contract = Contract.model_validate(
        {
            "name": "staff",
            "entity": "people",
            "key": {"name": "person"},
            "sources": {"payroll": {"columns": {"salary": {"type": "float", "pii": True}, "team": None}}},
            "profile": {"phone": {"pii": True}},
        }
    )
    path = tmp_path / "shard_00.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE profiles AS SELECT 'p' AS person, 1234.5 AS salary, 't' AS team, 7 AS phone")
    with glancing(contract, tmp_path) as glance:
        seen = glance(path, "profiles", 5)
    assert dict(zip(seen.shown, seen.rows[0], strict=True)) == {
        "person": "p",
        "salary": MASK,
        "team": "t",
        "phone": MASK,
    }


def test_the_key_names_declared_columns_and_sources_come_first_and_hashes_not_at_all(warehouse: Home) -> None:
    """Fails: a preview shows dots and dates in the columns that fit on a page, and none of the scores."""
    with glancing(CONTRACT, warehouse.root) as glance:
        shown = glance(warehouse.warehouse, "merged_profiles", 1).shown
    assert shown[:7] == [
        *("customer_id", "company_name", "health_score", "churn_risk", "expansion_potential", "sources", "email"),
    ]
    assert len(shown) == MAX_COLUMNS
    assert not {"shard_id", "idempotency_key"} & set(shown)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (["idempotency_key", "shard_id", "customer_id"], ["customer_id"]),
        (["b", "last_name", "name", "a"], ["last_name", "name", "b", "a"]),
        (["churn_risk", "sources", "customer_id"], ["customer_id", "churn_risk", "sources"]),
        ([f"c{number:02d}" for number in range(20)], [f"c{number:02d}" for number in range(12)]),
    ],
)
def test_columns_that_a_table_lacks_are_left_out(columns: list[str], shown: list[str]) -> None:
    """Fails: a project whose SQL drops a declared column gets an error instead of a preview."""
    assert shown_columns(CONTRACT, columns) == shown


def test_timings_are_the_slowest_shards_first(sources: Path, home: Home) -> None:
    """Fails: the shard that a run waited for is cut off the table."""
    write_exports(sources, crm=[row(name) for name in "abcd"])
    run_engine(sources, site_at(home))
    alter(home.warehouse, "UPDATE shard_manifest SET elapsed_ms = 5 + 10 * (shard_id = 'shard_01')::INT")
    names, rows = shard_timings(home, 10)
    assert names == ["shard", "records", "elapsed_ms", "attempt", "run"]
    assert [(found[0], found[2]) for found in rows] == [("shard_01", 15), ("shard_00", 5), ("shard_02", 5)]
    counts = dict(query(home.warehouse, "SELECT shard_id, count(*) FROM merged_profiles GROUP BY 1"))
    assert {found[0]: found[1] for found in rows} == {
        name: counts.get(name, 0) for name in ("shard_00", "shard_01", "shard_02")
    }
    assert [found[0] for found in shard_timings(home, 2)[1]] == ["shard_01", "shard_00"]
