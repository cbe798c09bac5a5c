"""The merge: only a complete, current, undamaged set of shards becomes the warehouse, and nobody sees it half made."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts, warehouse
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published.attempts import Status
from etl_assets.engine.published.tables import TABLES
from etl_assets.engine.routing import route, shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import merge
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.merge import Publication, merge_shards
from etl_assets.errors import AccountingError, ConfigError, EtlError, ShardSetError, WriteError
from etl_assets_tests import factory

_SHARDS = 3
_IDS = [f"cust_{number}" for number in range(12)]
_REPAIR = "etl-assets run --shards"

# The columns DESIGN.md fixes; more may stand beside them.
_FIXED_COLUMNS = {
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


def _write_sources(folder: Path, **changes: str) -> Path:
    """The exports of these tests: twelve customers, three bad rows; `changes` go to the first customer's CRM row."""
    rows = [factory.row(customer_id) for customer_id in _IDS]
    return factory.write_exports(
        folder,
        crm=[factory.row(_IDS[0], **changes), *rows[1:10]],
        billing=[*rows[2:], factory.row("")],
        product=[*rows, factory.row(_IDS[3], usage_pct="20"), factory.row("bad", usage_pct="101")],
        support=rows[:6],
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exports and a published warehouse; tests work on copies of it."""
    root = tmp_path_factory.mktemp("merge")
    factory.run_engine(_write_sources(root / "sources"), Home(root / "home"), _SHARDS, run_id="first")
    return root


@pytest.fixture
def published(template: Path, tmp_path: Path) -> Home:
    """A home with three shards and the warehouse made from them."""
    shutil.copytree(template / "home", tmp_path / "home")
    return Home(tmp_path / "home")


def _merge(home: Home, *, run_id: str = "second", allow_partial: bool = False) -> Publication:
    return merge_shards(home, _SHARDS, factory.LIMITS, run_id=run_id, allow_partial=allow_partial)


def _build(home: Home, shard_id: str, shard_count: int = _SHARDS, *, run_id: str = "again") -> None:
    given = shard.shard_input(home, shard_id, shard_count)
    factory.build_shard(home, given, run_id=run_id, attempt=1)


def _ids_in(number: int) -> list[str]:
    return [customer_id for customer_id in _IDS if route(customer_id, _SHARDS) == number]


def _leftovers(home: Home) -> list[str]:
    return [str(path) for path in home.root.rglob("*") if path.name.startswith(".tmp-") or path.suffix == ".wal"]


def _assert_refused(home: Home, *shard_problems: tuple[str, str], error: type[EtlError] = ShardSetError) -> None:
    """The merge names exactly these shards, why, and the repair; the last warehouse stays byte for byte."""
    before = home.warehouse.read_bytes()
    with pytest.raises(error) as caught:
        _merge(home)
    message = str(caught.value)
    for shard_id in shard_keys(_SHARDS):
        named = [problem for name, problem in shard_problems if name == shard_id]
        assert (f"{shard_id}: " in message) == bool(named)
        assert all(f"{shard_id}: {problem}" in message for problem in named)
    assert f"{_REPAIR} {','.join(name for name, _ in shard_problems)}," in message
    assert home.warehouse.read_bytes() == before
    assert _leftovers(home) == []


# What is published.


def test_the_warehouse_holds_every_fixed_table_and_column_and_each_says_what_it_means(published: Home) -> None:
    found = factory.query(
        published.warehouse, "SELECT table_name, column_name, comment FROM duckdb_columns() WHERE NOT internal"
    )
    tables = dict(factory.query(published.warehouse, "SELECT table_name, comment FROM duckdb_tables()"))
    assert tables.keys() == TABLES.keys() > _FIXED_COLUMNS.keys()
    assert all(tables.values())
    for table, columns in _FIXED_COLUMNS.items():
        assert set(columns.split()) <= {column for name, column, _ in found if name == table}
    assert [(table, column) for table, column, comment in found if not comment] == []
    described = {(table, column) for table, (_, columns) in TABLES.items() for column in columns}
    assert described == {(table, column) for table, column, _ in found}


def test_the_warehouse_can_be_read_by_duckdb_1_5(published: Home) -> None:
    """People open it with DBeaver and older drivers; those cannot read DuckDB 2's own format."""
    tags = factory.query(
        published.warehouse, "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'opened'"
    )
    assert tags == [("v1.5.0+",)]


def test_every_customer_stands_once_and_in_its_shard(published: Home) -> None:
    rows = factory.query(published.warehouse, "SELECT customer_id, shard_id FROM merged_profiles ORDER BY 1")
    assert rows == sorted((customer_id, f"shard_{route(customer_id, _SHARDS):02d}") for customer_id in _IDS)


def test_the_publication_is_what_the_merge_returned_and_what_the_warehouse_says(published: Home) -> None:
    returned = _merge(published)
    row = warehouse.read_publication(published)
    assert row is not None
    assert row["run_id"] == "second"
    assert row["record_count"] == returned.record_count == len(_IDS)
    assert row["digest"] == returned.digest
    assert row["set_hash"] == returned.set_hash
    assert row["shard_count"] == _SHARDS
    assert row["code_version"] == shard.code_version()
    assert (row["is_partial"], row["missing_shards"], row["duplicates_dropped"]) == (False, [], 0)
    assert (returned.is_partial, returned.missing_shards, returned.duplicates_dropped) == (False, (), 0)
    assert returned.quarantined_count == 3
    assert returned.size_bytes == published.warehouse.stat().st_size
    assert sum(returned.score_counts.values()) == 2 * len(_IDS)
    counted = factory.query(published.warehouse, "SELECT churn_risk, count(*) FROM merged_profiles GROUP BY 1")
    assert {f"churn_risk {level}": number for level, number in counted}.items() <= returned.score_counts.items()
    mean = factory.query(published.warehouse, "SELECT round(avg(health_score), 2) FROM merged_profiles")
    assert mean == [(returned.mean_health_score,)]


def test_the_warehouse_explains_its_sources_its_shards_and_its_rejects(published: Home) -> None:
    accounts = factory.query(
        published.warehouse,
        "SELECT source, files, rows_in, rows_accepted, rows_quarantined FROM source_snapshots",
    )
    assert accounts == [
        ("crm", ["crm.csv"], 10, 10, 0),
        ("billing", ["billing.csv"], 11, 10, 1),
        ("product", ["product.csv"], 14, 12, 2),
        ("support", ["support.csv"], 6, 6, 0),
    ]
    rejects = factory.query(
        published.warehouse, "SELECT source, line_number, customer_id, reason FROM quarantine ORDER BY ALL"
    )
    assert rejects == [
        ("billing", 12, None, "missing_customer_id"),
        ("product", 5, _IDS[3], "superseded"),
        ("product", 15, "bad", "invalid:usage_pct"),
    ]
    manifests = factory.query(
        published.warehouse, "SELECT shard_id, record_count, run_id FROM shard_manifest ORDER BY 1"
    )
    assert manifests == [(f"shard_0{number}", len(_ids_in(number)), "first") for number in range(_SHARDS)]


def test_the_warehouse_tells_of_every_ended_attempt_and_of_none_that_runs(published: Home) -> None:
    failed = attempts.start(published, "shard_00", "run-a", 1)
    attempts.finish(published, failed, Status.FAILED, error="disk full")
    attempts.finish(published, attempts.start(published, "shard_00", "run-a", 2), Status.SUCCEEDED, record_count=4)
    attempts.finish(published, attempts.start(published, "shard_02", "run-a", 1), Status.REUSED, record_count=5)
    attempts.start(published, "shard_01", "run-b", 1)
    _merge(published)
    rows = factory.query(
        published.warehouse,
        "SELECT shard_id, run_id, attempt, status, record_count, error, ended_at >= started_at, elapsed_ms >= 0 "
        "FROM shard_attempts ORDER BY ALL",
    )
    assert rows == [
        ("shard_00", "run-a", 1, "failed", None, "disk full", True, True),
        ("shard_00", "run-a", 2, "succeeded", 4, None, True, True),
        ("shard_02", "run-a", 1, "reused", 5, None, True, True),
    ]


def test_merging_the_same_shards_again_gives_the_same_rows_and_digest(published: Home) -> None:
    before = factory.query(published.warehouse, "SELECT * FROM merged_profiles ORDER BY customer_id")
    first = warehouse.read_publication(published)
    again = _merge(published)
    assert first is not None
    assert (first["digest"], first["set_hash"]) == (again.digest, again.set_hash)
    assert factory.query(published.warehouse, "SELECT * FROM merged_profiles ORDER BY customer_id") == before


@pytest.mark.parametrize("shard_count", [1, 2, 7])
def test_the_digest_and_the_rows_do_not_depend_on_the_number_of_shards(
    template: Path, published: Home, tmp_path: Path, shard_count: int
) -> None:
    other = Home(tmp_path / "other")
    columns = "* EXCLUDE (shard_id)"
    digest = factory.run_engine(template / "sources", other, shard_count).digest
    first = warehouse.read_publication(published)
    assert first is not None
    assert digest == first["digest"]
    rows = [
        factory.query(home.warehouse, f"SELECT {columns} FROM merged_profiles ORDER BY customer_id")
        for home in (other, published)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE merged_profiles SET idempotency_key = idempotency_key || 'x' WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET health_score = 1 WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET email = NULL WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET churn_risk = 'HIGH' WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET expansion_potential = 'LOW' WHERE customer_id = 'cust_3'",
        "UPDATE merged_profiles SET sources = ['crm'] WHERE customer_id = 'cust_3'",
        "DELETE FROM merged_profiles WHERE customer_id = 'cust_3'",
    ],
)
def test_another_row_gives_another_digest(published: Home, change: str) -> None:
    """Who compares two publications by their digest must not be told that nothing changed."""

    def digest() -> tuple[str, int]:
        with contextlib.closing(shard.open_read_only(published.warehouse)) as connection:
            return warehouse.digest_profiles(connection)

    before = digest()
    factory.alter(published.warehouse, change)
    assert digest()[0] != before[0]


