"""The merge: what it publishes, and what it says of that."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.hashing import digest, total
from etl_assets.engine.published import attempts
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.tables import PUBLICATION, profiles_table, table_names, warehouse_tables
from etl_assets.engine.published.warehouse import Publication, hash_by_shard, read_publication
from etl_assets.engine.site import Site
from etl_assets_tests import factory
from etl_assets_tests.engine.steps.twelve_customers import (
    IDS,
    SHARD_COUNT,
    build,
    ids_in,
    merge,
    restage,
    shard_of,
)

# The columns that users rely on; more may stand beside them.
FIXED_COLUMNS = {
    "merged_profiles": (
        "customer_id email company_name industry employee_count deal_stage deal_value sales_owner last_contact plan "
        "mrr payment_status subscription_start last_payment signup_date last_active total_sessions features_used "
        "usage_pct account_status total_tickets open_tickets avg_resolution_hrs last_ticket_date nps_score csat_score "
        "health_score churn_risk expansion_potential sources shard_id idempotency_key"
    ),
    "quarantine": "source file line_number customer_id raw_text reason",
    "shard_attempts": "shard_id run_id attempt status started_at ended_at elapsed_ms record_count error",
    "shard_manifest": (
        "shard_id shard_count source_data_hash code_version record_count content_hash run_id attempt elapsed_ms"
    ),
    "source_snapshots": "source snapshot files rows_in rows_accepted rows_quarantined",
    "publication": "published_at run_id record_count digest is_partial missing_shards duplicates_dropped",
}


def publication_of(site: Site) -> Publication:
    publication = read_publication(site.home)
    assert publication is not None
    return publication


def test_the_warehouse_holds_every_fixed_table_and_column_and_each_says_what_it_means(published: Site) -> None:
    path = published.home.warehouse
    found = factory.query(path, "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal")
    tables = dict(factory.query(path, "SELECT table_name, comment FROM duckdb_tables()"))
    assert tables.keys() == set(table_names()) > FIXED_COLUMNS.keys()
    assert all(tables.values())
    for table, columns in FIXED_COLUMNS.items():
        assert set(columns.split()) <= {column for name, column, _ in found if name == table}
    assert [(table, column) for table, column, comment in found if not comment] == []


def test_each_table_has_the_columns_and_types_that_are_declared(published: Site) -> None:
    """Fails: the documentation, which is made from the declarations, describes another warehouse."""
    contract = published.contract
    for table in warehouse_tables(contract):
        found = [tuple(row[:2]) for row in factory.query(published.home.warehouse, f"DESCRIBE {table.name}")]
        if table == profiles_table(contract):
            assert {name for name, _ in found} == {column.name for column in table.columns}
        else:
            types = {"TIMESTAMPTZ": "TIMESTAMP WITH TIME ZONE"}
            assert found == [(column.name, types.get(column.type, column.type)) for column in table.columns]


def test_the_warehouse_can_be_read_by_duckdb_1_5(published: Site) -> None:
    """People open it with DBeaver and older drivers; those cannot read DuckDB 2's own format."""
    statement = "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'opened'"
    assert factory.query(published.home.warehouse, statement) == [("v1.5.0+",)]


def test_every_customer_stands_once_and_in_its_shard(published: Site) -> None:
    rows = factory.query(published.home.warehouse, "SELECT customer_id, shard_id FROM merged_profiles ORDER BY 1")
    assert rows == sorted((customer_id, shard_of(published, customer_id)) for customer_id in IDS)


def test_the_publication_is_what_the_merge_returned_and_what_the_warehouse_says(published: Site) -> None:
    merged = merge(published)
    found = publication_of(published)
    assert found == merged.publication
    assert found.run_id == "second"
    assert found.record_count == len(IDS)
    assert found.shard_count == SHARD_COUNT
    assert found.code_version == published.profile_version
    assert (found.is_partial, found.missing_shards, found.duplicates_dropped) == (False, (), 0)
    assert factory.query(published.home.warehouse, f"SELECT count(*) FROM {PUBLICATION.name}") == [(1,)]
    assert merged.quarantined_count == 3
    assert merged.size_bytes == published.home.warehouse.stat().st_size


def test_the_merge_counts_declared_values_and_averages_declared_numbers(published: Site) -> None:
    merged = merge(published)
    assert merged.value_counts.keys() == {"churn_risk", "expansion_potential"}
    for name, counts in merged.value_counts.items():
        assert list(counts) == ["LOW", "MEDIUM", "HIGH"]
        found = factory.query(published.home.warehouse, f"SELECT {name}, count(*) FROM merged_profiles GROUP BY 1")
        assert {level: count for level, count in counts.items() if count} == dict(found)
        assert sum(counts.values()) == len(IDS)
    mean = factory.query(published.home.warehouse, "SELECT round(avg(health_score), 2) FROM merged_profiles")
    assert merged.means == {"health_score": mean[0][0]}


