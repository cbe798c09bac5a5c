"""The process from which runs are forked: everything that a run needs is imported in it, and nothing is opened.

It speaks over the socket that its starter has given it. It says that it is ready, or why it must not be forked; then a
line in is an order, the arguments of `dagster api execute_run`. For each it forks a process in a session of its own,
which answers with its pid and does the run; the definitions are loaded there, so that a changed project counts. It ends
when its starter is gone, or when a file of what it has imported has changed. Runs that were forked go on.

No thread may run in it and nothing that does not survive a fork may be open: a gRPC channel, a DuckDB, a SQLite
connection. `why_unfit` looks.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from types import ModuleType

import psutil

from etl_assets.engine.files.processes import process_start

# What a run imports besides the module of its definitions, which it loads itself.
MODULES = (
    "dagster",
    "dagster._cli.api",
    "dagster._core.definitions.external_asset",
    "dagster._core.definitions.repository_definition.repository_data_builder",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.storage.noop_compute_log_manager",
    "dagster._core.storage.migration.utils",
    "dagster._core.storage.root",
    "dagster._core.storage.sqlite_storage",
    "dagster._core.system_config.composite_descent",
    "dagster._core.types.primitive_mapping",
    "dagster._core.types.transform_typing",
    "dagster._core.workspace.autodiscovery",
    "dagster._utils.test.definitions",
    "alembic.command",
    "duckdb",
    "importlib.readers",
    "importlib.resources.readers",
    "sqlalchemy.dialects.sqlite",
    "upath.implementations.local",
    "watchdog.observers.polling",
    "zstandard",
    "etl_assets.orchestration.code_location",
    "etl_assets.orchestration.instance.coordinator",
    "etl_assets.orchestration.instance.databases",
)
# Linear algebra, which DuckDB's Python functions do not need, would start a thread for each core when it is imported.
_NO_THREADS = ("OPENBLAS_NUM_THREADS", "1")

_STANDARD_ERROR = 2


def main() -> None:
    """Import, serve, and in a forked process do the run."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    # The starter ends this process by closing its end; a Ctrl-C in the terminal is for the starter.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    prepare()
    unfit = why_unfit(connection.fileno())
    order = None
    # When the starter is gone there is nothing to serve, and in a forked process no run that anyone knows of.
    with contextlib.suppress(ConnectionError):
        _send(connection, {"unfit": unfit} if unfit else {"ready": os.getpid()})
        order = None if unfit else _serve(connection)
    connection.close()
    if order is not None:
        do_run(order)


def prepare() -> None:
    """Import everything that a run needs, and read what does not change."""
    for name in MODULES:
        importlib.import_module(name)
    _import_numpy()
    from etl_assets.orchestration.instance.databases import read_migrations_ahead

    read_migrations_ahead()


def _import_numpy() -> None:
    """Import what DuckDB imports for functions in Python.

    Its linear algebra then uses one thread in the runs too. They share the cores with each other anyway.
    """
    name, value = _NO_THREADS
    mine = os.environ.get(name)
    os.environ[name] = value
    try:
        importlib.import_module("numpy")
    finally:
        del os.environ[name]
        if mine is not None:
            os.environ[name] = mine


def do_run(order: str) -> None:
    """Do the run of an order; its failure is in the run's log."""
    from dagster._cli.api import execute_run_command

    # A command of click, of which the function is called.
    assert execute_run_command.callback is not None
    execute_run_command.callback(order, None)


def why_unfit(allowed: int) -> str | None:
    """Why this process must not be forked; None when it may. `allowed` is the descriptor that may be open."""
    process = psutil.Process()
    if process.num_threads() > 1:
        names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        return f"{process.num_threads() - 1} threads run in it ({', '.join(names) or 'of native code'})"
    kept = [found.path for found in process.open_files() if found.fd > _STANDARD_ERROR]
    kept += ["a socket" for found in process.net_connections("all") if found.fd not in (allowed, -1)]
    # Not all are in the system's tables. The listing itself is one of them.
    others = process.num_fds() - len({0, 1, 2, allowed}) - 1 - len(kept)
    kept += [f"{others} descriptors"] if others > 0 else []
    return f"it holds {', '.join(kept)} open" if kept else None


def _serve(connection: socket.socket) -> str | None:
    """Fork for each order; returns None in this process when it is to end, and the order in the forked one."""
    before = stamps(sys.modules)
    # A forked process that has ended leaves no zombie.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.collect()
    gc.freeze()
    with connection.makefile("r", encoding="utf-8") as lines:
        for line in lines:
            order = json.loads(line)["order"]
            changed = first_changed(before)
            if changed:
                _send(connection, {"outdated": changed})
                return None
            if os.fork() == 0:
                _begin(connection)
                return str(order)
    return None


def _begin(connection: socket.socket) -> None:
    """Make the forked process one of its own, and say who it is.

    It says so itself: without an answer there is no such process, whatever became of the one that forked it.
    """
    os.setsid()
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)
    _send(connection, {"pid": os.getpid(), "start": process_start(os.getpid())})


def stamps(modules: Mapping[str, ModuleType]) -> dict[str, tuple[int, int]]:
    """Time and size of the file of every module."""
    paths = {str(path) for module in list(modules.values()) if (path := getattr(module, "__file__", None))}
    return {path: stamp for path in sorted(paths) if (stamp := _stamp(path))}


def first_changed(before: Mapping[str, tuple[int, int]]) -> str | None:
    """The first file that is no longer as its stamp says."""
    return next((path for path, stamp in before.items() if _stamp(path) != stamp), None)


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _send(connection: socket.socket, message: Mapping[str, object]) -> None:
    connection.sendall((json.dumps(message) + "\n").encode())


if __name__ == "__main__":
    main()
