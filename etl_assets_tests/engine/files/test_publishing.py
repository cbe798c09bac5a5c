"""Publishing, listing and reading: a reader sees all of the old or all of the new, never a half."""

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl_assets.engine.files import folder_entries, locks, publishing, sweeping
from etl_assets.engine.files.documents import read_json
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.temporary import TEMPORARY_PREFIX, temporary_path
from etl_assets.errors import Action, Advice, ConfigError, StoppedError


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_published_file_appears_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with publishing.publish_file(target, what=None) as temporary:
        temporary.write_text("text")
        assert temporary.parent == target.parent
        assert not target.exists()
    assert target.read_text() == "text"
    assert names_in(target.parent) == ["file.txt"]


def test_a_failure_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    """Fails: an error while the warehouse is built costs the published warehouse."""
    target = tmp_path / "file.txt"
    target.write_text("old")

    def write_and_fail() -> None:
        with publishing.publish_file(target, what=None) as temporary:
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
    with pytest.raises(FileNotFoundError), publishing.publish_file(target, what=None):
        pass
    assert target.read_text() == "old"
    assert names_in(tmp_path) == ["file.txt"]


def test_a_reader_that_polls_sees_whole_versions_only(tmp_path: Path) -> None:
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
        with publishing.publish_file(target, what=None) as temporary, temporary.open("w") as stream:
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
        with publishing.publish_file(target, what=None) as temporary:
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
    with (
        publishing.publish_file(target, what=None) as temporary,
        contextlib.closing(duckdb.connect(str(temporary))) as connection,
    ):
        connection.execute("CREATE TABLE fresh AS SELECT 2 AS n")
    assert names_in(tmp_path) == ["warehouse.duckdb"]
    with contextlib.closing(duckdb.connect(str(target), read_only=True)) as connection:
        assert connection.execute("SELECT n FROM fresh").fetchall() == [(2,)]


def test_a_published_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "staged" / "crm" / "abc"
    with publishing.publish_directory(target, what="snapshot") as temporary:
        (temporary / "sub").mkdir()
        (temporary / "sub" / "file").write_text("text")
        assert not target.exists()
    assert (target / "sub" / "file").read_text() == "text"
    assert names_in(target.parent) == ["abc"]


def test_a_folder_published_by_another_first_stays(tmp_path: Path) -> None:
    """Fails: two runs of the same input at the same time end in an error, or a reader loses the files it reads."""
    target = tmp_path / "abc"
    with publishing.publish_directory(target, what="snapshot") as second:
        (second / "file").write_text("second")
        with publishing.publish_directory(target, what="snapshot") as first:
            (first / "file").write_text("first")
    assert (target / "file").read_text() == "first"
    assert names_in(tmp_path) == ["abc"]


def test_the_folder_that_stays_is_the_one_that_is_kept(tmp_path: Path) -> None:
    """Fails: another run sweeps the folder of the first before the second has set the pointer to it."""
    target = tmp_path / "abc"
    with contextlib.ExitStack() as holder:
        with publishing.publish_directory(target, what="snapshot", holder=holder):
            target.mkdir()
            (target / "file").write_text("first")
        with locks.alone(target, target) as is_unused:
            assert not is_unused
    with locks.alone(target, target) as is_unused:
        assert is_unused


def test_a_folder_is_not_published_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_text("a file")
    with (
        pytest.raises(OSError, match="abc"),
        publishing.publish_directory(tmp_path / "abc", what="snapshot") as temporary,
    ):
        (temporary / "file").write_text("text")
    assert names_in(tmp_path) == ["abc"]


def test_a_failure_publishes_no_folder(tmp_path: Path) -> None:
    def write_and_fail() -> None:
        with publishing.publish_directory(tmp_path / "abc", what="snapshot") as temporary:
            (temporary / "file").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_and_fail()
    assert names_in(tmp_path) == []


def test_json_is_published_and_read_back(tmp_path: Path) -> None:
    publishing.publish_json(tmp_path / "file.json", {"name": "Ünal", "n": [1, None]})
    assert read_json(tmp_path / "file.json") == {"name": "Ünal", "n": [1, None]}