def test_the_warehouse_explains_its_sources_its_shards_and_its_rejects(published: Site) -> None:
    accounts = factory.query(
        published.home.warehouse,
        "SELECT source, files, rows_in, rows_accepted, rows_quarantined FROM source_snapshots",
    )
    assert accounts == [
        ("crm", ["crm.csv"], 10, 10, 0),
        ("billing", ["billing.csv"], 11, 10, 1),
        ("product", ["product.csv"], 14, 12, 2),
        ("support", ["support.csv"], 6, 6, 0),
    ]
    rejects = factory.query(
        published.home.warehouse, "SELECT source, line_number, customer_id, reason FROM quarantine ORDER BY ALL"
    )
    assert rejects == [
        ("billing", 12, None, "missing_customer_id"),
        ("product", 5, IDS[3], "superseded"),
        ("product", 15, "bad", "invalid:usage_pct"),
    ]
    manifests = factory.query(
        published.home.warehouse, "SELECT shard_id, record_count, run_id FROM shard_manifest ORDER BY 1"
    )
    assert manifests == [(name, len(ids_in(published, name)), "first") for name in published.shard_ids]


def test_the_warehouse_holds_every_ended_attempt_and_none_that_runs(published: Site) -> None:
    home = published.home
    failed = attempts.start(home, "shard_00", "run-a", 1)
    attempts.finish(home, failed, Status.FAILED, error="disk full")
    attempts.finish(home, attempts.start(home, "shard_00", "run-a", 2), Status.SUCCEEDED, record_count=4)
    attempts.finish(home, attempts.start(home, "shard_02", "run-a", 1), Status.REUSED, record_count=5)
    attempts.start(home, "shard_01", "run-b", 1)
    merge(published)
    rows = factory.query(
        home.warehouse,
        "SELECT shard_id, run_id, attempt, status, record_count, error, ended_at >= started_at, elapsed_ms >= 0 "
        "FROM shard_attempts ORDER BY ALL",
    )
    assert rows == [
        ("shard_00", "run-a", 1, "failed", None, "disk full", True, True),
        ("shard_00", "run-a", 2, "succeeded", 4, None, True, True),
        ("shard_02", "run-a", 1, "reused", 5, None, True, True),
    ]


# The digest.


def test_merging_the_same_shards_again_gives_the_same_rows_and_digest(published: Site) -> None:
    before = factory.query(published.home.warehouse, "SELECT * FROM merged_profiles ORDER BY customer_id")
    first, again = publication_of(published), merge(published).publication
    assert (first.digest, first.set_hash) == (again.digest, again.set_hash)
    assert factory.query(published.home.warehouse, "SELECT * FROM merged_profiles ORDER BY customer_id") == before


@pytest.mark.parametrize("shard_count", [1, 2, 7])
def test_the_digest_and_the_rows_do_not_depend_on_the_number_of_shards(
    few_shards_made: Path, published: Site, tmp_path: Path, shard_count: int
) -> None:
    other = factory.site_at(Home(tmp_path / "other"), shard_count)
    publication = factory.run_engine(few_shards_made / "sources", other).publication
    assert publication.digest == publication_of(published).digest
    columns = "SELECT * EXCLUDE (shard_id) FROM merged_profiles ORDER BY customer_id"
    one, two = [factory.query(site.home.warehouse, columns) for site in (other, published)]
    assert one == two


def test_the_digest_does_not_depend_on_the_order_of_rows_in_the_exports(
    few_shards_made: Path, published: Site, tmp_path: Path
) -> None:
    """Rows of one customer keep their order among themselves: the last of them counts."""
    folder = tmp_path / "turned"
    folder.mkdir()
    for path in (few_shards_made / "sources").iterdir():
        header, *lines = path.read_text().splitlines(keepends=True)
        doubled = [line for line in lines if line.startswith(IDS[3])]
        others = [line for line in reversed(lines) if line not in doubled]
        (folder / path.name).write_text("".join([header, *others, *doubled]))
    other = factory.site_at(Home(tmp_path / "other"), SHARD_COUNT)
    assert factory.run_engine(folder, other).publication.digest == publication_of(published).digest


