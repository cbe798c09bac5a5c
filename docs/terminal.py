"""Makes docs/images/terminal.svg from a real run: `python docs/terminal.py` in the environment of `make run`.

It starts `etl-assets run` on sample data in a terminal of its own, with a fault in one shard, keeps the board at the
moment of the retry, and the report at the end.
"""

import contextlib
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.text import Text

TARGET = Path(__file__).parent / "images" / "terminal.svg"
COLUMNS = 94
SHOWN = "CHAOS_FAIL_SHARD=3 etl-assets run"
_TOKEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+")
_PLAIN = re.compile(r"\x1b\[[0-9;]*m")
# Fonts from the network: a picture in a page may not load them.
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


def main() -> None:
    """Run the pipeline and write the picture."""
    with tempfile.TemporaryDirectory() as folder:
        _run(["generate", "--rows", "100_000", "--seed", "42", "--dirty", "0.02", "--out", "data/sources"], folder)
        screens = list(_screens(_run(["run"], folder, CHAOS_FAIL_SHARD="3")))
    board = next(screen for screen in reversed(screens) if any("retrying" in line for line in screen))
    report = screens[-1]
    first = next(number for number, line in enumerate(report) if "status" in line)
    last = next(number for number, line in enumerate(report) if "Published" in line)
    console = Console(width=COLUMNS, record=True, file=StringIO(), force_terminal=True, color_system="truecolor")
    for line in [f"$ {SHOWN}", *board, "", *report[first : last + 1]]:
        console.print(Text.from_ansi(line), soft_wrap=True)
    svg = console.export_svg(title="etl-assets", unique_id="terminal")
    TARGET.write_text(_FONTS.sub("", svg), encoding="utf-8")


def _run(arguments: list[str], folder: str, **variables: str) -> str:
    """What the command writes to a terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETL_", "DAGSTER_", "NO_COLOR"))}
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    terminal = {"COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color", "PATH": path}
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "etl_assets.cli.main", *arguments]
    with subprocess.Popen(command, env=kept | terminal | variables, cwd=folder, stdin=slave, stdout=slave) as process:
        os.close(slave)
        written = b""
        # Reading fails when the command has closed the other end.
        with contextlib.suppress(OSError):
            while chunk := os.read(master, 65536):
                written += chunk
    os.close(master)
    if process.returncode:
        raise SystemExit(f"etl-assets {arguments[0]} ended with exit code {process.returncode}")
    return written.decode()


def _screens(written: str) -> Iterator[list[str]]:
    """The lines on the screen whenever the cursor returns to the first column, and at the end; with their colours."""
    lines: list[str] = [""]
    row, style = 0, ""
    for token in _TOKEN.findall(written):
        if token == "\r":
            yield list(lines)
        elif token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token.endswith("A"):
            row -= int(token[2:-1] or 1)
        elif token.endswith("K"):
            lines[row] = ""
        elif _PLAIN.fullmatch(token):
            style = token
            lines[row] += style
        elif not token.startswith("\x1b"):
            lines[row] += token
    yield lines


if __name__ == "__main__":
    main()
