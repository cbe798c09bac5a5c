"""The only room that knows files: where things lie under `ETL_HOME`, and how they are published and swept.

A published file or folder is complete or not there. It is built under a temporary name in the same folder (so the
swap is one rename on one file system), synced, and renamed; the folder is synced after it. A temporary name carries
host and process, so a leftover of a killed process can be told from a file that is being written now.

Local file systems only, on purpose: an object store behind a URI would replace this module and no other.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from etl_assets.engine import faults
from etl_assets.errors import ConfigError

TEMPORARY_PREFIX = ".tmp-"
# What `stamp` says of a file that is not there.
MISSING = "-"
# A leftover of another host cannot be probed by pid; nothing this pipeline builds takes a day.
FOREIGN_LEFTOVER_S = 24 * 3600.0
# How far the clock of the day may have been put forward since a process began; a pid is not used again so soon.
_CLOCK_SLACK_S = 5.0
# DuckDB's own companion of a database being written.
_WAL_SUFFIX = ".wal"
# Linux: AT_FDCWD, and RENAME_EXCHANGE; the latter is macOS's RENAME_SWAP.
_WORKING_FOLDER, _EXCHANGE = -100, 2
# Where a barred write-ahead log leads: a folder that nobody makes, so that nothing can be made in it.
_NOWHERE = ".replaced-while-open-for-writing/wal"


@dataclass(frozen=True)
class Home:
    """The layout of `ETL_HOME`."""

    root: Path

    @property
    def staged(self) -> Path:
        """Snapshots of the sources: `<source>/<snapshot>/shard_NN.parquet`."""
        return self.root / "staged"

    @property
    def shards(self) -> Path:
        """Published shard files."""
        return self.root / "shards"

    @property
    def attempts(self) -> Path:
        """One small JSON file for each attempt at a shard."""
        return self.root / "attempts"

    @property
    def warehouse(self) -> Path:
        """The published result."""
        return self.root / "warehouse.duckdb"

    @property
    def scratch(self) -> Path:
        """Where DuckDB may spill; swept like any leftover."""
        return self.root / "scratch"

    def shard_file(self, shard_id: str) -> Path:
        """The published file of one shard."""
        return self.shards / f"{shard_id}.duckdb"

    def source_pointer(self, source: str) -> Path:
        """The file that names the current snapshot of a source."""
        return self.staged / source / "current.json"

    def snapshot(self, source: str, snapshot: str) -> Path:
        """The folder of one snapshot."""
        return self.staged / source / snapshot


def ensure_directory(path: Path) -> Path:
    """Make the folder and its parents, to stay; OSError names the path when it cannot be made."""
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    # What is published in a folder whose own name is lost in a power cut is lost with it.
    for folder in made:
        _sync(folder.parent)
    return path


def require_writable(home: Home) -> None:
    """Make sure that files can be made in `home`, making it if need be; ConfigError says why not."""
    try:
        ensure_directory(home.root)
        with tempfile.TemporaryFile(dir=home.root):
            pass
    except OSError as error:
        raise ConfigError(
            f"ETL_HOME {home.root} cannot be written to ({error.strerror or error}). Expected a folder that this user "
            "may write in. Try: export ETL_HOME=data"
        ) from error


@contextlib.contextmanager
def publish_file(target: Path, *, check: Callable[[], None] | None = None) -> Iterator[Path]:
    """Yield a temporary path beside `target`; when the block succeeds, sync it and swap it in, else remove it.

    `check` raises when it may not be published any more. It is asked last, because to sync a large file takes seconds.
    Readers that hold the old file keep reading the old data; every later open sees the new file.
    """
    ensure_directory(target.parent)
    temporary = temporary_path(target)
    what = _kind(target)
    try:
        faults.point(f"{what}.begin")
        yield temporary
        faults.point(f"{what}.before_sync", temporary)
        _sync(temporary)
        faults.point(f"{what}.before_swap", temporary)
        if check is not None:
            check()
        _swap(temporary, target)
        faults.point(f"{what}.after_swap", target)
        _sync(target.parent)
        faults.point(f"{what}.end", target)
    finally:
        remove(temporary)
        remove(temporary.with_name(temporary.name + _WAL_SUFFIX))


def _swap(temporary: Path, target: Path) -> None:
    """Rename, and see to it that no write-ahead log of the old file is ever found beside the new one.

    DuckDB would try to replay it, and every later open would fail. One may lie there already; and who has the old file
    open for writing makes one with the next commit, minutes after the swap, under the name that he opened.
    """
    log = target.with_name(target.name + _WAL_SUFFIX)
    with contextlib.ExitStack() as stack:
        replaced = None
        with contextlib.suppress(OSError):
            replaced = stack.enter_context(target.open("rb"))
        _settle(log, replaced)
        os.replace(temporary, target)
        # Again, because of who opened it in between.
        _settle(log, replaced)


def _settle(log: Path, replaced: BinaryIO | None) -> None:
    """Remove the log; bar its name when somebody may still make it. A bar stays: a holder may outlive many swaps."""
    if replaced is not None and _is_open_for_writing(replaced.fileno()):
        _bar(log)
    elif not log.is_symlink():
        log.unlink(missing_ok=True)


def _is_open_for_writing(descriptor: int) -> bool:
    """Whether another process has the file open for writing, as DuckDB does it: under a lock."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return True
    except OSError:
        # A file system without locks; then DuckDB has none either.
        return False
    fcntl.lockf(descriptor, fcntl.LOCK_UN)
    return False


