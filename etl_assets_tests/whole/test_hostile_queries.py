"""`etl-assets query` against texts that want all of the machine, as a process of its own."""

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
    """The environment of a small warehouse, and a current and a temporary folder of its own."""
    folder = tmp_path_factory.mktemp("published")
    customers = [factory.row(f"cust_{number}") for number in range(5)]
    factory.write_exports(folder / "sources", crm=customers, billing=customers, product=customers, support=customers)
    factory.run_engine(folder / "sources", factory.site_at(Home(folder / "home"), 2))
    for name in ("here", "tmp"):
        (folder / name).mkdir()
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
