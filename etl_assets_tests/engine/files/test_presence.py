"""Whether anyone works in an ETL_HOME: a container that was started again takes over at once, and from no one alive."""

import contextlib
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.engine.files import presence, publishing, sweeping
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.temporary import TEMPORARY_PREFIX
from etl_assets.engine.published import attempts
from etl_assets.engine.published.status import Status

FOREIGN = f"{TEMPORARY_PREFIX}shard_00.duckdb-4f1c0a9b-17-2.00-abcdef00"
_WORKER = """
import sys
from pathlib import Path
from etl_assets.engine.files import presence
presence.hold(Path(sys.argv[1]))
print("at work", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    publishing.ensure_home(home)
    publishing.ensure_directory(home.scratch)
    publishing.ensure_directory(home.shards)
    (home.shards / FOREIGN).write_text("half")
    return home


@contextlib.contextmanager
def _worker(home: Home) -> Iterator["subprocess.Popen[str]"]:
    """Another process that works in this home."""
    command = [sys.executable, "-c", _WORKER, str(home.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "at work\n"
        yield process
        process.kill()


def _is_deserted_for_another(home: Home) -> bool:
    command = "import sys; from pathlib import Path; from etl_assets.engine.files import presence\n"
    command += "sys.exit(10 + presence.is_deserted(Path(sys.argv[1])))"
    return subprocess.run([sys.executable, "-c", command, str(home.root)], check=False).returncode == 11


def test_what_a_container_of_another_name_left_is_swept_at_once_when_no_one_else_works_there(home: Home) -> None:
    """Fails: after each restart of a container its half-written files, of gigabytes, stay for a day."""
    publishing.require_writable(home)
    sweeping.sweep_home(home)
    assert not (home.shards / FOREIGN).exists()


def test_it_stays_while_another_process_works_there_and_goes_when_that_was_killed(home: Home) -> None:
    """Fails: two containers share a volume, and one removes what the other is writing."""
    publishing.require_writable(home)
    with _worker(home):
        sweeping.sweep_home(home)
        assert (home.shards / FOREIGN).exists()
    # Looking has not cost this process its own lock: for others, someone works here.
    assert not _is_deserted_for_another(home)
    sweeping.sweep_home(home)
    assert not (home.shards / FOREIGN).exists()


def test_a_reader_that_only_looks_sees_whether_someone_works_there(home: Home) -> None:
    with _worker(home):
        assert not presence.is_deserted(home.root)
    assert presence.is_deserted(home.root)


def test_an_attempt_of_a_host_that_is_gone_is_killed_at_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the sensor waits for ever for a shard that a container of before was building."""
    with monkeypatch.context() as patch:
        patch.setattr(attempts, "this_process", lambda: ("4f1c0a9b", 17, "2.00"))
        attempts.start(home, "shard_00", "a-run", 1)
    with _worker(home):
        assert [one.status for one in attempts.latest_attempts(home, ["shard_00"])] == [Status.RUNNING]
    assert [one.status for one in attempts.latest_attempts(home, ["shard_00"])] == [Status.KILLED]
    assert [one.status for one in attempts.read_attempts(home, ["shard_00"])] == [Status.KILLED]


def test_without_locks_nothing_is_known(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(presence, "_WAIT_S", 0.0)
    publishing.require_writable(home)
    assert not presence.is_deserted(home.root)
    sweeping.sweep_home(home)
    assert (home.shards / FOREIGN).exists()