@pytest.mark.parametrize("content", [b"", b'{"half": ', b"\xff\xfe\x00", b"\0" * 20])
def test_a_damaged_document_reads_as_none(tmp_path: Path, content: bytes) -> None:
    """Fails: one file damaged by a full or failing disk stops every later run."""
    (tmp_path / "file.json").write_bytes(content)
    assert read_json(tmp_path / "file.json") is None
    assert read_json(tmp_path / "nowhere.json") is None


def test_listing_shows_published_files_in_name_order(tmp_path: Path) -> None:
    for name in ("b.json", "a.json", "c.txt"):
        (tmp_path / name).write_text("{}")
    temporary_path(tmp_path / "d.json").with_suffix(".json").write_text("half")
    assert [path.name for path in folder_entries.list_files(tmp_path, ".json")] == ["a.json", "b.json"]
    assert folder_entries.list_files(tmp_path / "nowhere", ".json") == []


def test_removing_a_link_to_a_folder_spares_the_folder(tmp_path: Path) -> None:
    """Fails: a link under ETL_HOME costs the user the files it points to."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("text")
    (tmp_path / "link").symlink_to(tmp_path / "precious", target_is_directory=True)
    sweeping.remove(tmp_path / "link")
    assert names_in(tmp_path) == ["precious"]
    assert names_in(tmp_path / "precious") == ["file"]


def _keep(monkeypatch: pytest.MonkeyPatch, name: str, error: type[OSError]) -> None:
    """Make the removal of files of this name fail."""
    unlink = os.unlink

    def refused(path: str | Path, **options: Any) -> None:
        if Path(path).name == name:
            raise error(1, "not this one", str(path))
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", refused)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three files."""
    path = tmp_path / "folder"
    path.mkdir()
    for name in "abc":
        (path / name).write_text("personal data")
    return path


def test_what_cannot_be_removed_is_an_error_and_the_rest_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: personal data that should be gone stays without a word."""
    with monkeypatch.context() as patch:
        _keep(patch, "b", PermissionError)
        with pytest.raises(PermissionError, match="not this one"):
            sweeping.remove(folder)
    assert names_in(folder) == ["b"]
    sweeping.remove(folder)
    assert not folder.exists()


def test_what_another_run_removes_meanwhile_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: two runs that sweep at once end in an error."""
    rmtree = shutil.rmtree

    def removed_first(path: Path, **options: Any) -> None:
        rmtree(path)
        rmtree(path, **options)

    monkeypatch.setattr(shutil, "rmtree", removed_first)
    sweeping.remove(folder)
    assert not folder.exists()


