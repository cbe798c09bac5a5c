"""Runs are forked from a preloaded process, one after another, and from a new one when it is gone or outdated."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from etl_assets.engine.files.processes import process_is_alive
from etl_assets.orchestration.instance import preloaded, starting
from etl_assets.orchestration.instance.starting import Forked, NotForkedError, RunStarter
from etl_assets.samples.writing import generate

# A preloaded process that imports little, and whose runs write down who they are.
PROGRAM = """
import json, os, sys, time
from pathlib import Path
from etl_assets.orchestration.instance import preloaded, starting

preloaded.prepare = lambda: __import__("imported")

def note(order):
    name, seconds = json.loads(order)
    import imported
    facts = {"pid": os.getpid(), "session": os.getsid(0), "value": imported.VALUE, "fds": len(os.listdir("/dev/fd"))}
    Path(name).write_text(json.dumps(facts))
    time.sleep(seconds)

begin = preloaded._begin

def begin_late(connection):
    time.sleep(float(os.environ.get("LATE_S", "0")))
    begin(connection)

preloaded.do_run = note
preloaded._begin = begin_late
preloaded.main()
"""
PATIENCE_S = 60.0


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the program and of the module that it imports."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "imported.py").write_text("VALUE = 1\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    return tmp_path


@pytest.fixture
def starter(code: Path) -> Iterator[RunStarter]:
    made = RunStarter(sys.executable, "program")
    yield made
    made.close()


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something that another process does has happened."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.02)


def order(path: Path, seconds: float = 0) -> str:
    return json.dumps([str(path), seconds])


def facts(path: Path) -> dict[str, int]:
    wait_for(lambda: path.exists() and path.read_text().endswith("}"))
    found: dict[str, int] = json.loads(path.read_text())
    return found


def preloaded_pid(forked: Forked) -> int:
    parent = psutil.Process(forked.pid).parent()
    assert parent is not None
    return parent.pid


def is_alive(forked: Forked) -> bool:
    return process_is_alive(os.uname().nodename, forked.pid, forked.start) is not False


def test_runs_are_forked_from_one_process_into_sessions_of_their_own(starter: RunStarter, tmp_path: Path) -> None:
    """Fails: each run imports everything again, or a signal to one reaches the others."""
    forked = [starter.start(order(tmp_path / f"run{number}", 20)) for number in range(3)]
    assert len({preloaded_pid(one) for one in forked}) == 1
    for number, one in enumerate(forked):
        found = facts(tmp_path / f"run{number}")
        assert (found["pid"], found["session"]) == (one.pid, one.pid)
        os.kill(one.pid, signal.SIGINT)
    wait_for(lambda: not any(map(is_alive, forked)))


def test_a_forked_run_holds_nothing_of_the_process_that_forked_it(starter: RunStarter, tmp_path: Path) -> None:
    """Fails: the socket of the orders stays open in every run, and the preloaded process never learns of its end."""
    starter.start(order(tmp_path / "run"))
    # The standard streams, and the listing itself.
    assert facts(tmp_path / "run")["fds"] == 4


def test_a_run_that_has_ended_leaves_no_zombie(starter: RunStarter, tmp_path: Path) -> None:
    """Fails: the launcher takes a dead run for a living one."""
    forked = starter.start(order(tmp_path / "run"))
    wait_for(lambda: not psutil.pid_exists(forked.pid))


def test_a_changed_module_counts_for_the_next_run_and_leaves_the_running_one_alone(
    starter: RunStarter, code: Path
) -> None:
    """Fails: after an upgrade runs go on with the old code until the daemon is restarted, or are ended by it."""
    running = starter.start(order(code / "old", 20))
    assert facts(code / "old")["value"] == 1
    (code / "imported.py").write_text("VALUE = 22\n")
    starter.start(order(code / "new"))
    assert facts(code / "new")["value"] == 22
    assert is_alive(running)
    os.kill(running.pid, signal.SIGKILL)


def test_a_killed_preloaded_process_is_replaced_and_its_runs_go_on(starter: RunStarter, tmp_path: Path) -> None:
    """Fails: after the system ended it for want of memory no run starts any more, or the running ones end with it."""
    running = starter.start(order(tmp_path / "first", 20))
    facts(tmp_path / "first")
    os.kill(preloaded_pid(running), signal.SIGKILL)
    starter.start(order(tmp_path / "second"))
    assert facts(tmp_path / "second")["value"] == 1
    assert is_alive(running)
    os.kill(running.pid, signal.SIGKILL)


def test_a_preloaded_process_that_hangs_is_replaced_and_forks_nothing_any_more(
    starter: RunStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: no run starts any more, or one is done twice when the process wakes up."""
    running = starter.start(order(tmp_path / "first", 20))
    hanging = psutil.Process(preloaded_pid(running))
    hanging.suspend()
    monkeypatch.setattr(starting, "_ANSWER_S", 0.5)
    second = starter.start(order(tmp_path / "second"))
    assert facts(tmp_path / "second")["pid"] == second.pid
    wait_for(lambda: not hanging.is_running() or hanging.status() == psutil.STATUS_ZOMBIE)
    os.kill(running.pid, signal.SIGKILL)


