"""What a run costs, in figures that do not depend on how fast the machine is: ratios, bytes, events, opened files.

Wide margins: a red test here means that something is done again and again that was done once, not that it got slower by
a little. How fast it is, `make bench` measures.
"""

import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from bench import measure, ways
from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.shards import inspect_shards
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.engine.steps.stage import stage
from etl_assets.engine.stopping import Stop
from etl_assets.orchestration.run import run_pipeline
from etl_assets.pipeline.overview import collect
from etl_assets.samples.writing import generate
from etl_assets_tests import factory
from etl_assets_tests.dagster_runs import settings_for

ROWS = 100_000
# Seen: 4, of which more than half is what a process with Dagster in it costs anyhow.
MAX_CPU_RATIO = 12
# Seen: 1.4, for slices, shards and warehouse, each written once, and Dagster's history.
MAX_WRITTEN_PER_BYTE = 4
# Seen: 320 MB, of which 200 are Dagster and its imports.
MAX_PEAK_BYTES = 600_000_000
# Seen: 4 (two log lines, what is planned, what is made).
MAX_EVENTS_A_SHARD = 6
# Seen: 71, for three runs, four sources, the merge and nine checks.
MAX_OTHER_EVENTS = 150
# Seen: 94 KB; 537 KB with the blocks that a large shard has.
MAX_SMALL_SHARD_BYTES = 200_000
# Seen: 86, the head of a write-ahead log.
MAX_LOGGED_BYTES = 500


@pytest.mark.slow
def test_a_run_costs_a_bounded_multiple_of_one_query(tmp_path: Path) -> None:
    """Fails: each shard reads all files again, or Dagster stores an event for every row."""
    sources = tmp_path / "sources"
    generate(sources, rows=ROWS, seed=1)
    size = sum(path.stat().st_size for path in sources.iterdir())
    log = tmp_path / "log"

    def cost(command: Sequence[str], **variables: str) -> measure.Cost:
        environment = ways.environment() | variables | {"PYTHONPATH": str(ways.CHECKOUT)}
        found = measure.measure(command, environment=environment, folder=tmp_path, log=log, timeout_s=600)
        assert found.exit_code == 0, log.read_text()
        return found

    floor = cost([sys.executable, "-m", "bench.peers.duckdb_query", str(sources), str(tmp_path / "floor.duckdb")])
    run = cost(
        [sys.executable, "-m", "etl_assets.cli.main", "run"],
        ETL_SOURCES=str(sources),
        ETL_HOME=str(tmp_path / "home"),
        DAGSTER_HOME=str(tmp_path / "dagster"),
    )
    assert run.cpu_s / floor.cpu_s < MAX_CPU_RATIO
    assert run.peak_bytes < MAX_PEAK_BYTES
    # Where the temporary folder is in memory, nothing goes to a disk.
    assert (run.written_bytes or run.wchar_bytes) / size < MAX_WRITTEN_PER_BYTE


def test_dagster_stores_a_few_events_a_shard(sources: Path, home: Home) -> None:
    """Fails: the history of a thousand shards is what a run waits for."""
    factory.write_exports(sources, crm=[factory.row(f"c{number}") for number in range(60)])
    counts = {}
    for shard_count in (4, 12):
        site = factory.site_at(Home(home.root / str(shard_count)), shard_count)
        settings = settings_for(sources, site.home, shard_count)
        with dg.DagsterInstance.ephemeral() as instance:
            assert run_pipeline(site, settings, instance=instance, on_event=lambda _: None).ok
            counts[shard_count] = sum(len(instance.all_logs(run.run_id)) for run in instance.get_runs())
    a_shard = (counts[12] - counts[4]) / 8
    assert a_shard <= MAX_EVENTS_A_SHARD
    assert counts[4] - 4 * a_shard <= MAX_OTHER_EVENTS


