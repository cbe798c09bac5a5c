"""Sweeping: killed processes leave nothing behind, and what a living one is writing stays."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.engine.files import processes, publishing, sweeping
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.temporary import FOREIGN_LEFTOVER_S, TEMPORARY_PREFIX, temporary_path

# Begins a file and a folder under temporary names, prints their names, and goes on writing until it is ended.
_WRITER = """
import sys
from pathlib import Path
from etl_assets.engine.files.publishing import publish_directory, publish_file

folder = Path(sys.argv[1])
file_there = publish_file(folder / "warehouse.duckdb", what=None)
with file_there as file, publish_directory(folder / "snapshot", what="snapshot") as room:
    file.write_text("half")
    file.with_name(file.name + ".wal").write_text("half")
    (room / "shard_00.parquet").write_text("half")
    print(file.name, room.name, flush=True)
    sys.stdin.read()
"""


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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


def test_sweeping_takes_the_leftovers_of_the_killed_only(tmp_path: Path) -> None:
    """Fails: killed attempts fill the disk, or a living one loses the file it is writing."""
    (tmp_path / "warehouse.duckdb").write_text("published")
    with writer(tmp_path) as (living, kept), writer(tmp_path) as (killed, left):
        assert sweeping.sweep(tmp_path) == []
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert all(path.exists() for path in left)
        assert sweeping.sweep(tmp_path) == sorted(left)
        assert names_in(tmp_path) == sorted([*(path.name for path in kept), "warehouse.duckdb"])
        assert living.poll() is None
        living.communicate("")
    assert names_in(tmp_path) == ["snapshot", "warehouse.duckdb"]
    assert (tmp_path / "warehouse.duckdb").read_text() == "half"


def test_a_pid_that_another_process_has_now_does_not_keep_a_leftover(tmp_path: Path) -> None:
    host, pid, start = processes.this_process()
    own = temporary_path(tmp_path / "file")
    own.write_text("being written")
    stranger = own.with_name(own.name.replace(f"-{pid}-{start}-", f"-{pid}-1{start}-"))
    stranger.write_text("left by an earlier process of this pid")
    assert processes.process_is_alive(host, pid, start) is True
    assert sweeping.sweep(tmp_path) == [stranger]


def test_another_hosts_file_is_left_alone_for_a_day(tmp_path: Path) -> None:
    """Fails: on shared storage, one machine removes what another one is writing."""
    foreign = tmp_path / f"{TEMPORARY_PREFIX}shard_00.duckdb-another-host-1-2-abcdef00"
    foreign.write_text("being written")
    assert processes.process_is_alive("another-host", 1, "2") is None
    assert sweeping.sweep(tmp_path) == []
    long_ago = foreign.stat().st_mtime - FOREIGN_LEFTOVER_S - 60
    os.utime(foreign, (long_ago, long_ago))
    assert sweeping.sweep(tmp_path) == [foreign]


@pytest.mark.parametrize("host", ["plain", "with-hyphens-in", "10-1"])
def test_a_temporary_name_says_who_writes_it_whatever_the_names(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: host)
    for name in ("file", "a-b-1-2.duckdb", "snap-plain-0"):
        temporary_path(tmp_path / name).write_text("being written")
    assert sweeping.sweep(tmp_path) == []
    assert len(names_in(tmp_path)) == 3


def test_sweeping_a_folder_that_does_not_exist_does_nothing(tmp_path: Path) -> None:
    assert sweeping.sweep(tmp_path / "nowhere") == []


def test_the_scratch_folder_is_private_and_goes_away(home: Home) -> None:
    with publishing.scratch_directory(home) as one, publishing.scratch_directory(home) as two:
        (one / "spill").write_text("x")
        assert one != two
        assert sweeping.sweep(home.scratch) == []
    assert names_in(home.scratch) == []


def test_sweeping_a_home_sweeps_all_of_its_folders(home: Home) -> None:
    """Fails: a run that reuses everything leaves the files of a killed one on the disk for ever."""
    folders = [home.root, home.scratch, home.shards, home.staged / "crm", home.attempts_at("shard_00")]
    left = [folder / f"{TEMPORARY_PREFIX}x-{socket.gethostname()}-1-0.00-abcdef00" for folder in folders]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    assert sorted(sweeping.leftovers(home)) == sorted(path.relative_to(home.root).as_posix() for path in left)
    sweeping.sweep_home(home)
    assert sweeping.leftovers(home) == []
    assert all(folder.is_dir() for folder in folders)


STRANGE = [
    ".tmp-mine",
    ".tmp-notes-2026",
    ".tmp-photos-holiday-1-2",
    ".tmp-x-host-1-2-abcdef0",
    ".tmp-x-host-1-2-ABCDEF00",
    ".tmp-x-host-one-2-abcdef00",
    ".tmp-x-host-1-2-abcdef00.txt",
    ".tmp--1-2-abcdef00",
]


@pytest.mark.parametrize("name", STRANGE)
def test_a_name_of_another_form_is_not_swept_however_old(tmp_path: Path, name: str) -> None:
    """Other programs begin names with `.tmp-`, too. Fails: a run removes what is not this pipeline's."""
    (tmp_path / name).mkdir()
    (tmp_path / name / "file").write_text("precious")
    os.utime(tmp_path / name, (1, 1))
    assert sweeping.sweep(tmp_path) == []
    assert (tmp_path / name / "file").read_text() == "precious"


def test_sweeping_follows_no_link(tmp_path: Path, home: Home) -> None:
    """Fails: a link with the name of a leftover costs the files that it leads to."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    left = home.shards / f"{TEMPORARY_PREFIX}x-{socket.gethostname()}-1-0.00-abcdef00"
    home.shards.mkdir(parents=True)
    left.symlink_to(victim, target_is_directory=True)
    assert sweeping.sweep(home.shards) == [left]
    assert not left.is_symlink()
    assert (victim / "file").read_text() == "precious"
    assert shutil.rmtree.avoids_symlink_attacks


def test_in_linked_folders_only_own_leftovers_are_swept(tmp_path: Path, home: Home) -> None:
    """Links put large data on another disk. Fails: others who use that disk lose files there."""
    own = f"{TEMPORARY_PREFIX}x-{socket.gethostname()}-1-0.00-abcdef00"
    home.root.mkdir()
    kept = []
    for folder in (home.scratch, home.shards, home.staged / "crm", home.attempts_at("shard_00")):
        disk = tmp_path / "disk" / folder.name
        disk.mkdir(parents=True)
        for name in [own, *STRANGE, "photos"]:
            (disk / name).write_text("x")
            os.utime(disk / name, (1, 1))
        kept += [disk / name for name in [*STRANGE, "photos"]]
        folder.parent.mkdir(exist_ok=True)
        folder.symlink_to(disk, target_is_directory=True)
    sweeping.sweep_home(home)
    assert sorted(path for path in (tmp_path / "disk").rglob("*") if path.is_file()) == sorted(kept)
