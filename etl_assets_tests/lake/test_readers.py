"""Other engines read the table: the same rows, whatever reads them. None of them may write to it."""

from pathlib import Path

import polars
import pyarrow.dataset
import pytest
from deltalake import DeltaTable, QueryBuilder

from etl_assets.engine import duck
from etl_assets.engine.published.lake_versions import fetch_profiles, lake_table
from etl_assets.engine.published.warehouse import PROFILES_TABLE, opened_whole
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import pattern_list
from etl_assets_tests.factory import LIMITS, generate_sample
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.lake_runs import run_lake

_COUNTED = (
    "SELECT churn_risk, count(*) AS profiles, sum(health_score)::BIGINT AS score FROM {} GROUP BY ALL ORDER BY ALL"
)
_Rows = list[tuple[object, ...]]


@pytest.fixture
def site(s3_url: str, sources: Path, tmp_path: Path) -> Site:
    """A published lake."""
    generate_sample(sources, rows=400, seed=4, dirty=0.02)
    site = site_in(s3_url, tmp_path / "machine")
    run_lake(sources, site)
    return site


@pytest.fixture
def table(site: Site) -> DeltaTable:
    """Its table, as anyone opens it."""
    return DeltaTable(f"{site.lake_url}/profiles")


@pytest.fixture
def expected(site: Site) -> _Rows:
    """What `query` gives."""
    assert site.lake is not None
    version = lake_table(site).current()
    assert version is not None
    fetch_profiles(site.home, site.lake, version.files)
    with opened_whole(site.home, LIMITS) as connection:
        return connection.execute(_COUNTED.format(PROFILES_TABLE)).fetchall()


def test_duckdb_reads_it_by_the_list_of_its_files(site: Site, table: DeltaTable, expected: _Rows) -> None:
    """Without its extension for Delta, which is not there without a network."""
    names = [uri.rpartition("/")[2] for uri in table.file_uris()]
    with duck.reader(site.home.shards) as connection:
        paths = pattern_list(site.home.shards / name for name in names)
        assert connection.execute(_COUNTED.format(f"read_parquet({paths})")).fetchall() == expected


def test_polars_reads_it(table: DeltaTable, expected: _Rows) -> None:
    found = (
        polars.scan_delta(table)
        .group_by("churn_risk")
        .agg(polars.len().alias("profiles"), polars.col("health_score").sum().cast(polars.Int64).alias("score"))
        .sort("churn_risk", "profiles", "score")
        .collect()
    )
    assert found.rows() == expected


def test_pyarrow_reads_it(table: DeltaTable, expected: _Rows) -> None:
    dataset: pyarrow.dataset.Dataset = table.to_pyarrow_dataset()
    counted = dataset.to_table(columns=["churn_risk", "health_score"]).group_by("churn_risk")
    found = counted.aggregate([("health_score", "count"), ("health_score", "sum")]).to_pylist()
    rows = [(one["churn_risk"], one["health_score_count"], one["health_score_sum"]) for one in found]
    assert sorted(rows) == expected


def test_datafusion_reads_it(table: DeltaTable, expected: _Rows) -> None:
    text = "SELECT churn_risk, count(*) AS profiles, sum(health_score) AS score FROM t GROUP BY churn_risk ORDER BY 1"
    batches = QueryBuilder().register("t", table).execute(text).read_all()
    columns = [batches.column(number).to_pylist() for number in range(3)]
    assert list(zip(*columns, strict=True)) == expected


def test_the_counts_in_the_log_are_true(site: Site, table: DeltaTable, expected: _Rows) -> None:
    """Fails: engines answer count(*) and IS NULL from the log, and are wrong."""
    added = table.get_add_actions(flatten=True)
    counts = added.column("num_records").to_pylist()
    assert sum(counts) == sum(int(str(row[1])) for row in expected)
    nulls = sum(added.column("null_count.csat_score").to_pylist())
    with opened_whole(site.home, LIMITS) as connection:
        statement = f"SELECT count(*) FROM {PROFILES_TABLE} WHERE csat_score IS NULL"
        assert connection.execute(statement).fetchone() == (nulls,)
        assert nulls > 0


def test_yesterday_is_still_there(site: Site, table: DeltaTable, sources: Path) -> None:
    """Fails: what a report was made from cannot be read again."""
    generate_sample(sources, rows=300, seed=9)
    run_lake(sources, site, run_id="second")
    now = DeltaTable(f"{site.lake_url}/profiles")
    assert (now.version(), table.version()) == (1, 0)
    yesterday = DeltaTable(f"{site.lake_url}/profiles", version=0)
    assert (
        polars.scan_delta(yesterday).select(polars.len()).collect().item()
        == polars.scan_delta(table).select(polars.len()).collect().item()
    )
    assert polars.scan_delta(now).select(polars.len()).collect().item() == 300