def _bar(log: Path) -> None:
    """Let nobody make this write-ahead log: a link that leads nowhere cannot be written to, and readers see no file.

    The commit of whoever tries fails with an error, instead of every open of the published file. Deliberately not a
    folder of that name: DuckDB takes it for a log and fails. Nor a mode: it does not stop root, as whom containers run.
    """
    while not log.is_symlink():
        log.unlink(missing_ok=True)
        try:
            log.symlink_to(_NOWHERE)
        except FileExistsError:
            continue
        except OSError:
            # A file system without links; the next publication removes the log.
            return


def _kind(target: Path) -> str:
    """What a publication is called at its fault points; files that are not published one by one have none."""
    if target.name == "warehouse.duckdb":
        return "warehouse"
    if target.name == "current.json":
        return "pointer"
    return {"shards": "shard", "attempts": "attempt"}.get(target.parent.name, target.parent.parent.name.rstrip("s"))


@contextlib.contextmanager
def publish_directory(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; when the block succeeds, sync and rename it.

    For immutable, content-addressed folders: when the name is published already, that copy stays, unless it is to be
    replaced. Where two folders cannot be exchanged in one step, a replaced one is missing for the instant between two
    renames.
    """
    ensure_directory(target.parent)
    temporary, replaced = temporary_path(target), temporary_path(target)
    temporary.mkdir()
    try:
        faults.point("snapshot.begin")
        yield temporary
        some_file = next(iter(sorted(temporary.glob("*.parquet"))), None)
        faults.point("snapshot.before_sync", some_file)
        for path in sorted(temporary.rglob("*"), reverse=True):
            _sync(path)
        _sync(temporary)
        faults.point("snapshot.before_swap", some_file)
        if not (replace and target.is_dir() and _exchanged(temporary, target)):
            if replace and target.is_dir():
                os.rename(target, replaced)
            try:
                os.rename(temporary, target)
            except OSError:
                if not target.is_dir():
                    raise
        faults.point("snapshot.after_swap")
        _sync(target.parent)
        faults.point("snapshot.end")
    finally:
        remove(temporary)
        remove(replaced)


def _exchanged(first: Path, second: Path) -> bool:
    """Let two folders change names in one step; False where the system or the file system cannot.

    Python has no function for it. Two renames instead cost runs that met a forced one: for an instant no snapshot was
    there, which they took for a source that nobody had staged.
    """
    libc, names = ctypes.CDLL(None), (os.fsencode(first), os.fsencode(second))
    if hasattr(libc, "renameat2"):
        return bool(libc.renameat2(_WORKING_FOLDER, names[0], _WORKING_FOLDER, names[1], _EXCHANGE) == 0)
    if hasattr(libc, "renamex_np"):
        return bool(libc.renamex_np(*names, _EXCHANGE) == 0)
    return False


@contextlib.contextmanager
def scratch_directory(home: Home) -> Iterator[Path]:
    """A private folder for spilling and intermediate files, removed afterwards; leftovers of the killed are swept."""
    ensure_directory(home.scratch)
    path = temporary_path(home.scratch / "work")
    path.mkdir()
    try:
        yield path
    finally:
        remove(path)


def stamp(path: Path) -> str:
    """Changes when the file is published anew; MISSING when there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return MISSING
    return f"{stat.st_ino} {stat.st_mtime_ns} {stat.st_size}"


def publish_json(target: Path, value: Any) -> None:
    """Publish a small JSON document."""
    with publish_file(target) as temporary:
        temporary.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any | None:
    """The document, or None when there is none (or it is not one: a reader then treats it as not there)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def list_files(folder: Path, suffix: str) -> list[Path]:
    """The published files of a folder with this ending, in name order; none when there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.endswith(suffix) and not path.name.startswith("."))


