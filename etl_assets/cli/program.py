"""How this user starts the program: every command that a message recommends is written so that it can be pasted."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

NAME = "etl-assets"
# The command in a text that was written without knowing how it is started. Deliberately not part of a path.
_NAMED = re.compile(rf"(?<![\w./-]){NAME}(?= (--)?[a-z])")
# Commands with the option.
_OF_PROJECTS = frozenset({"check", "run", "status", "query", "generate", "ui", "drill", "rejects", "restore", "export"})

_project: str | None = None


def program() -> str:
    """`etl-assets` when PATH has it, else the path of the script, as in `.venv/bin/etl-assets`."""
    script = _script()
    if script is None:
        return NAME
    on_path = shutil.which(NAME)
    if on_path is not None and Path(on_path).samefile(script):
        return NAME
    return shlex.quote(_from_here(script))


def name_project(folder: str | None) -> None:
    """Remember the `--project` that this command was given: a command that it recommends needs it, too."""
    global _project
    _project = folder


def command(arguments: str) -> str:
    """`etl-assets …` as this user can run it, for the project that this user named."""
    name, *rest = arguments.split(" ", 1)
    if _project is not None and name in _OF_PROJECTS:
        name = f"{name} --project {shlex.quote(_project)}"
    return " ".join([program(), name, *rest])


def spell(text: str) -> str:
    """`text` with each `etl-assets …` command as this user can run it; for help texts."""
    return _NAMED.sub(lambda _: program(), text)


def _script() -> Path | None:
    """The console script: the one that was started, else (`python -m`) the one of the same environment."""
    started, beside = Path(sys.argv[0]), Path(sys.executable).with_name(NAME)
    if started.name == NAME and started.is_file():
        return started
    return beside if beside.is_file() else None


def _from_here(script: Path) -> str:
    """A relative path below the current folder, else an absolute one."""
    try:
        relative = script.absolute().relative_to(Path.cwd())
    except (ValueError, OSError):
        return str(script)
    return str(relative) if len(relative.parts) > 1 else f".{os.sep}{relative}"
