"""The tutorial as a reader follows it: its commands and edits in order, each with the output that the page shows.

A block of `sh` is run; a block without a language is what it prints. `In FILE, change A to B` and `In FILE, below LINE,
add` are edits. A block of SQL that begins with the name of a file is that file.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets_tests.command_line import environment
from etl_assets_tests.projects.example_folders import CHECKOUT, copied_checkout

PAGE = CHECKOUT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHANGE = re.compile(r"[Ii]n\s`([^`]+)`,\schange\s`([^`]+)`\sto\s`([^`]+)`")
_INSERT = re.compile(r"In\s`([^`]+)`,\sbelow\s`([^`]+)`,\sadd[^:.]*:\s*$")
_EXIT_CODE = re.compile(r"The exit code is (\d+)")
# The environment of the tests is set up.
_SET_UP = "make setup\nsource .venv/bin/activate\n"
# What differs from one time to the next, and from one machine to another.
_VARYING = (
    (r"\d\d\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC", r"[-\d]+ [:\d]+ UTC"),
    (r"\d+(\.\d+)? m?s\b", r"[\d.]+ m?s"),
    (r"manifest says \d+", r"manifest says \d+"),
    (r"─+", "─+"),
)


def _parts() -> Iterator[tuple[str, str, str]]:
    """The page as (language, block, the text before it); after the last block, text alone."""
    text, at = PAGE.read_text(encoding="utf-8"), 0
    for block in _BLOCK.finditer(text):
        yield block[1], block[2], text[at : block.start()]
        at = block.end()
    yield "end", "", text[at:]


class Reader:
    """Someone at the page, in a checkout of their own."""

    def __init__(self, checkout: Path) -> None:
        self._folder = checkout
        self._where = checkout / "where"
        self._done: subprocess.CompletedProcess[str] | None = None
        self._said = ""
        self._env = environment(PYTHONPATH=str(CHECKOUT)) | {"COLUMNS": "200"}
        self._env.pop("ETL_PROJECT")

    def read(self, text: str) -> None:
        """Change what a text asks to change, and remember what it says of the last command."""
        self._said += text
        for name, old, new in _CHANGE.findall(text):
            path = self._folder / name
            before = path.read_text(encoding="utf-8")
            assert before.count(old) == 1, (name, old)
            path.write_text(before.replace(old, new), encoding="utf-8")

    def judge(self) -> None:
        """Compare how the last command ended with what the page says until the next one."""
        if self._done is not None:
            said = _EXIT_CODE.search(self._said)
            assert self._done.returncode == (int(said[1]) if said else 0), self._done.stderr
        self._said = ""

    def run(self, commands: str) -> None:
        """Run a block in one shell; the next one begins in the folder where it ended."""
        self._done = subprocess.run(
            ["sh", "-ec", f"{commands}\npwd >'{self._where}'"],
            cwd=self._folder,
            env=self._env,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        if self._done.returncode == 0:
            self._folder = Path(self._where.read_text(encoding="utf-8").strip())

    def see(self, expected: str) -> None:
        """Compare the lines that the page shows with what was printed; a line `…` stands for any number of lines.

        What is printed before the first line and after the last one is not compared.
        """
        assert self._done is not None
        rest = [line.rstrip() for line in (self._done.stdout + self._done.stderr).splitlines()]
        may_skip = True
        for line in expected.splitlines():
            if line == "…":
                may_skip = True
                continue
            pattern = re.compile(_pattern(line.rstrip()))
            place = next((number for number, one in enumerate(rest) if pattern.fullmatch(one)), None)
            assert place is not None, (line, rest)
            assert may_skip or place == 0, (line, rest)
            rest, may_skip = rest[place + 1 :], False

    def write(self, block: str, text: str) -> None:
        """Put a block where the text before it says."""
        named = re.match(r"-- (sql/\S+)\n", block)
        if named:
            (self._folder / named[1]).write_text(block, encoding="utf-8")
            return
        said = _INSERT.search(text)
        assert said is not None, text
        path = self._folder / said[1]
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        assert [line.strip() for line in lines].count(said[2]) == 1, said[2]
        at = [line.strip() for line in lines].index(said[2]) + 1
        path.write_text("".join([*lines[:at], block, *lines[at:]]), encoding="utf-8")


def _pattern(line: str) -> str:
    """A line of the page as a pattern: blanks, durations and paths may differ."""
    pattern = re.escape(line).replace(r"\ ", " ").replace(r"\-", "-")
    for found, wanted in _VARYING:
        pattern = re.sub(found.replace(r"\.", r"\\\."), wanted.replace("\\", r"\\"), pattern)
    return re.sub(" +", " +", pattern).replace("…", ".*")


@pytest.mark.slow
def test_the_tutorial_runs_as_it_is_written(tmp_path: Path) -> None:
    """Fails: a newcomer follows the page and sees something else."""
    (tmp_path / "checkout").mkdir()
    reader = Reader(copied_checkout(tmp_path / "checkout"))
    commands = 0
    for language, block, text in _parts():
        reader.read(text)
        if language == "sh":
            reader.judge()
            reader.run(block.removeprefix(_SET_UP))
            commands += 1
        elif language == "":
            reader.see(block)
        elif language in ("sql", "yaml"):
            reader.write(block, text)
    reader.judge()
    assert commands > 15