def this_process() -> tuple[str, int, str]:
    """Host, pid and start of this process: what `process_is_alive` asks about later."""
    pid = os.getpid()
    return socket.gethostname(), pid, process_start(pid)


def temporary_path(target: Path) -> Path:
    """A name beside `target` that no other attempt uses and that says who is writing."""
    owner = "-".join(str(part) for part in this_process())
    return target.with_name(f"{TEMPORARY_PREFIX}{target.name}-{owner}-{uuid.uuid4().hex[:8]}")


def sweep_home(home: Home) -> None:
    """Sweep every folder of `home`: who reuses what is there never writes to its folder, and would not sweep it."""
    for folder in (home.root, home.scratch, home.shards, *home.staged.glob("*/"), *home.attempts.glob("*/")):
        sweep(folder)


def sweep(folder: Path) -> list[Path]:
    """Remove what killed processes left in `folder`; what a living process is writing stays. Returns what went."""
    faults.point("sweep")
    swept = []
    for path in sorted(folder.glob(f"{TEMPORARY_PREFIX}*")):
        if not _writer_is_alive(path):
            remove(path)
            swept.append(path)
    return swept


def remove(path: Path) -> None:
    """Remove a file or a folder, whichever it is, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def process_start(pid: int) -> str:
    """An id of the process that a later process with the same pid does not share; `0` when there is none to see."""
    try:
        # From field 3 on, after the command name, which may itself hold spaces and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        # A killed process that its parent (a container's first process, say) never waits for keeps its pid for ever.
        return "ended" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        return "0"


def process_is_alive(host: str, pid: int, start: str) -> bool | None:
    """Whether that very process runs; None when it is on another host and cannot be asked."""
    if host != socket.gethostname():
        return None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return start == process_start(pid)


def process_was_there(pid: int, moment: float) -> bool:
    """Whether the process that had this pid on this machine at `moment` (Unix time) still runs.

    For a process of which nothing but its pid was noted: one that has the pid now and began later is another one, as
    after a restart of the machine or the container. Where there is no /proc to see that, it is taken for the same.
    """
    start = process_start(pid)
    if start in ("0", "ended"):
        return start == "0" and process_is_alive(socket.gethostname(), pid, start) is True
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(start) / os.sysconf("SC_CLK_TCK")
    return age_s + _CLOCK_SLACK_S >= time.time() - moment


def _writer_is_alive(path: Path) -> bool:
    host, pid, start = _writer(path)
    alive = process_is_alive(host, pid, start)
    if alive is not None:
        return alive
    with contextlib.suppress(FileNotFoundError):
        return time.time() - path.stat().st_mtime < FOREIGN_LEFTOVER_S
    return False


def _writer(path: Path) -> tuple[str, int, str]:
    """Host, pid and process start out of a temporary name; an unreadable name belongs to nobody here."""
    parts = path.name.removesuffix(_WAL_SUFFIX).rsplit("-", 4)
    try:
        # The host name may hold hyphens, the target's name may too; the host is what follows the target's last one.
        return _host_in(parts[0] + "-" + parts[1]), int(parts[2]), parts[3]
    except (IndexError, ValueError):
        return "", 0, ""


def _host_in(name: str) -> str:
    host = socket.gethostname()
    return host if name.endswith("-" + host) else ""


def _sync(path: Path) -> None:
    """Flush a file's or a folder's data to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
