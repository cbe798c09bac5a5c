"""Publishing and sweeping: a reader sees all of the old or all of the new, and the killed leave nothing behind."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.layout import Home

# With two renames instead of an exchange, a reader misses the folder several times in so many.
REPLACEMENTS = 200

# Begins a file and a folder under temporary names, tells their names, and goes on writing until it is ended.
_WRITER = """
import sys
from pathlib import Path
from etl_assets.engine import storage

folder = Path(sys.argv[1])
with storage.publish_file(folder / "warehouse.duckdb") as file, storage.publish_directory(folder / "snapshot") as room:
    file.write_text("half")
    file.with_name(file.name + ".wal").write_text("half")
    (room / "shard_00.parquet").write_text("half")
    print(file.name, room.name, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def writer(folder: Path) -> Iterator[tuple[subprocess.Popen[str], list[Path]]]:
    """A real process in the middle of publishing, and the temporary files it has made."""
    command = [sys.executable, "-c", _WRITER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            file, room = process.stdout.readline().split()
            yield process, [folder / file, folder / f"{file}.wal", folder / room]
        finally:
            process.kill()


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_published_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with storage.publish_file(target) as temporary:
        temporary.write_text("text")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "text"
    assert names_in(target.parent) == ["file.txt"]


def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    """Fails: an error while the warehouse is built costs the warehouse that was there."""
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write_and_fail() -> None:
        with storage.publish_file(target) as temporary:
            temporary.write_text("half")
            temporary.with_name(temporary.name + ".wal").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["file.txt"]


def test_nothing_is_published_when_nothing_was_written(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(FileNotFoundError), storage.publish_file(target):
        pass
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["file.txt"]


def test_a_polling_reader_sees_only_whole_versions(tmp_path: Path) -> None:
    """Fails: a query that happens to run during the swap sees half a file, or none."""
    target = tmp_path / "file.txt"
    versions = [letter * 200_000 for letter in "abcdefghijklmnopqrst"]
    target.write_text(versions[0])
    seen: list[str] = []
    failures: list[OSError] = []
    started, stop = threading.Event(), threading.Event()

    def poll() -> None:
        while not stop.is_set():
            try:
                seen.append(target.read_text())
            except OSError as error:
                failures.append(error)
            started.set()

    reader = threading.Thread(target=poll)
    reader.start()
    started.wait()
    for version in versions[1:]:
        with storage.publish_file(target) as temporary, temporary.open("w") as stream:
            for start in range(0, len(version), 10_000):
                stream.write(version[start : start + 10_000])
                stream.flush()
    stop.set()
    reader.join()
    assert not failures
    assert set(seen) <= set(versions)
    assert [versions.index(text) for text in seen] == sorted(versions.index(text) for text in seen)


def test_a_reader_that_has_the_old_file_open_keeps_its_data(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with target.open() as stream:
        with storage.publish_file(target) as temporary:
            temporary.write_text("new")
        assert stream.read() == "old"
    assert target.read_text() == "new"


def test_a_leftover_write_ahead_log_does_not_spoil_the_new_database(tmp_path: Path) -> None:
    """Fails: after a kill, no later open of the published database succeeds."""
    target = tmp_path / "warehouse.duckdb"
    wal = tmp_path / "warehouse.duckdb.wal"
    with contextlib.closing(duckdb.connect(str(target))) as connection:
        connection.execute("SET wal_autocheckpoint = '1GB'")
        connection.execute("CREATE TABLE old AS SELECT 1 AS n")
        left = wal.read_bytes()
    wal.write_bytes(left)
    with storage.publish_file(target) as temporary, contextlib.closing(duckdb.connect(str(temporary))) as connection:
        connection.execute("CREATE TABLE fresh AS SELECT 2 AS n")
    assert names_in(tmp_path) == ["warehouse.duckdb"]
    with contextlib.closing(duckdb.connect(str(target), read_only=True)) as connection:
        assert connection.execute("SELECT n FROM fresh").fetchall() == [(2,)]


def test_a_published_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "staged" / "crm" / "abc"
    with storage.publish_directory(target) as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "file").write_text("text")
        assert not target.exists()
    assert (target / "sub" / "file").read_text() == "text"
    assert names_in(target.parent) == ["abc"]


def test_a_folder_published_by_another_first_stays(tmp_path: Path) -> None:
    """Fails: two runs of the same input at the same time end in an error, or a reader loses the files it reads."""
    target = tmp_path / "abc"
    with storage.publish_directory(target) as second:
        (second / "file").write_text("second")
        with storage.publish_directory(target) as first:
            (first / "file").write_text("first")
    assert (target / "file").read_text() == "first"
    assert names_in(tmp_path) == ["abc"]


def test_a_replaced_folder_is_there_at_every_moment(tmp_path: Path) -> None:
    """Fails: a run that meets a forced one takes its source for one that nobody has staged, and ends for good."""
    target, missing, is_done = tmp_path / "abc", [], threading.Event()

    def publish(text: str) -> None:
        with storage.publish_directory(target, replace=True) as temporary:
            (temporary / "snapshot.json").write_text(text)

    def poll() -> None:
        while not is_done.is_set():
            try:
                (target / "snapshot.json").read_text()
            except FileNotFoundError as error:
                missing.append(error)

    publish("0")
    reader = threading.Thread(target=poll)
    reader.start()
    try:
        for number in range(1, REPLACEMENTS):
            publish(str(number))
    finally:
        is_done.set()
        reader.join()
    assert missing == []
    assert (target / "snapshot.json").read_text() == str(REPLACEMENTS - 1)
    assert names_in(tmp_path) == ["abc"]


def test_a_folder_is_not_published_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_text("a file")
    with pytest.raises(OSError, match="abc"), storage.publish_directory(tmp_path / "abc") as temporary:
        (temporary / "file").write_text("text")
    assert names_in(tmp_path) == ["abc"]


def test_a_failure_publishes_no_folder(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with storage.publish_directory(tmp_path / "abc") as temporary:
            (temporary / "file").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert names_in(tmp_path) == []


def test_sweeping_takes_the_leftovers_of_the_killed_only(tmp_path: Path) -> None:
    """Fails: killed attempts fill the disk, or a living one loses the file it is writing."""
    (tmp_path / "warehouse.duckdb").write_text("published")
    with writer(tmp_path) as (living, kept), writer(tmp_path) as (killed, left):
        assert storage.sweep(tmp_path) == []
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert all(path.exists() for path in left)
        assert storage.sweep(tmp_path) == sorted(left)
        assert names_in(tmp_path) == sorted([*(path.name for path in kept), "warehouse.duckdb"])
        assert living.poll() is None
        living.communicate("")
    assert names_in(tmp_path) == ["snapshot", "warehouse.duckdb"]
    assert (tmp_path / "warehouse.duckdb").read_text() == "half"


def test_a_killed_process_that_nobody_waits_for_is_dead(tmp_path: Path) -> None:
    """Fails: in a container whose first process reaps nothing, a killed attempt runs for ever."""
    with writer(tmp_path) as (process, left):
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        os.kill(process.pid, 0)  # its pid still answers
        assert storage.sweep(tmp_path) == sorted(left)


def test_a_pid_that_another_process_has_now_does_not_keep_a_leftover(tmp_path: Path) -> None:
    host, pid, start = storage.this_process()
    own = storage.temporary_path(tmp_path / "file")
    own.write_text("being written")
    stranger = own.with_name(own.name.replace(f"-{pid}-{start}-", f"-{pid}-1{start}-"))
    stranger.write_text("left by an earlier process of this pid")
    assert storage.process_is_alive(host, pid, start) is True
    assert storage.sweep(tmp_path) == [stranger]


def test_a_process_noted_by_its_pid_alone_is_told_from_a_later_one_of_that_pid(tmp_path: Path) -> None:
    """Fails: after a restart of the machine, a dead run counts as in progress while its pid is in use."""
    assert storage.process_was_there(os.getpid(), time.time())
    # Before this process began.
    assert storage.process_was_there(os.getpid(), time.time() - 1e6) is not Path("/proc/self/stat").exists()
    with writer(tmp_path) as (process, _):
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not storage.process_was_there(process.pid, time.time())
        process.wait()
        assert not storage.process_was_there(process.pid, time.time())


def test_another_hosts_file_is_left_alone_for_a_day(tmp_path: Path) -> None:
    """Fails: on shared storage, one machine removes what another one is writing."""
    foreign = tmp_path / f"{storage.TEMPORARY_PREFIX}shard_00.duckdb-another-host-1-2-abcdef00"
    foreign.write_text("being written")
    assert storage.process_is_alive("another-host", 1, "2") is None
    assert storage.sweep(tmp_path) == []
    long_ago = foreign.stat().st_mtime - storage.FOREIGN_LEFTOVER_S - 60
    os.utime(foreign, (long_ago, long_ago))
    assert storage.sweep(tmp_path) == [foreign]


@pytest.mark.parametrize("host", ["plain", "with-hyphens-in", "10-1"])
def test_a_temporary_name_tells_its_writer_whatever_the_names(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    for name in ("file", "a-b-1-2.duckdb", "snap-plain-0"):
        storage.temporary_path(tmp_path / name).write_text("being written")
    assert storage.sweep(tmp_path) == []
    assert len(names_in(tmp_path)) == 3


def test_sweeping_a_folder_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert storage.sweep(tmp_path / "nowhere") == []


def test_the_scratch_folder_is_private_and_goes_away(home: Home) -> None:
    with storage.scratch_directory(home) as one, storage.scratch_directory(home) as two:
        (one / "spill").write_text("x")
        assert one != two
        assert storage.sweep(home.scratch) == []
    assert names_in(home.scratch) == []


def test_json_is_published_and_read_back(tmp_path: Path) -> None:
    storage.publish_json(tmp_path / "file.json", {"name": "Ünal", "n": [1, None]})
    assert storage.read_json(tmp_path / "file.json") == {"name": "Ünal", "n": [1, None]}


@pytest.mark.parametrize("content", [b"", b'{"half": ', b"\xff\xfe\x00", b"\0" * 20])
def test_a_document_that_is_none_reads_as_not_there(tmp_path: Path, content: bytes) -> None:
    """Fails: one file damaged by a full or failing disk stops every later run."""
    (tmp_path / "file.json").write_bytes(content)
    assert storage.read_json(tmp_path / "file.json") is None
    assert storage.read_json(tmp_path / "nowhere.json") is None


def test_listing_shows_published_files_in_name_order(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "c.txt"):
        (tmp_path / name).write_text("{}")
    storage.temporary_path(tmp_path / "d.json").with_suffix(".json").write_text("half")
    assert [path.name for path in storage.list_files(tmp_path, ".json")] == ["a.json", "b.json"]
    assert storage.list_files(tmp_path / "nowhere", ".json") == []


def test_removing_a_link_to_a_folder_spares_the_folder(tmp_path: Path) -> None:
    """Fails: a link under ETL_HOME costs the user the files it points to."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "precious", target_is_directory=True)
    storage.remove(tmp_path / "link")
    assert names_in(tmp_path) == ["precious"]
    assert names_in(tmp_path / "precious") == ["file"]


def test_the_layout_of_the_home_is_what_the_readme_says(home: Home) -> None:
    assert home.warehouse == home.root / "warehouse.duckdb"
    assert home.shard_file("shard_03") == home.root / "shards" / "shard_03.duckdb"
    assert home.snapshot("crm", "abc") == home.root / "staged" / "crm" / "abc"
    assert home.source_pointer("crm") == home.root / "staged" / "crm" / "current.json"