def test_a_changed_source_is_published_after_its_shard_was_built_again(published: Home, tmp_path: Path) -> None:
    first = warehouse.read_publication(published)
    factory.stage_all(factory.staging_request(_write_sources(tmp_path / "new", email="new@x.example"), published))
    _build(published, f"shard_{route(_IDS[0], _SHARDS):02d}")
    publication = _merge(published)
    assert first is not None
    assert publication.digest != first["digest"]
    assert publication.set_hash != first["set_hash"]
    emails = factory.query(published.warehouse, "SELECT customer_id FROM merged_profiles WHERE email = 'new@x.example'")
    assert emails == [(_IDS[0],)]


# What is refused. Each test has its control above: the same shards as they were are merged.


def test_a_missing_shard_is_refused(published: Home) -> None:
    published.shard_file("shard_01").unlink()
    _assert_refused(published, ("shard_01", "missing"))


def test_every_shard_in_the_way_is_named_at_once(published: Home) -> None:
    published.shard_file("shard_01").unlink()
    published.shard_file("shard_02").write_bytes(b"not a database")
    _assert_refused(published, ("shard_01", "missing"), ("shard_02", "damaged ("))


def test_a_shard_of_other_source_data_is_refused(published: Home, tmp_path: Path) -> None:
    """The classic of retries: one shard missed the new export, and old and new records would stand side by side."""
    factory.stage_all(factory.staging_request(_write_sources(tmp_path / "new", email="new@x.example"), published))
    stale = f"shard_{route(_IDS[0], _SHARDS):02d}"
    _assert_refused(published, (stale, "built from other source data"))