def test_finished_work_ends_with_a_warning_when_something_of_it_stays(
    folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Fails: a run whose result is published counts as failed, or does not say where it left personal data."""
    with monkeypatch.context() as patch:
        _keep(patch, "b", PermissionError)
        assert not sweeping.discard(folder)
        with publishing.scratch_directory(home) as scratch:
            (scratch / "b").write_text("spilled")
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith(f"warning: {folder} cannot be removed (not this one). It may hold personal data")
    assert str(scratch) in messages[1]
    assert sweeping.discard(folder)
    assert sweeping.discard(folder)


def test_the_last_check_decides_whether_a_file_is_published(tmp_path: Path) -> None:
    """Fails: a merge that was overtaken replaces the newer warehouse."""
    target = tmp_path / "warehouse.duckdb"
    target.write_text("newer")
    seen: list[list[str]] = []

    def refuse() -> None:
        # Asked after everything was written.
        seen.extend(path.read_text().split() for path in tmp_path.iterdir() if path != target)
        raise StoppedError("overtaken")

    with pytest.raises(StoppedError), publishing.publish_file(target, what=None, check=refuse) as temporary:
        temporary.write_text("all of it")
    assert seen == [["all", "of", "it"]]
    assert target.read_text() == "newer"
    assert names_in(tmp_path) == ["warehouse.duckdb"]


def test_a_stamp_changes_with_every_publication_and_with_nothing_else(tmp_path: Path) -> None:
    """Fails: status and sensors miss a shard that was built again, or see changes where there are none."""
    target, other = tmp_path / "shard_00.json", tmp_path / "shard_01.json"
    found = [publishing.stamps([target, other])]
    for _ in range(3):
        publishing.publish_json(target, {"same": "text"})
        found.append(publishing.stamps([target, other]))
        assert publishing.stamps([target, other]) == found[-1]
    assert found[0] == dict.fromkeys([target, other], publishing.MISSING)
    assert len({stamps[target] for stamps in found}) == 4
    assert {stamps[other] for stamps in found} == {publishing.MISSING}


def test_the_size_is_that_of_the_published_file(tmp_path: Path) -> None:
    assert publishing.size_bytes(tmp_path / "file") is None
    (tmp_path / "file").write_bytes(b"12345")
    assert publishing.size_bytes(tmp_path / "file") == 5


def test_listing_folders_shows_published_ones(tmp_path: Path) -> None:
    """Fails: a snapshot that is being written, or a link to one, is swept as an old one."""
    for name in ("abc", "def", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "current.json").write_text("{}")
    (tmp_path / "link").symlink_to(tmp_path / "abc", target_is_directory=True)
    temporary_path(tmp_path / "ghi").mkdir()
    assert [path.name for path in folder_entries.list_folders(tmp_path)] == ["abc", "def"]
    assert folder_entries.list_folders(tmp_path / "nowhere") == []


def test_a_home_that_can_be_written_to_is_made_and_left_empty(home: Home) -> None:
    publishing.require_writable(home)
    assert names_in(home.root) == []


def test_a_home_that_cannot_be_made_is_refused_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to") as caught:
        publishing.require_writable(Home(tmp_path / "file" / "home"))
    assert caught.value.advice == (Advice(Action.SET, "ETL_HOME", "data"),)
    assert caught.value.subject == str(tmp_path / "file" / "home")


def test_what_is_published_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: after a power cut, a published name holds nothing, or the name itself is lost."""
    done: list[tuple[str, str]] = []
    sync, rename, replace = publishing.sync, os.rename, os.replace

    def record(verb: str, call: Callable[..., None]) -> Callable[..., None]:
        def recorded(path: Path, *more: Path) -> None:
            name = "temporary" if path.name.startswith(TEMPORARY_PREFIX) else path.name
            done.append((verb, name))
            call(path, *more)

        return recorded

    monkeypatch.setattr(publishing, "sync", record("sync", sync))
    monkeypatch.setattr(os, "rename", record("rename", rename))
    monkeypatch.setattr(os, "replace", record("rename", replace))
    with publishing.publish_file(tmp_path / "new" / "file", what=None) as temporary:
        temporary.write_text("text")
    assert done == [("sync", tmp_path.name), ("sync", "temporary"), ("rename", "temporary"), ("sync", "new")]
    done.clear()
    with publishing.publish_directory(tmp_path / "new" / "folder", what="snapshot") as temporary:
        (temporary / "file").write_text("text")
    assert done == [("sync", "file"), ("sync", "temporary"), ("rename", "temporary"), ("sync", "new")]


def test_a_new_home_is_for_its_owner_alone_and_nothing_else_changes_its_mode(tmp_path: Path) -> None:
    """Fails: other users of the machine read customers' data; or a folder that is shared on purpose is closed."""
    previous = os.umask(0o022)
    try:
        publishing.require_writable(Home(tmp_path / "parent" / "new"))
        with publishing.scratch_directory(Home(tmp_path / "other")):
            pass
        (tmp_path / "shared").mkdir(mode=0o750)
        publishing.require_writable(Home(tmp_path / "shared"))
    finally:
        os.umask(previous)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("parent", "parent/new", "other", "shared")}
    assert modes == {"parent": 0o755, "parent/new": 0o700, "other": 0o700, "shared": 0o750}


def test_a_folder_under_the_name_of_a_file_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "warehouse.duckdb").mkdir()
    with (
        pytest.raises(ConfigError, match=r"warehouse\.duckdb is a folder\. Expected a file"),
        publishing.publish_file(tmp_path / "warehouse.duckdb", what=None) as temporary,
    ):
        temporary.write_text("text")
    assert names_in(tmp_path) == ["warehouse.duckdb"]


def test_only_a_file_of_its_own_is_copied(tmp_path: Path) -> None:
    """Fails: a link in the place of the warehouse copies a file that only the pipeline's user may read."""
    (tmp_path / "file").write_bytes(b"12345" * 2_000_000)
    publishing.copy_published(tmp_path / "file", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError, match=name):
            publishing.copy_published(tmp_path / name, tmp_path / f"{name} copy")
        assert not publishing.is_regular(tmp_path / name)