@dataclass(frozen=True)
class Touched:
    """How often DuckDB has opened each file, and how many bytes it has written to each, by the file's name."""

    opened: "Counter[str]" = field(default_factory=Counter)
    written: "Counter[str]" = field(default_factory=Counter)

    @property
    def logged_bytes(self) -> int:
        """What went to write-ahead logs."""
        return sum(count for name, count in self.written.items() if name.endswith(".wal"))

    def clear(self) -> None:
        self.opened.clear()
        self.written.clear()


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> Touched:
    """What DuckDB does to files in the engine."""
    found = Touched()
    workbench, close = duck.workbench, duck.Workbenches.close
    lock_down = duck.lock_down

    def logging(connection: duckdb.DuckDBPyConnection, *reach: Sequence[Path]) -> None:
        connection.execute("CALL enable_logging('FileSystem', level = 'TRACE')")
        lock_down(connection, *reach)

    def count(connection: duckdb.DuckDBPyConnection) -> None:
        connection.execute("USE memory")
        messages = connection.execute("SELECT message FROM duckdb_logs WHERE type = 'FileSystem'").fetchall()
        entries = [json.loads(message) for (message,) in messages]
        for entry in entries:
            # Exports are read through a descriptor, which is still open here.
            name = Path(os.path.realpath(entry["path"])).name
            if entry["op"] == "OPEN":
                found.opened[name] += 1
            elif entry["op"] == "WRITE":
                found.written[name] += int(entry["bytes"])

    @contextlib.contextmanager
    def counting(*args: Any, **options: Any) -> Iterator[duckdb.DuckDBPyConnection]:
        with workbench(*args, **options) as connection:
            yield connection
            count(connection)

    def counting_close(benches: duck.Workbenches) -> None:
        with benches.one(Stop()) as connection:
            count(connection)
        close(benches)

    monkeypatch.setattr(duck, "lock_down", logging)
    monkeypatch.setattr(duck, "workbench", counting)
    monkeypatch.setattr(duck.Workbenches, "close", counting_close)
    return found


def test_a_file_is_opened_as_often_as_it_must_be(sources: Path, home: Home, touched: Touched) -> None:
    """Fails: the cost grows with shards × files, as where every shard reads everything and filters."""
    factory.write_exports(sources, crm=[factory.row(f"c{number}") for number in range(60)])
    site = factory.site_at(home, 8)
    factory.stage_all(factory.staging_request(sources, site))
    assert touched.opened["crm.csv"] == 1
    touched.clear()
    factory.build_shard(site, factory.input_of(site, "shard_03"))
    assert touched.opened.total() <= 16, touched
    # A log of the head only: the rows would be written to it, synced, and written again to the file.
    assert touched.logged_bytes < MAX_LOGGED_BYTES, touched
    assert 0 < touched.written.total() < MAX_SMALL_SHARD_BYTES, touched
    assert {name for name in touched.opened if name.startswith("shard_")} == {"shard_03.parquet"}
    for shard_id in site.shard_ids:
        factory.build_shard(site, factory.input_of(site, shard_id))
    touched.clear()
    merge_shards(site, factory.LIMITS, run_id="run")
    assert touched.written.total() > 100_000, touched
    assert touched.logged_bytes < MAX_LOGGED_BYTES, touched
    # One table, bound and read.
    assert all(touched.opened[f"{shard_id}.duckdb"] <= 2 for shard_id in site.shard_ids), touched


def test_many_small_shards_take_little_disk_and_are_compared_without_a_database(
    sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a thousand shards of two hundred customers take a gigabyte, and `status` opens a thousand databases."""
    factory.write_exports(sources, crm=[factory.row(f"c{number}") for number in range(2000)])
    site = factory.site_at(home, 10)
    factory.run_engine(sources, site)
    sizes = [publishing.size_bytes(site.home.shard_file(shard_id)) or 0 for shard_id in site.shard_ids]
    assert 0 < max(sizes) < MAX_SMALL_SHARD_BYTES
    settings = settings_for(sources, home, 10)
    connect, connected = duckdb.connect, Counter[str]()

    def counting(*args: Any, **options: Any) -> duckdb.DuckDBPyConnection:
        connected["times"] += 1
        return connect(*args, **options)

    monkeypatch.setattr(duckdb, "connect", counting)
    assert inspect_shards(site).obstacles == {}
    assert connected["times"] == 0
    assert collect(site, settings).next_step is None
    # What the warehouse says of itself: its publication, the overlap of its sources, its notices.
    assert connected["times"] <= 3


def test_staging_large_exports_into_many_slices_does_not_spill(sources: Path, home: Home, touched: Touched) -> None:
    """Fails: the writers of many slices gather more than the memory limit, and staging takes twice as long."""
    factory.write_exports(sources)
    columns = ", ".join(f"'{value}' AS {name}" for name, value in factory.row("").items() if name != "customer_id")
    rows = f"SELECT 'c' || i AS customer_id, {columns} FROM range(1_500_000) numbers(i)"
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({rows}) TO '{sources / 'crm.csv'}' (HEADER)")
    site = factory.site_at(home, 30)
    request = replace(factory.staging_request(sources, site), limits=duck.Limits(memory_mb=200))
    snapshot, _ = stage(site.contract.source("crm"), request)
    assert snapshot.rows_accepted == 1_500_000
    assert not [name for name in touched.opened if name.startswith("duckdb_temp")], touched