def test_the_digest_is_that_of_the_shards_added_up(published: Site) -> None:
    """Fails: the digest of a lake of many parts takes a pass over all of their rows."""
    with duck.opened(published.home.warehouse) as connection:
        parts = hash_by_shard(connection)
    manifests = dict(factory.query(published.home.warehouse, "SELECT shard_id, content_hash FROM shard_manifest"))
    assert {shard_id: str(part) for shard_id, part in parts.items()} == manifests
    assert digest(total(parts.values())) == publication_of(published).digest
    assert publication_of(published).digest.startswith(f"v2-{len(IDS)}-")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE merged_profiles SET idempotency_key = idempotency_key || 'x' WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET health_score = 1 WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET email = NULL WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET churn_risk = 'HIGH' WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET expansion_potential = 'LOW' WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET sources = ['crm'] WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET plan = industry, industry = plan WHERE customer_id = 'cust_3'",
        "DELETE FROM merged_profiles WHERE customer_id = 'cust_3'",
        "INSERT INTO merged_profiles SELECT * FROM merged_profiles WHERE customer_id = 'cust_3'",
    ],
)
def test_another_row_gives_another_digest(published: Site, change: str) -> None:
    """Who compares two publications by their digest must not read that nothing changed."""
    before = _digest(published)
    assert before == publication_of(published).digest
    factory.alter(published.home.warehouse, change)
    assert _digest(published) != before


def test_in_which_shard_a_row_is_does_not_change_the_digest(published: Site) -> None:
    """The control of the test above."""
    before = _digest(published)
    factory.alter(published.home.warehouse, "UPDATE merged_profiles SET shard_id = 'shard_00'")
    assert _digest(published) == before


def _digest(site: Site) -> str:
    with duck.opened(site.home.warehouse) as connection:
        return digest(total(hash_by_shard(connection).values()))


def test_a_changed_source_is_published_after_its_shard_was_built_again(published: Site, tmp_path: Path) -> None:
    first = publication_of(published)
    restage(published, tmp_path / "new", email="new@x.example")
    build(published, shard_of(published, IDS[0]))
    publication = merge(published).publication
    assert publication.digest != first.digest
    assert publication.set_hash != first.set_hash
    with_new = "SELECT customer_id FROM merged_profiles WHERE email = 'new@x.example'"
    assert factory.query(published.home.warehouse, with_new) == [(IDS[0],)]


# Readers.

READER = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1], read_only=True)
for line in sys.stdin:
    print(connection.execute(line).fetchone()[0], flush=True)
"""


def _ask(reader: "subprocess.Popen[str]", question: str) -> str:
    assert reader.stdin is not None
    assert reader.stdout is not None
    print(question, file=reader.stdin, flush=True)
    return reader.stdout.readline().strip()


def test_a_reader_of_the_old_warehouse_keeps_it_and_does_not_hold_up_the_new_one(
    published: Site, tmp_path: Path
) -> None:
    """An analyst's open notebook must neither stop the pipeline nor see rows change under a query."""
    question = f"SELECT email FROM merged_profiles WHERE customer_id = '{IDS[0]}'"
    command = [sys.executable, "-c", READER, str(published.home.warehouse)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert _ask(reader, question) == "ada@alpine.example"
        restage(published, tmp_path / "new", email="new@x.example")
        build(published, *published.shard_ids)
        merge(published)
        assert _ask(reader, question) == "ada@alpine.example"
        assert _ask(reader, "SELECT count(*) FROM merged_profiles") == str(len(IDS))
    assert reader.returncode == 0
    assert factory.query(published.home.warehouse, question) == [("new@x.example",)]


def test_there_is_no_publication_before_the_first_one_nor_in_a_damaged_file(site: Site, published: Site) -> None:
    assert read_publication(Home(site.home.root / "elsewhere")) is None
    published.home.warehouse.write_bytes(b"not a database")
    assert read_publication(published.home) is None
    assert merge(published).publication.record_count == len(IDS)


def test_a_merge_sweeps_what_the_killed_left_where_everything_was_reused(published: Site) -> None:
    """Fails: a killed forced run leaves whole snapshots on disk, since the next run reuses and writes nothing there."""
    home = published.home
    folders = [home.staged / "crm", home.attempts / "shard_00", home.shards, home.scratch, home.root]
    script = (
        "import sys; from pathlib import Path; from etl_assets.engine.files.temporary import temporary_path\n"
        "for name in sys.argv[1:]:\n"
        "    Path(name).mkdir(parents=True, exist_ok=True); temporary_path(Path(name) / 'x').mkdir()"
    )
    subprocess.run([sys.executable, "-c", script, *map(str, folders)], check=True)
    assert all(list(folder.glob(".tmp-*")) for folder in folders)
    merge(published)
    assert [path for folder in folders for path in folder.glob(".tmp-*")] == []


def test_a_merge_sweeps_what_no_shard_is_made_from_any_more(published: Site) -> None:
    """Fails: a source or a shard that is not declared any more keeps what was deleted from all exports."""
    home = published.home
    shutil.copytree(home.staged / "crm", home.staged / "before")
    for copy, path in (("shard_07.duckdb", home.shard_file("shard_00")), ("shard_07.json", home.manifest("shard_00"))):
        shutil.copy(path, home.shards / copy)
    merge(published)
    assert list((home.staged / "before").iterdir()) == []
    assert list(home.shards.glob("shard_07*")) == []
