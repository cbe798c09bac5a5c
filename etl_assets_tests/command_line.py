"""The `etl-assets` command as users meet it: a process of its own, with its own environment.

The fixtures that use this are in `cli/conftest.py`; other test packages start commands with these functions.
"""

import contextlib
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from etl_assets_tests.factory import PROJECT_FOLDER

Cli = Callable[..., subprocess.CompletedProcess[str]]

_OURS = (
    *("ETL_", "DAGSTER_", "CHAOS_"),
    *("NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONWARNINGS", "PYTHONUNBUFFERED", "PYTHONIOENCODING"),
)


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without the variables that decide how the command behaves.

    `etl-assets` is on PATH, as in an activated virtual environment; messages then name it without its folder.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    # Of the tests' own project; tests of the shipped one override it.
    return kept | {"ETL_PROJECT": str(PROJECT_FOLDER)} | changes


def command(*arguments: str) -> list[str]:
    """The command line that starts `etl-assets` with these arguments."""
    return [sys.executable, "-m", "etl_assets.cli.main", *arguments]


def ended(code: int, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command after its end with this exit code."""
    done = subprocess.run(
        command(*arguments), env=environment(**variables), capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def on_terminal(columns: int, *arguments: str, env: Mapping[str, str], stderr: bool = False) -> str:
    """What the command writes to a terminal this wide: its stdout, or its `stderr`."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        command(*arguments),
        env=environment(**{"COLUMNS": str(columns), "LINES": "50", "TERM": "xterm", **env}),
        stdin=slave,
        stdout=subprocess.DEVNULL if stderr else slave,
        stderr=slave if stderr else subprocess.DEVNULL,
    ):
        os.close(slave)
        shown = b""
        # Reading fails when the command has closed the other end.
        with contextlib.suppress(OSError):
            while chunk := os.read(master, 65536):
                shown += chunk
    os.close(master)
    return shown.decode()