def test_a_shard_of_another_code_version_is_refused(published: Home) -> None:
    factory.alter(published.shard_file("shard_00"), "UPDATE manifest SET code_version = 'older'")
    _assert_refused(published, ("shard_00", "built by another code version"))


def test_shards_of_another_number_of_shards_are_refused(template: Path, published: Home) -> None:
    """After ETL_NUM_SHARDS was changed, a customer could stand in an old shard and in a new one."""
    factory.stage_all(factory.staging_request(template / "sources", published, 2))
    _build(published, "shard_00", 2)
    _build(published, "shard_01", 2)
    factory.stage_all(factory.staging_request(template / "sources", published, _SHARDS))
    problem = "built for 2 shards, not 3"
    _assert_refused(published, ("shard_00", problem), ("shard_01", problem))


def test_a_shard_under_the_name_of_another_is_refused(published: Home) -> None:
    shutil.copyfile(published.shard_file("shard_00"), published.shard_file("shard_01"))
    _assert_refused(published, ("shard_01", "holds shard_00"))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE profiles SET mrr = 1 WHERE mrr IS NOT NULL",
        "DELETE FROM profiles WHERE customer_id = (SELECT min(customer_id) FROM profiles)",
        "INSERT INTO profiles SELECT * FROM profiles LIMIT 1",
        "DELETE FROM profiles",
        "INSERT INTO profiles SELECT * REPLACE ('cust_of_nobody' AS customer_id) FROM profiles LIMIT 1",
    ],
)
def test_a_shard_whose_rows_are_not_what_its_manifest_says_is_refused(published: Home, change: str) -> None:
    factory.alter(published.shard_file("shard_01"), change)
    _assert_refused(published, ("shard_01", "damaged ("))


