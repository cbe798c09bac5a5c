"""`etl-assets query` against texts that want more than to read the warehouse, as a process of its own."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets_tests import factory
from etl_assets_tests.whole import children


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a small warehouse, a secret beside it, and a current and a temporary folder of its own."""
    folder = tmp_path_factory.mktemp("published")
    customers = [factory.row(f"cust_{number}") for number in range(5)]
    factory.write_exports(folder / "sources", crm=customers, billing=customers, product=customers, support=customers)
    factory.run_engine(folder / "sources", factory.site_at(Home(folder / "home"), 2))
    for name in ("here", "tmp"):
        (folder / name).mkdir()
    (folder / "secret.csv").write_text("password\nhunter2\n", encoding="utf-8")
    return children.environment(
        folder / "sources", folder / "home", HOME=str(folder), TMPDIR=str(folder / "tmp"), ETL_MEMORY_LIMIT="128MB"
    )


def _folder(published: Mapping[str, str]) -> Path:
    return Path(published["HOME"])


def _query(published: Mapping[str, str], sql: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "etl_assets.cli.main", "query", sql, *options],
        env=published,
        cwd=_folder(published) / "here",
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )


def _everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in children.files_under(folder)}


_WRITES = [
    "WITH gone AS (DELETE FROM merged_profiles RETURNING *) FROM gone",
    "UPDATE merged_profiles SET health_score = 100",
    "MERGE INTO merged_profiles USING quarantine ON false WHEN NOT MATCHED THEN INSERT DEFAULT VALUES",
    "TRUNCATE merged_profiles",
    "ALTER TABLE merged_profiles DROP COLUMN email",
    "CREATE OR REPLACE VIEW warehouse.merged_profiles AS SELECT 1",
    "SELECT 1; DROP TABLE merged_profiles",
    "SELECT 1;;;/* */ DROP TABLE merged_profiles",
    "PIVOT merged_profiles ON churn_risk USING count(*); DROP TABLE merged_profiles",
    "EXPLAIN ANALYZE UPDATE merged_profiles SET health_score = 100",
    "EXPLAIN ANALYZE CREATE TABLE mine AS SELECT 1",
    "FROM query('DROP TABLE merged_profiles')",
    "FROM force_checkpoint('warehouse')",
    "PREPARE p AS DELETE FROM merged_profiles",
    "EXECUTE p",
    "VACUUM",
    "CHECKPOINT",
    "DETACH warehouse",
    "USE memory",
    "BEGIN",
]
_FILES = [
    "FROM '{folder}/secret.csv'",
    'FROM "{folder}/secret.csv"',
    "FROM read_csv('{folder}/secret.csv')",
    "FROM read_text('{folder}/home/../secret.csv')",
    "FROM read_blob('/proc/self/environ')",
    "FROM read_json('{folder}/secret.csv')",
    "FROM read_parquet('{folder}/home/staged/*/*/*.parquet')",
    "FROM parquet_schema('{folder}/home/staged/crm/x.parquet')",
    "FROM read_duckdb('{folder}/home/shards/shard_00.duckdb', table_name = 'profiles')",
    "FROM sniff_csv('{folder}/secret.csv')",
    "FROM glob('{folder}/*')",
    "FROM query('FROM read_text(''{folder}/secret.csv'')')",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM read_text(''{folder}/secret.csv'')'))",
    "SELECT (SELECT content FROM read_text('{folder}/secret.csv')) FROM merged_profiles",
    "FROM read_text('http://127.0.0.1:9/secret')",
    "FROM read_csv('s3://bucket/secret.csv')",
    "FROM read_csv('/dev/stdin')",
    "FROM duckdb_secrets()",
    "SELECT getenv('HOME')",
]
_ESCAPES = [
    "ATTACH '{folder}/here/mine.duckdb'",
    "ATTACH ':memory:' AS mine",
    "COPY merged_profiles TO '{folder}/here/stolen.csv'",
    "COPY (SELECT 1) TO '/dev/stdout'",
    "EXPORT DATABASE '{folder}/here/stolen'",
    "IMPORT DATABASE '{folder}/here/stolen'",
    "EXPLAIN ANALYZE COPY merged_profiles TO '{folder}/here/stolen.csv'",
    "INSTALL httpfs",
    "LOAD '{folder}/here/evil.duckdb_extension'",
    "EXPLAIN ANALYZE INSTALL httpfs",
    "FROM st_read('{folder}/secret.csv')",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "SET memory_limit = '100GB'",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA profiling_output = '{folder}/here/profile.json'",
    "SET log_query_path = '{folder}/here/log'",
    "FROM enable_logging('QueryLog', storage = 'file', storage_config = {{'path': '{folder}/here/log'}})",
    "FROM enable_profiling()",
    "CREATE SECRET mine (TYPE s3, KEY_ID 'x', SECRET 'y')",
    "CREATE FUNCTION mine(x) AS x",
    "EXPLAIN ANALYZE SET threads = 100",
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["writes", "files", "escapes"])
def test_a_hostile_text_is_refused_with_exit_code_2_and_leaves_no_trace(
    published: Mapping[str, str], kind: str
) -> None:
    """The texts come from anywhere (a form, a chat, a notebook): none may change the warehouse or see another file."""
    folder = _folder(published)
    before = _everything(folder)
    texts = {"writes": _WRITES, "files": _FILES, "escapes": _ESCAPES}[kind]
    for text in texts if children.IS_FULL_SIZE else texts[::4]:
        done = _query(published, text.format(folder=folder))
        assert done.returncode == 2, (text, done.stderr)
        assert done.stderr.startswith("error: "), (text, done.stderr)
        assert "Traceback" not in done.stderr, text
        assert "hunter2" not in done.stdout + done.stderr, text
        assert done.stdout == "", text
        assert _everything(folder) == before, text