def test_a_run_whose_process_answers_too_late_is_not_done_by_it(
    starter: RunStarter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: a run is done by a process that was given up, and by another one as well."""
    monkeypatch.setenv("LATE_S", "1")
    monkeypatch.setattr(starting, "_ANSWER_S", 0.4)
    with pytest.raises(NotForkedError, match="ended again and again"):
        starter.start(order(tmp_path / "run"))
    time.sleep(2)
    assert not (tmp_path / "run").exists()


def test_the_preloaded_process_ends_with_its_starter(starter: RunStarter, tmp_path: Path) -> None:
    """Fails: each daemon leaves one behind, 120 MB each."""
    running = starter.start(order(tmp_path / "run", 20))
    waiting = psutil.Process(preloaded_pid(running))
    starter.close()
    wait_for(lambda: not waiting.is_running() or waiting.status() == psutil.STATUS_ZOMBIE)
    assert is_alive(running)
    os.kill(running.pid, signal.SIGKILL)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n", "threads"),
        ("import sqlite3\nKEPT = sqlite3.connect('kept.db')\nKEPT.execute('CREATE TABLE t (x)')\n", "kept.db"),
        ("import socket\nKEPT = socket.create_server(('127.0.0.1', 0))\n", "a socket"),
        ("import socket\nKEPT = socket.socket()\n", "1 descriptors"),
        ("import duckdb\nKEPT = duckdb.connect('kept.duckdb')\n", "threads"),
        ("raise RuntimeError\n", "has ended"),
    ],
)
def test_nothing_is_forked_from_a_process_in_which_something_is_open(
    code: Path, starter: RunStarter, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: runs hang or end with damaged data, because a thread or a connection did not survive the fork."""
    monkeypatch.chdir(code)
    (code / "imported.py").write_text(text + "VALUE = 1\n")
    with pytest.raises(NotForkedError, match=said):
        starter.start(order(code / "run"))
    assert not (code / "run").exists()


def test_the_real_preloaded_process_may_be_forked() -> None:
    """Fails: an import of Dagster or of this project has started a thread, and every run is started as before."""
    starter = RunStarter(sys.executable)
    try:
        # Raises NotForkedError. This is no order: the forked process says so and ends.
        forked = starter.start("no order")
        wait_for(lambda: not is_alive(forked))
    finally:
        starter.close()


def test_a_run_imports_nothing_of_the_libraries_that_is_not_preloaded(tmp_path: Path) -> None:
    """Fails: every shard in the UI pays again for imports, a tenth of a second for a hundred modules."""
    generate(tmp_path / "sources", rows=50)
    changes = {"ETL_SOURCES": tmp_path / "sources", "ETL_HOME": tmp_path / "home", "DAGSTER_HOME": tmp_path / "dagster"}
    code = (
        "import sys; from etl_assets.orchestration.instance import preloaded\n"
        "preloaded.prepare()\n"
        "before = set(sys.modules)\n"
        "from etl_assets.cli.main import main\n"
        "exit_code = main(['run'])\n"
        "only_here = ('execution.execute_in_process', 'instance.runs', 'storage.noop_compute_log_manager')\n"
        "libraries = ('alembic', 'dagster', 'duckdb', 'fsspec', 'numpy.lib', 'pydantic', 'sqlalchemy', 'upath')\n"
        "found = {name for name in set(sys.modules) - before if name.startswith(libraries)}\n"
        "found -= {name for name in found if name.removeprefix('dagster._core.').startswith(only_here)}\n"
        "print(exit_code, sorted(found))"
    )
    environment = os.environ | {name: str(value) for name, value in changes.items()}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_numpy_gets_the_threads_that_the_user_has_set_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("3", None):
        monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
        if value is not None:
            monkeypatch.setenv("OPENBLAS_NUM_THREADS", value)
        preloaded._import_numpy()
        assert os.environ.get("OPENBLAS_NUM_THREADS") == value


def test_a_module_that_is_changed_or_removed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text("1")
    module = type(sys)("module")
    module.__file__ = str(path)
    before = preloaded.stamps({"module": module, "built in": sys})
    assert preloaded.first_changed(before) is None
    path.write_text("22")
    assert preloaded.first_changed(before) == str(path)
    path.unlink()
    assert preloaded.first_changed(before) == str(path)