def test_a_shard_with_a_damaged_block_is_refused(published: Home) -> None:
    path = published.shard_file("shard_01")
    data = path.read_bytes()
    place = data.index(b"ada@alpine.example")
    path.write_bytes(data[:place] + b"A" + data[place + 1 :])
    _assert_refused(published, ("shard_01", "damaged ("))


def test_rows_of_another_shard_in_a_shard_file_are_refused(published: Home) -> None:
    """The customer would stand in the result twice, or hide the loss of another."""
    donor = published.shard_file("shard_00")
    factory.alter(
        published.shard_file("shard_01"),
        f"ATTACH '{donor}' AS donor (READ_ONLY)",
        "INSERT INTO profiles SELECT * FROM donor.profiles LIMIT 1",
    )
    _assert_refused(published, ("shard_01", "damaged ("))


def test_rows_in_a_shard_that_says_it_has_none_are_refused(published: Home) -> None:
    factory.alter(published.shard_file("shard_01"), "UPDATE manifest SET record_count = 0")
    _assert_refused(published, ("shard_01", "damaged ("))


def test_a_customer_of_two_shards_whose_manifests_agree_is_kept_once(published: Home) -> None:
    """Should two shard files ever hold the same customer by their own books, the result still holds it once."""
    path = published.shard_file("shard_01")
    columns = [row[0] for row in factory.query(path, "DESCRIBE profiles")]
    content_hash = staging.content_hash_sql(f"hash({', '.join(name for name in columns if name != 'shard_id')})")
    two_of_the_other = "SELECT * REPLACE ('shard_01' AS shard_id) FROM donor.profiles ORDER BY customer_id LIMIT 2"
    factory.alter(
        path,
        f"ATTACH '{published.shard_file('shard_00')}' AS donor (READ_ONLY)",
        f"INSERT INTO profiles {two_of_the_other}",
        f"UPDATE manifest SET record_count = record_count + 2, content_hash = (SELECT {content_hash} FROM profiles)",
    )
    first = warehouse.read_publication(published)
    publication = _merge(published)
    assert first is not None
    assert publication.duplicates_dropped == 2
    assert publication.record_count == len(_IDS)
    assert publication.digest == first["digest"]
    keys = factory.query(published.warehouse, "SELECT count(*), count(DISTINCT idempotency_key) FROM merged_profiles")
    assert keys == [(len(_IDS), len(_IDS))]


def test_sources_that_are_not_staged_for_this_number_of_shards_are_a_configuration_error(published: Home) -> None:
    before = published.warehouse.read_bytes()
    with pytest.raises(ConfigError, match="not staged for 4 shards"):
        merge_shards(published, 4, factory.LIMITS, run_id="second")
    assert published.warehouse.read_bytes() == before