_ENDLESS = [
    "SELECT count(*) FROM range(10_000_000_000) a, range(10_000_000_000) b",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
    "SELECT sum(levenshtein(repeat('ab', 5000), repeat('ba', 5000 + range % 2))) FROM range(10_000_000)",
]


@pytest.mark.slow
@pytest.mark.parametrize("sql", _ENDLESS)
def test_an_endless_query_is_interrupted_when_its_time_is_up(published: Mapping[str, str], sql: str) -> None:
    """One text would keep a core of the server busy, and a person waiting, for ever."""
    started = time.monotonic()
    done = _query(published, sql, "--timeout", "1")
    assert done.returncode == 1, done.stderr
    assert done.stderr == (
        "error: The statement was stopped after 1 s. Narrow it down or give it more time with --timeout.\n"
    )
    # A second of work; the rest is for the start and the end of a process on a busy machine.
    assert time.monotonic() - started < 30
    assert list(children.files_under(_folder(published) / "tmp")) == []


@pytest.mark.slow
def test_an_endless_result_is_written_in_bounded_memory_until_its_reader_has_enough(
    published: Mapping[str, str],
) -> None:
    command = [sys.executable, "-m", "etl_assets.cli.main", "query", "FROM range(10_000_000_000)", "--format", "csv"]
    with subprocess.Popen(command, env=published, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(300_000):
            process.stdout.readline()
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        peak_mb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) >> 10
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        process.wait(timeout=60)
    assert peak_mb < 400


_HOGS = [
    "SELECT list(a.range) FROM range(100_000_000) a, range(100) b",
    "SELECT string_agg(repeat('x', 1000), '') FROM range(100_000_000)",
    "SELECT repeat('x', 4_000_000_000)",
    "SELECT count(DISTINCT (a.range, b.range, repeat('x', 200))) FROM range(100_000) a, range(10_000) b",
]


@pytest.mark.slow
@pytest.mark.parametrize("sql", _HOGS)
def test_a_query_that_wants_all_memory_ends_with_a_message_and_not_with_the_machine(
    published: Mapping[str, str], sql: str
) -> None:
    done = _query(published, sql, "--timeout", "20")
    assert done.returncode in {1, 2}, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(children.files_under(_folder(published) / "tmp")) == []


@pytest.mark.slow
def test_one_value_that_is_larger_than_the_limit_is_refused_at_once(published: Mapping[str, str]) -> None:
    """DuckDB's limit does not count it, nor is it interrupted: one text took 15 GB and a minute beyond its timeout."""
    done = _query(published, "SELECT repeat('x', 4_000_000_000)", "--timeout", "60")
    assert done.returncode == 1
    assert done.stderr.startswith("error: Out of Memory Error: failed to allocate data of size 4.0 GiB"), done.stderr


@pytest.mark.slow
def test_what_a_query_spills_is_bounded_and_removed(published: Mapping[str, str]) -> None:
    """DuckDB's own bound is nine tenths of the free disk: one sort of a cross join stopped everybody else's writes."""
    env = {**published, "ETL_MEMORY_LIMIT": "64MB"}
    temporary = _folder(published) / "tmp"
    sizes = [0]
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.wait(0.02):
            found = 0
            for path in children.files_under(temporary):
                try:
                    found += path.stat().st_size
                except FileNotFoundError:
                    continue
            sizes.append(found)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        sql = "SELECT hash(range) AS h, repeat(range::VARCHAR, 60) AS t FROM range(100_000_000) ORDER BY h OFFSET 9e7"
        done = _query(env, sql, "--timeout", "60")
    finally:
        is_over.set()
        watcher.join()
    assert done.returncode == 1, done.stderr
    assert "raise it with ETL_MEMORY_LIMIT" in done.stderr
    assert 0 < max(sizes) <= 64 * 8 * 1_100_000
    assert list(children.files_under(temporary)) == []
