"""A person's notebook: published files that another process holds open for writing while they are replaced and read.

DuckDB opens for writing unless told otherwise, so this is what a first `duckdb.connect("data/warehouse.duckdb")` does.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.published.warehouse import read_publication
from etl_assets_tests import factory
from etl_assets_tests.whole import readers
from etl_assets_tests.whole.sandbox import CUSTOMERS, Sandbox, ended

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
    """A process that has a database file open for writing, and executes what it is sent."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        assert self._answer() == "open"

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def send(self, statement: str) -> str:
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
    """The holders that a test starts; they end with it."""
    started: list[Holder] = []
    yield started
    for holder in started:
        holder.end()


def hold(holders: list[Holder], path: Path) -> Holder:
    """Open a file for writing in another process."""
    holders.append(Holder(path))
    return holders[-1]


def assert_readable(path: Path, generation: str) -> None:
    """Any reader can open the file, through the package and plainly, and sees this generation."""
    for is_plain in (False, True):
        seen = readers.look(path, is_plain=is_plain)
        assert (seen.first_email, seen.last_email) == (generation, generation)
        assert seen.record_count == seen.promised_count
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
def test_a_process_that_writes_to_the_replaced_warehouse_cannot_spoil_the_new_one(
    sandbox: Sandbox, holders: list[Holder], name: str
) -> None:
    """Fails: a forgotten notebook stops a run, or what it saves later makes the published warehouse unreadable."""
    before, after = LIVES[name]
    holder = hold(holders, sandbox.home.warehouse)
    for statement in before:
        assert holder.send(statement) == "done"
    sandbox.publish("second")
    assert_readable(sandbox.home.warehouse, "second")
    for statement in after:
        answer = holder.send(statement)
        # Its writes go nowhere; it gets the error instead of the readers.
        assert answer in ("done", "") or "warehouse.duckdb.wal" in answer, answer
        assert_readable(sandbox.home.warehouse, "second")
    sandbox.publish("third")
    assert_readable(sandbox.home.warehouse, "third")
    assert sandbox.leftovers() == []


def test_a_holder_that_slept_through_two_publications_cannot_spoil_the_last_one(
    sandbox: Sandbox, holders: list[Holder]
) -> None:
    """Fails: it is forgotten with the file that it holds, and a week later it writes."""
    holder = hold(holders, sandbox.home.warehouse)
    for generation in ("second", "third"):
        sandbox.publish(generation)
    assert "warehouse.duckdb.wal" in holder.send(NOTE)
    assert_readable(sandbox.home.warehouse, "third")


def test_the_log_of_a_killed_process_is_removed_without_a_trace(sandbox: Sandbox, holders: list[Holder]) -> None:
    """Fails: a notebook that was killed leaves its write-ahead log, and every later open fails on it."""
    holder = hold(holders, sandbox.home.warehouse)
    assert holder.send(NOTE) == "done"
    holder.end()
    log = sandbox.home.warehouse.with_name("warehouse.duckdb.wal")
    assert log.exists()
    sandbox.publish("second")
    assert_readable(sandbox.home.warehouse, "second")
    assert not log.is_symlink()
    assert not log.exists()


@pytest.mark.parametrize("after", [("close",), (NOTE, "kill"), (NOTE, "CHECKPOINT", NOTE, "close")])
def test_a_process_that_holds_a_shard_open_for_writing_stops_no_run(
    sandbox: Sandbox, holders: list[Holder], after: tuple[str, ...]
) -> None:
    """The sources have changed, so it is rebuilt; fails when the rebuild or the merge meets the holder's lock."""
    shard_file = sandbox.home.shard_file("shard_00")
    holder = hold(holders, shard_file)
    assert holder.send("BEGIN") == "done"
    assert holder.send(NOTE) == "done"
    sandbox.publish("second")
    assert holder.send("ROLLBACK") == "done"
    for statement in after:
        answer = holder.send(statement)
        assert answer in ("done", "") or "shard_00.duckdb.wal" in answer, answer
        assert_readable(shard_file, "second")
    sandbox.do("merge", "again")
    assert_readable(sandbox.home.warehouse, "second")


