"""A result that differs from the pipeline's is refused: its time would compare apples with oranges."""

import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from bench.equal import DifferentError, check_equal
from bench.ways import WAYS, Case, Kind, publish
from etl_assets.samples.writing import generate

PROFILES = """
    SELECT
        printf('cust_%04d', range) AS customer_id,
        CASE WHEN range % 3 > 0 THEN range / 4 END AS mrr,
        DATE '2026-01-01' + range::INTEGER AS last_contact,
        (range % 100)::INTEGER AS health_score,
        ['crm', 'billing'] AS sources,
        'shard_' || range % 2 AS shard_id,
        []::VARCHAR[] AS issues
    FROM range(100)
"""


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "warehouse.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute(f"CREATE TABLE merged_profiles AS {PROFILES}")
    return path


def result(tmp_path: Path, query: str) -> Path:
    """A peer's result: what the query makes of the right `profiles`."""
    path = tmp_path / "result.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (WITH profiles AS ({PROFILES}) {query}) TO '{path}'")
    return path


@pytest.mark.parametrize(
    "query",
    [
        "FROM profiles",
        "FROM profiles ORDER BY customer_id DESC",
        "SELECT * EXCLUDE shard_id FROM profiles",
        "SELECT * EXCLUDE issues FROM profiles",
        "SELECT * REPLACE ('elsewhere' AS shard_id) FROM profiles",
        "SELECT * REPLACE (health_score::BIGINT AS health_score) FROM profiles",
        "SELECT sources, health_score, last_contact, mrr, customer_id FROM profiles",
    ],
)
def test_the_same_profiles_are_accepted(reference: Path, tmp_path: Path, query: str) -> None:
    check_equal(reference, result(tmp_path, query))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("FROM profiles WHERE customer_id <> 'cust_0007'", "1 customers missing, such as cust_0007"),
        (
            "FROM profiles UNION ALL SELECT * REPLACE ('cust_x' AS customer_id) FROM profiles LIMIT 101",
            "1 customers too many, such as cust_x",
        ),
        (
            "FROM profiles UNION ALL FROM profiles WHERE customer_id = 'cust_0007'",
            "1 customers more than once, such as cust_0007",
        ),
        (
            "SELECT * REPLACE (CASE customer_id WHEN 'cust_0007' THEN 1.5 ELSE mrr END AS mrr) FROM profiles",
            "mrr differs for 1 customers, such as cust_0007: 1.5, not 1.75",
        ),
        # What pandas makes of a missing number.
        ("SELECT * REPLACE (coalesce(mrr, 'nan'::DOUBLE) AS mrr) FROM profiles", "mrr differs for 34 customers"),
        ("SELECT * REPLACE (coalesce(mrr, 0) AS mrr) FROM profiles", "mrr differs for 34 customers"),
        ("SELECT * REPLACE (list_reverse(sources) AS sources) FROM profiles", "sources differs for 100 customers"),
        ("SELECT * REPLACE (last_contact::VARCHAR AS last_contact) FROM profiles", "last_contact is VARCHAR, not DATE"),
        ("SELECT * REPLACE (health_score::DOUBLE AS health_score) FROM profiles", "health_score is DOUBLE"),
        ("SELECT * REPLACE (10000000000 AS health_score) FROM profiles", "cannot be read"),
        ("SELECT * EXCLUDE mrr FROM profiles", "no column mrr"),
        ("SELECT *, 1 AS surplus FROM profiles", "a column surplus too many"),
        ("FROM profiles WHERE false", "100 customers missing"),
    ],
)
def test_other_profiles_are_refused_and_the_difference_is_named(
    reference: Path, tmp_path: Path, query: str, reason: str
) -> None:
    with pytest.raises(DifferentError) as refused:
        check_equal(reference, result(tmp_path, query))
    assert reason in str(refused.value)


def test_two_errors_that_cancel_in_every_column_are_seen(reference: Path, tmp_path: Path) -> None:
    """Sums of columns would not notice two customers who have each other's value."""
    swapped = """
        SELECT * REPLACE (CASE customer_id WHEN 'cust_0001' THEN 2 WHEN 'cust_0002' THEN 1 ELSE health_score END
            AS health_score) FROM profiles
    """
    with pytest.raises(DifferentError, match="health_score differs for 2 customers"):
        check_equal(reference, result(tmp_path, swapped))


@pytest.mark.parametrize("name", ["none.parquet", "none.duckdb"])
def test_a_missing_result_is_refused(reference: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DifferentError, match=f"{name} does not exist"):
        check_equal(reference, tmp_path / name)


def test_a_truncated_result_is_refused(reference: Path, tmp_path: Path) -> None:
    path = result(tmp_path, "FROM profiles")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DifferentError, match="cannot be read"):
        check_equal(reference, path)


def test_a_database_without_profiles_is_refused(reference: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.duckdb"
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE something AS SELECT 1")
    with pytest.raises(DifferentError, match="has no table"):
        check_equal(reference, path)


def test_the_floor_makes_the_profiles_of_the_pipeline(tmp_path: Path) -> None:
    """Fails: a column of the shipped project changes, and every time of the benchmark is refused as wrong."""
    generate(tmp_path / "sources", rows=300, dirty=0.0)
    publish(tmp_path / "sources", tmp_path, 3, tmp_path / "log")
    case = Case(300, 3, tmp_path / "sources", tmp_path, Path(sys.executable))
    (floor,) = [way for way in WAYS if way.kind is Kind.FLOOR]
    (tmp_path / "scratch").mkdir()
    start = floor.prepare(case, tmp_path / "scratch")
    subprocess.run(start.command, env=dict(start.environment), cwd=tmp_path, check=True)
    check_equal(start.reference, start.result)