def test_a_quarantine_that_lost_rows_is_refused(published: Home) -> None:
    """Nothing lost: the books of the sources and the quarantine that is published must agree."""
    snapshot = staging.current_snapshots(published, _SHARDS)["product"].snapshot
    path = published.snapshot("product", snapshot) / "quarantine.parquet"
    with contextlib.closing(duckdb.connect()) as connection:
        kept = f"SELECT * FROM read_parquet('{path}') WHERE reason = 'superseded'"
        connection.execute(f"CREATE TABLE kept AS {kept}")
        connection.execute(f"COPY kept TO '{path}' (FORMAT parquet)")
    before = published.warehouse.read_bytes()
    with pytest.raises(AccountingError, match="2 quarantined rows, the sources say 3"):
        _merge(published)
    assert published.warehouse.read_bytes() == before
    assert _leftovers(published) == []


# Partial, when somebody asks for it.


def test_a_partial_merge_leaves_the_unfit_shards_out_and_says_so(published: Home) -> None:
    published.shard_file("shard_01").unlink()
    factory.alter(published.shard_file("shard_02"), "UPDATE manifest SET code_version = 'older'")
    publication = _merge(published, allow_partial=True)
    assert (publication.is_partial, publication.missing_shards) == (True, ("shard_01", "shard_02"))
    row = warehouse.read_publication(published)
    assert row is not None
    assert (row["is_partial"], row["missing_shards"]) == (True, ["shard_01", "shard_02"])
    found = factory.query(published.warehouse, "SELECT customer_id FROM merged_profiles ORDER BY 1")
    assert found == [(customer_id,) for customer_id in sorted(_ids_in(0))]
    assert factory.query(published.warehouse, "SELECT shard_id FROM shard_manifest") == [("shard_00",)]


def test_a_partial_merge_of_a_complete_set_is_complete(published: Home) -> None:
    publication = _merge(published, allow_partial=True)
    assert (publication.is_partial, publication.missing_shards) == (False, ())
    assert publication.record_count == len(_IDS)


def test_a_partial_merge_of_nothing_is_refused(published: Home) -> None:
    """An empty warehouse is never a success."""
    shutil.rmtree(published.shards)
    before = published.warehouse.read_bytes()
    with pytest.raises(ShardSetError, match="3 shards are not fit to merge"):
        _merge(published, allow_partial=True)
    assert published.warehouse.read_bytes() == before


def test_a_partial_merge_does_not_take_a_shard_whose_rows_are_damaged(published: Home) -> None:
    """Damage that shows only when the rows are read stops even a partial merge; it never lets bad rows through."""
    factory.alter(published.shard_file("shard_01"), "UPDATE profiles SET mrr = 1 WHERE mrr IS NOT NULL")
    before = published.warehouse.read_bytes()
    with pytest.raises(ShardSetError, match="shard_01: damaged"):
        _merge(published, allow_partial=True)
    assert published.warehouse.read_bytes() == before


# Meanwhile.


