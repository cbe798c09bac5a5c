"""A person's notebook: published files that another process holds open for writing while they are replaced and read.

DuckDB opens for writing unless told otherwise, so this is what a first `duckdb.connect("data/warehouse.duckdb")` does.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.published import warehouse
from etl_assets_tests import factory
from etl_assets_tests.whole import readers
from etl_assets_tests.whole.sites import CUSTOMERS, Site, ended

pytestmark = pytest.mark.slow

_PROGRAM = """
import os, signal, sys
import duckdb

connection = duckdb.connect(sys.argv[1])
print("open", flush=True)
for line in sys.stdin:
    try:
        if line.strip() == "close":
            connection.close()
        elif line.strip() == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            connection.execute(line)
        print("done", flush=True)
    except duckdb.Error as error:
        print(str(error).splitlines()[0], flush=True)
"""
NOTE = "CREATE TABLE IF NOT EXISTS notes AS SELECT 1 AS note; INSERT INTO notes VALUES (2)"


class Holder:
    """A process that has a database file open for writing, and does what it is told."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        assert self._answer() == "open"

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def tell(self, statement: str) -> str:
        """Let it execute a statement, `close` or `kill`; returns `done`, its error, or nothing when it is gone."""
        assert self._process.stdin is not None
        self._process.stdin.write(statement + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> None:
        """End it, as a closed lid does."""
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def holders() -> Iterator[list[Holder]]:
    """Those that a test starts; they end with it."""
    started: list[Holder] = []
    yield started
    for holder in started:
        holder.end()


def hold(holders: list[Holder], path: Path) -> Holder:
    """Open a file for writing in another process."""
    holders.append(Holder(path))
    return holders[-1]


def assert_readable(path: Path, generation: str) -> None:
    """Any reader can open the file, in every way there is, and sees this generation."""
    for is_plain in (False, True):
        assert readers.look(path, is_plain=is_plain)[2:5] == (readers.look(path)[1], generation, generation)
    done = subprocess.run(
        [sys.executable, "-c", f"import duckdb; print(duckdb.connect({str(path)!r}).sql('SELECT 42'))"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "42" in done.stdout, done.stderr


# What the holder did before the swap, and what it does after it.
LIVES = {
    "idle, closes": ((), ("close",)),
    "idle, checkpoints": ((), ("CHECKPOINT", "close")),
    "idle, then writes": ((), (NOTE, "CHECKPOINT", NOTE, "close")),
    "idle, then writes and is killed": ((), (NOTE, "kill")),
    "uncommitted, commits": (("BEGIN", NOTE), (NOTE, "COMMIT", "close")),
    "uncommitted, commits and is killed": (("BEGIN", NOTE), ("COMMIT", "kill")),
    "not checkpointed, closes": ((NOTE,), ("close",)),
    "not checkpointed, checkpoints and is killed": ((NOTE,), ("CHECKPOINT", NOTE, "kill")),
    "not checkpointed, writes and is killed": ((NOTE,), (NOTE, "kill")),
}


@pytest.mark.parametrize("name", LIVES)
def test_who_holds_the_old_warehouse_open_for_writing_cannot_spoil_the_new_one(
    site: Site, holders: list[Holder], name: str
) -> None:
    """Fails: a forgotten notebook stops a run, or what it saves later makes the published warehouse unreadable."""
    before, after = LIVES[name]
    holder = hold(holders, site.home.warehouse)
    for statement in before:
        assert holder.tell(statement) == "done"
    site.publish("second")
    assert_readable(site.home.warehouse, "second")
    for statement in after:
        answer = holder.tell(statement)
        # Its writes go nowhere; it is told so instead of the readers.
        assert answer in ("done", "") or "warehouse.duckdb.wal" in answer, answer
        assert_readable(site.home.warehouse, "second")
    site.publish("third")
    assert_readable(site.home.warehouse, "third")
    assert site.leftovers() == []


def test_a_holder_that_slept_through_two_publications_cannot_spoil_the_last_one(
    site: Site, holders: list[Holder]
) -> None:
    """Fails: it is forgotten with the file that it holds, and a week later it writes."""
    holder = hold(holders, site.home.warehouse)
    for generation in ("second", "third"):
        site.publish(generation)
    assert "warehouse.duckdb.wal" in holder.tell(NOTE)
    assert_readable(site.home.warehouse, "third")


def test_a_log_of_somebody_who_is_gone_is_removed_without_a_trace(site: Site, holders: list[Holder]) -> None:
    """Fails: a notebook that was killed leaves its write-ahead log, and every later open fails on it."""
    holder = hold(holders, site.home.warehouse)
    assert holder.tell(NOTE) == "done"
    holder.end()
    log = site.home.warehouse.with_name("warehouse.duckdb.wal")
    assert log.exists()
    site.publish("second")
    assert_readable(site.home.warehouse, "second")
    assert not log.is_symlink()
    assert not log.exists()


@pytest.mark.parametrize("after", [("close",), (NOTE, "kill"), (NOTE, "CHECKPOINT", NOTE, "close")])
def test_who_holds_a_shard_open_for_writing_stops_no_run(
    site: Site, holders: list[Holder], after: tuple[str, ...]
) -> None:
    """The sources have changed, so it is rebuilt; fails when the rebuild or the merge meets the holder's lock."""
    shard_file = site.home.shard_file("shard_00")
    holder = hold(holders, shard_file)
    assert holder.tell("BEGIN") == "done"
    assert holder.tell(NOTE) == "done"
    site.publish("second")
    assert holder.tell("ROLLBACK") == "done"
    for statement in after:
        answer = holder.tell(statement)
        assert answer in ("done", "") or "shard_00.duckdb.wal" in answer, answer
        assert_readable(shard_file, "second")
    site.do("merge", "again")
    assert_readable(site.home.warehouse, "second")


def test_a_whole_run_rebuilds_a_shard_that_somebody_holds_and_reuses_the_others(
    site: Site, holders: list[Holder]
) -> None:
    """Nothing has changed, but the shard cannot be read; fails when the run then fails, or publishes without it."""
    site.run()
    digest = readers.look(site.home.warehouse)[0]
    hold(holders, site.home.shard_file("shard_00"))
    out = site.run()
    rows = factory.query(
        site.home.warehouse,
        "SELECT shard_id, status FROM shard_attempts ORDER BY started_at DESC, shard_id LIMIT 2",
    )
    assert sorted(rows) == [("shard_00", "succeeded"), ("shard_01", "reused")], out
    assert readers.look(site.home.warehouse)[0] == digest


def test_a_merge_that_meets_a_held_shard_names_the_process_and_the_repair_works(
    site: Site, holders: list[Holder]
) -> None:
    """Fails: the merge ends in an error of DuckDB, or calls a file damaged that is only in use."""
    holder = hold(holders, site.home.shard_file("shard_00"))
    code, out = ended(site.begin("merge", "meets it"))
    assert code == 3
    assert f"shard_00: held open for writing by process {holder.pid}" in out
    assert "etl-assets run --shards shard_00" in out
    assert "IO Error" not in out
    assert site.generations() == [("first", CUSTOMERS)]
    # Beside the holder, which goes on holding the file that was.
    site.do("shard_00", "rebuilt")
    site.do("merge", "repaired")
    assert warehouse.read_publication(site.home) is not None
    assert site.generations() == [("first", CUSTOMERS)]


@pytest.mark.parametrize("point", ["merge.copied", "warehouse.before_swap"])
@pytest.mark.parametrize("writes", [True, False])
def test_a_shard_that_is_written_to_during_the_merge_is_named_as_well(
    site: Site, holders: list[Holder], point: str, writes: bool
) -> None:
    """Fails: the message is about a change of the shards, and nobody knows whom to ask.

    One that is merely opened has been read already, and is what was read.
    """
    gate = site.gate("gate")
    late = site.begin("merge", "late", point, gate)
    gate.wait_until_reached()
    holder = hold(holders, site.home.shard_file("shard_01"))
    if writes:
        assert holder.tell(NOTE) == "done"
        assert holder.tell("CHECKPOINT") == "done"
    gate.open()
    code, out = ended(late)
    assert code == (3 if writes else 0)
    assert (f"shard_01: held open for writing by process {holder.pid}" in out) == writes
    assert site.leftovers() == []
    assert holder.tell("close") == "done"
    site.do("merge", "again")
    assert site.generations() == [("first", CUSTOMERS)]


def test_a_reader_of_the_published_file_is_no_holder(site: Site, tmp_path: Path) -> None:
    """Fails: an open dashboard alone leaves a file of ours beside the warehouse."""
    open_reader = duckdb.connect(str(site.home.warehouse), read_only=True)
    try:
        site.publish("second")
    finally:
        open_reader.close()
    assert list(site.home.root.glob("*.wal")) == []