def test_a_whole_run_rebuilds_a_shard_that_is_held_and_reuses_the_others(
    sandbox: Sandbox, holders: list[Holder]
) -> None:
    """Nothing has changed, but the shard cannot be read; fails when the run then fails, or publishes without it."""
    sandbox.run()
    digest = readers.look(sandbox.home.warehouse)[0]
    hold(holders, sandbox.home.shard_file("shard_00"))
    done = sandbox.run()
    statuses = {shard["shard_id"]: shard["status"] for shard in done.report["shards"]}
    assert statuses == {"shard_00": "succeeded", "shard_01": "reused"}, done
    rows = factory.query(sandbox.home.warehouse, "SELECT shard_id, count(*) FROM shard_attempts GROUP BY 1 ORDER BY 1")
    assert rows == [("shard_00", 2), ("shard_01", 1)], "the other shard was attempted again"
    assert readers.look(sandbox.home.warehouse)[0] == digest


def test_a_merge_that_meets_a_held_shard_names_the_process_and_the_repair_works(
    sandbox: Sandbox, holders: list[Holder]
) -> None:
    """Fails: the merge ends in an error of DuckDB, and the person does not learn which notebook to close."""
    # Published since the last merge, so that its rows cannot be kept from the warehouse.
    sandbox.do("shard_00", "again")
    holder = hold(holders, sandbox.home.shard_file("shard_00"))
    refused = ended(sandbox.begin("merge", "meets it")).error
    assert refused["kind"] == "shard_set"
    assert f"held open for writing by process {holder.pid}" in refused["finding"]
    assert refused["advice"] == [{"action": "run", "setting": None, "value": None, "shards": ["shard_00"]}]
    assert "IO Error" not in refused["finding"]
    assert sandbox.generations() == [("first", CUSTOMERS)]
    # Beside the holder, which goes on holding the file that was.
    sandbox.do("shard_00", "rebuilt")
    sandbox.do("merge", "repaired")
    assert read_publication(sandbox.home) is not None
    assert sandbox.generations() == [("first", CUSTOMERS)]


def test_a_held_shard_that_the_warehouse_holds_already_stops_no_merge(sandbox: Sandbox, holders: list[Holder]) -> None:
    """Fails: a notebook on one shard, whose rows need not be read, keeps a merge from being published."""
    hold(holders, sandbox.home.shard_file("shard_00"))
    sandbox.do("merge", "beside the holder")
    assert factory.query(sandbox.home.warehouse, "SELECT run_id FROM publication") == [("beside the holder",)]
    assert sandbox.generations() == [("first", CUSTOMERS)]


@pytest.mark.parametrize("point", ["merge.copied", "warehouse.before_swap"])
@pytest.mark.parametrize("writes", [True, False])
def test_a_shard_that_is_written_to_during_the_merge_is_named_as_well(
    sandbox: Sandbox, holders: list[Holder], point: str, writes: bool
) -> None:
    """Fails: the message is about a change of the shards, and does not say which process made it.

    A shard that is merely opened has been read already, and is what was read.
    """
    gate = sandbox.gate("gate")
    late = sandbox.begin("merge", "late", point, gate)
    gate.wait_until_reached()
    holder = hold(holders, sandbox.home.shard_file("shard_01"))
    if writes:
        assert holder.send(NOTE) == "done"
        assert holder.send("CHECKPOINT") == "done"
    gate.open()
    end = ended(late)
    if writes:
        assert f"held open for writing by process {holder.pid}" in end.error["finding"]
        assert end.error["advice"][0]["shards"] == ["shard_01"]
    else:
        assert end.code == 0, end
    assert sandbox.leftovers() == []
    assert holder.send("close") == "done"
    if writes:
        # The file is not the one that was published any more, whatever was written to it.
        assert ended(sandbox.begin("merge", "refused")).error["advice"][0]["shards"] == ["shard_01"]
        sandbox.do("shard_01", "repaired")
    sandbox.do("merge", "again")
    assert sandbox.generations() == [("first", CUSTOMERS)]


def test_a_reader_of_the_published_file_is_no_holder(sandbox: Sandbox, tmp_path: Path) -> None:
    """Fails: an open dashboard alone leaves a file of ours beside the warehouse."""
    open_reader = duckdb.connect(str(sandbox.home.warehouse), read_only=True)
    try:
        sandbox.publish("second")
    finally:
        open_reader.close()
    assert list(sandbox.home.root.glob("*.wal")) == []