def test_a_shard_published_anew_during_the_merge_is_refused(published: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The warehouse would hold the old records of a shard whose new ones are already there."""
    digest_profiles = warehouse.digest_profiles

    def published_meanwhile(connection: duckdb.DuckDBPyConnection) -> tuple[str, int]:
        _build(published, "shard_01", run_id="meanwhile")
        return digest_profiles(connection)

    before = published.warehouse.read_bytes()
    monkeypatch.setattr(warehouse, "digest_profiles", published_meanwhile)
    with pytest.raises(ShardSetError, match="changed while it was merged"):
        _merge(published)
    assert published.warehouse.read_bytes() == before
    assert _leftovers(published) == []
    monkeypatch.undo()
    assert _merge(published).record_count == len(_IDS)


def test_a_shard_published_anew_after_it_was_inspected_is_refused(
    published: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspect_shards = shardset.inspect_shards

    def then_published(home: Home, shard_count: int) -> shardset.ShardSet:
        found = inspect_shards(home, shard_count)
        _build(published, "shard_01", run_id="meanwhile")
        return found

    monkeypatch.setattr(shardset, "inspect_shards", then_published)
    _assert_refused(published, ("shard_01", "published anew during the merge"))


def test_sources_staged_anew_during_the_merge_are_refused(
    published: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest_profiles = warehouse.digest_profiles
    request = factory.staging_request(_write_sources(tmp_path / "new", email="new@x.example"), published)

    def staged_meanwhile(connection: duckdb.DuckDBPyConnection) -> tuple[str, int]:
        factory.stage_all(request)
        return digest_profiles(connection)

    before = published.warehouse.read_bytes()
    monkeypatch.setattr(warehouse, "digest_profiles", staged_meanwhile)
    with pytest.raises(ShardSetError, match="changed while it was merged"):
        _merge(published)
    assert published.warehouse.read_bytes() == before


def test_a_merge_that_fails_half_way_leaves_the_last_warehouse_and_no_temporary_file(
    published: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_disk(connection: duckdb.DuckDBPyConnection) -> tuple[str, int]:
        raise OSError(28, "No space left on device")

    before = published.warehouse.read_bytes()
    monkeypatch.setattr(warehouse, "digest_profiles", out_of_disk)
    with pytest.raises(OSError, match="No space left"):
        _merge(published)
    assert published.warehouse.read_bytes() == before
    assert _leftovers(published) == []


def test_a_warehouse_that_cannot_be_read_back_is_not_published(
    published: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a disk that loses what it is given costs yesterday's result, and no reader can open today's."""

    def lost_by_the_disk(connection: duckdb.DuckDBPyConnection) -> None:
        close_warehouse(connection)
        if not damaged:
            [path] = published.root.glob(".tmp-warehouse*")
            with path.open("r+b") as stream:
                stream.seek(path.stat().st_size // 4)
                stream.write(b"\xff" * (path.stat().st_size // 2))
            damaged.append(path)

    close_warehouse, damaged = merge._close_warehouse, list[Path]()
    before = published.warehouse.read_bytes()
    monkeypatch.setattr(merge, "_close_warehouse", lost_by_the_disk)
    with pytest.raises(WriteError, match=r"could not be read back.*Check the disk"):
        _merge(published)
    assert damaged
    assert published.warehouse.read_bytes() == before
    assert _leftovers(published) == []


_READER = """
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
    published: Home, tmp_path: Path
) -> None:
    """An analyst's open notebook must neither stop the pipeline nor see rows change under a query."""
    question = f"SELECT email FROM merged_profiles WHERE customer_id = '{_IDS[0]}'"
    command = [sys.executable, "-c", _READER, str(published.warehouse)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert _ask(reader, question) == "ada@alpine.example"
        factory.stage_all(factory.staging_request(_write_sources(tmp_path / "new", email="new@x.example"), published))
        for shard_id in shard_keys(_SHARDS):
            _build(published, shard_id)
        _merge(published)
        assert _ask(reader, question) == "ada@alpine.example"
        assert _ask(reader, "SELECT count(*) FROM merged_profiles") == str(len(_IDS))
    assert reader.returncode == 0
    assert factory.query(published.warehouse, question) == [("new@x.example",)]


def test_there_is_no_publication_before_the_first_one_nor_in_a_damaged_file(home: Home, published: Home) -> None:
    assert warehouse.read_publication(Home(home.root / "elsewhere")) is None
    published.warehouse.write_bytes(b"not a database")
    assert warehouse.read_publication(published) is None
    assert _merge(published).record_count == len(_IDS)


def test_inspection_names_the_fit_shards_and_the_problems_of_the_others(published: Home) -> None:
    complete = shardset.inspect_shards(published, _SHARDS)
    assert complete.problems == {}
    assert [manifest.shard_id for manifest in complete.manifests] == shard_keys(_SHARDS)
    published.shard_file("shard_01").unlink()
    found = shardset.inspect_shards(published, _SHARDS)
    assert found.problems == {"shard_01": "missing"}
    assert [manifest.shard_id for manifest in found.manifests] == ["shard_00", "shard_02"]
    assert found.set_hash != complete.set_hash


def test_a_merge_sweeps_what_the_killed_left_where_everything_was_reused(sources: Path, home: Home) -> None:
    """Fails: a killed forced run leaves whole snapshots on disk, since the next run reuses and writes nothing there."""
    factory.write_exports(sources, crm=[factory.row("a")])
    factory.run_engine(sources, home, 3)
    folders = [home.staged / "crm", home.attempts / "shard_00", home.shards, home.scratch, home.root]
    script = (
        "import sys; from pathlib import Path; from etl_assets.engine.files.publishing import temporary_path\n"
        "for name in sys.argv[1:]:\n"
        "    Path(name).mkdir(parents=True, exist_ok=True); temporary_path(Path(name) / 'x').mkdir()"
    )
    subprocess.run([sys.executable, "-c", script, *map(str, folders)], check=True)
    assert all(list(folder.glob(".tmp-*")) for folder in folders)
    merge_shards(home, 3, factory.LIMITS, run_id="again")
    assert [path for folder in folders for path in folder.glob(".tmp-*")] == []


# Beginning with what is published.


_MANY = 8


@pytest.fixture(scope="module")
def many_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exports and a warehouse of eight shards; tests work on copies of it."""
    root = tmp_path_factory.mktemp("many")
    factory.run_engine(_write_sources(root / "sources"), Home(root / "home"), _MANY, run_id="first")
    return root


@pytest.fixture
def many(many_template: Path, tmp_path: Path) -> Path:
    """A folder with exports and a home whose warehouse was merged from its very files, and may be a base."""
    shutil.copytree(many_template, tmp_path / "many")
    merge_shards(Home(tmp_path / "many" / "home"), _MANY, factory.LIMITS, run_id="first")
    return tmp_path / "many"


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The shards whose files each merge has read."""
    found: list[list[str]] = []
    copy_shards = merge._copy_shards

    def copying(connection: Any, home: Home, manifests: Sequence[shard.Manifest], *, append: bool) -> None:
        found.append([manifest.shard_id for manifest in manifests])
        copy_shards(connection, home, manifests, append=append)

    monkeypatch.setattr(merge, "_copy_shards", copying)
    return found


def _everything(path: Path) -> dict[str, list[Any]]:
    """All rows of all tables, in an order of their own, and what each table and column is said to mean."""
    tables = {name: factory.query(path, f"SELECT * FROM {name} ORDER BY ALL") for name in TABLES}
    comments = (
        "SELECT table_name, column_name, data_type, comment FROM duckdb_columns() WHERE NOT internal ORDER BY ALL"
    )
    return tables | {"comments": factory.query(path, comments)}


def _merge_many(home: Home, **options: Any) -> Publication:
    return merge_shards(home, _MANY, factory.LIMITS, run_id="second", **options)


def _change_one_customer(root: Path) -> str:
    """Restage the exports with another company name for one customer, and build its shard; returns the shard."""
    home = Home(root / "home")
    factory.stage_all(factory.staging_request(_write_sources(root / "sources", company_name="Other"), home, _MANY))
    shard_id = f"shard_{route(_IDS[0], _MANY):02d}"
    _build(home, shard_id, _MANY)
    return shard_id


def test_where_one_shard_has_changed_its_rows_are_replaced_and_the_result_is_the_same(
    many: Path, copied: list[list[str]]
) -> None:
    """Fails: the rows of before stay, or accounts and comments are those of the last publication."""
    home = Home(many / "home")
    before = factory.query(home.warehouse, "SELECT company_name FROM merged_profiles WHERE customer_id = 'cust_0'")
    shard_id = _change_one_customer(many)
    publication = _merge_many(home)
    assert copied == [[shard_id]]
    changed = _everything(home.warehouse)
    home.warehouse.unlink()
    anew = _merge_many(home)
    assert copied[1:] == [shard_keys(_MANY)]
    from_nothing = _everything(home.warehouse)
    for tables in (changed, from_nothing):
        tables["publication"] = [row[1:] for row in tables["publication"]]
    assert changed == from_nothing
    assert replace(publication, elapsed_ms=0, size_bytes=0) == replace(anew, elapsed_ms=0, size_bytes=0)
    assert before != factory.query(
        home.warehouse, "SELECT company_name FROM merged_profiles WHERE customer_id = 'cust_0'"
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE merged_profiles SET mrr = 1 WHERE customer_id = (SELECT max(customer_id) FROM merged_profiles)",
        "DELETE FROM merged_profiles",
        "UPDATE shard_manifest SET content_hash = 'other'",
        "DELETE FROM shard_manifest",
        "INSERT INTO merged_profiles SELECT * FROM merged_profiles",
        "ALTER TABLE merged_profiles DROP COLUMN mrr",
    ],
)
def test_a_warehouse_that_does_not_hold_what_it_says_is_no_base(
    many: Path, copied: list[list[str]], statement: str
) -> None:
    """Fails: what somebody did to the last publication is published again, or no merge succeeds any more."""
    home = Home(many / "home")
    published = _merge_many(home).digest
    factory.alter(home.warehouse, statement)
    copied.clear()
    assert _merge_many(home).digest == published
    assert copied[-1] == shard_keys(_MANY)


def test_a_warehouse_of_damaged_pages_is_no_base(many: Path, copied: list[list[str]]) -> None:
    home = Home(many / "home")
    published = _merge_many(home).digest
    content = bytearray(home.warehouse.read_bytes())
    for position in range(len(content) // 4, len(content), 4096):
        content[position] ^= 0xFF
    home.warehouse.write_bytes(content)
    copied.clear()
    assert _merge_many(home).digest == published
    assert copied[-1] == shard_keys(_MANY)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine AS SELECT 1",
        "CREATE VIEW mine AS SELECT * FROM merged_profiles",
        "CREATE SCHEMA mine",
        "CREATE MACRO mine(a) AS a",
        "CREATE SEQUENCE mine",
        "CREATE INDEX mine ON merged_profiles (email)",
    ],
)
def test_what_somebody_made_in_the_warehouse_is_not_published_again(
    many: Path, copied: list[list[str]], statement: str
) -> None:
    """Fails: whether it is still there after a merge depends on how much has changed."""
    home = Home(many / "home")
    factory.alter(home.warehouse, statement)
    _merge_many(home)
    assert copied == [shard_keys(_MANY)]
    assert b"mine" not in home.warehouse.read_bytes()


def test_a_damaged_shard_is_refused_also_where_its_rows_are_published(many: Path) -> None:
    """Guarantee 6. Fails: the merge keeps the rows of before and says nothing of the file."""
    home = Home(many / "home")
    shard_id = _change_one_customer(many)
    other = next(name for name in (f"shard_{route(customer, _MANY):02d}" for customer in _IDS) if name != shard_id)
    factory.alter(home.shard_file(other), "UPDATE profiles SET mrr = 1")
    with pytest.raises(ShardSetError, match=f"{other}: damaged"):
        _merge_many(home)


def test_a_shard_that_is_missing_in_a_partial_merge_leaves_nothing_behind(many: Path, copied: list[list[str]]) -> None:
    home = Home(many / "home")
    home.shard_file("shard_03").unlink()
    publication = _merge_many(home, allow_partial=True)
    assert copied == [[]]
    assert publication.missing_shards == ("shard_03",)
    for table in ("merged_profiles", "shard_manifest", "merged_files"):
        assert factory.query(home.warehouse, f"SELECT count(*) FROM {table} WHERE shard_id = 'shard_03'") == [(0,)]


@pytest.mark.parametrize(("limit", "value"), [("_MAX_REPLACED", 0.1), ("_MAX_STORED", 0.9)])
def test_where_much_is_or_was_replaced_a_merge_begins_with_nothing(
    many: Path, copied: list[list[str]], monkeypatch: pytest.MonkeyPatch, limit: str, value: float
) -> None:
    """Fails: the file grows with every merge, or a merge deletes nearly all rows one by one."""
    home = Home(many / "home")
    shard_id = _change_one_customer(many)
    _merge_many(home)
    monkeypatch.setattr(merge, limit, value)
    _build(home, shard_id, _MANY)
    _merge_many(home)
    assert copied == [[shard_id], shard_keys(_MANY)]


def test_of_many_shards_that_are_in_the_way_some_are_named() -> None:
    """Fails: with a thousand shards, the message is what nobody can read, three times on a screen."""
    message = str(shardset.refusal(dict.fromkeys(shard_keys(300), "missing")))
    assert "300 shards are not fit to merge (shard_000: missing; " in message
    assert "shard_009: missing; and 290 more: etl-assets status)" in message
    assert "shard_010" not in message
    assert "Repair: etl-assets run, or materialize" in message
