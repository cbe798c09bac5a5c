"""Locks on folders: one with readers stays, one without may be removed, and waiting is short."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from etl_assets.engine.files import locks

_READER = """
import sys
from pathlib import Path
from etl_assets.engine.files import locks
with locks.shared(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "snapshot"
    path.mkdir()
    return path


def is_unused(folder: Path, replaced_by: Path | None = None) -> bool:
    with locks.alone(folder, replaced_by or folder) as unused:
        return unused


def test_a_folder_is_in_use_for_as_long_as_another_process_reads_it(folder: Path) -> None:
    """Fails: a shard loses its slices while it reads them; or a killed process keeps them there for ever."""
    assert is_unused(folder)
    command = [sys.executable, "-c", _READER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert not is_unused(folder)
        with locks.shared(folder):
            pass
        process.kill()
        process.wait()
    assert is_unused(folder)


def test_a_folder_that_is_gone_cannot_be_held(folder: Path, tmp_path: Path) -> None:
    folder.rmdir()
    with pytest.raises(FileNotFoundError), locks.shared(folder):
        pass
    (tmp_path / "other").mkdir()
    folder.symlink_to(tmp_path / "other", target_is_directory=True)
    with pytest.raises(NotADirectoryError), locks.shared(folder):
        pass
    assert not is_unused(folder)


def test_a_folder_that_was_removed_while_it_was_waited_for_cannot_be_held(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where another one of that name is there by now. Fails: half of a snapshot is read."""

    def removed(_: int) -> None:
        shutil.rmtree(folder)
        folder.mkdir()

    monkeypatch.setattr(locks, "_share", removed)
    with pytest.raises(FileNotFoundError), locks.shared(folder):
        pass


def test_the_lock_stays_with_a_folder_that_is_renamed(folder: Path, tmp_path: Path) -> None:
    """Fails: a snapshot can be swept between its publication and the pointer to it."""
    with locks.shared(folder):
        folder.rename(tmp_path / "published")
        assert not is_unused(tmp_path / "published")
    assert is_unused(tmp_path / "published")


def test_a_lock_that_a_stranger_keeps_is_not_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone who can list the folder can lock it. Fails: they stop every run."""
    monkeypatch.setattr(locks, "_REMOVAL_S", 0.05)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with locks.shared(folder):
            pass
    finally:
        os.close(descriptor)


def test_without_locks_a_folder_stays_for_an_hour_after_it_was_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Network file systems may have none. Fails: runs end there in errors, or lose what they read."""

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    def age(path: Path) -> None:
        long_ago_s = time.time() - locks.GRACE_S - 60
        os.utime(path, (long_ago_s, long_ago_s))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    pointer = folder.with_name("current.json")
    pointer.write_text("{}")
    with locks.shared(folder):
        assert not is_unused(folder, pointer)
    # A snapshot of last week that was replaced a minute ago may have been read since.
    age(folder)
    assert not is_unused(folder, pointer)
    age(pointer)
    assert is_unused(folder, pointer)
    # One that was made a minute ago may be about to be current.
    os.utime(folder)
    assert not is_unused(folder, pointer)
    age(folder)
    pointer.unlink()
    assert is_unused(folder, pointer)
