"""Stdout and stderr in every condition, and escapes for values."""

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets.cli import output
from etl_assets_tests.command_line import Cli, command, environment


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 東京 [bold] plain", "Zoë 東京 [bold] plain"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\tb\r\nc", r"a\tb\r\nc"),
        ("\x9b31m", r"\x9b31m"),
        # Would show "txt.exe" as "exe.txt".
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("one\u2028two", r"one\u2028two"),
        ("\u2066a\u2069\u200bb\u2060c\ufeff", r"\u2066a\u2069\u200bb\u2060c\ufeff"),
        ("tag\U000e0041", r"tag\U000e0041"),
        # Letters and marks that are shown as nothing.
        ("\u3164\u034f\U000e0100", r"\u3164\u034f\U000e0100"),
        # What belongs to a letter or to an emoji stays; what joins two does not.
        ("a\u0301 ❤\ufe0f 👩\u200d💻", "a\u0301 ❤\ufe0f 👩" + r"\u200d" + "💻"),
        ("1\xa0234", r"1\xa0234"),
        # A file name whose bytes are not UTF-8.
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
    ],
)
def test_a_character_that_acts_on_the_terminal_is_shown_as_an_escape(text: str, shown: str) -> None:
    assert output.printable(text) == shown


def test_every_character_that_is_not_printable_is_escaped() -> None:
    """Fails: one of the many characters that act, or that hide text, reaches the terminal."""
    characters = [chr(code) for code in range(sys.maxunicode + 1)]
    shown = [output.printable_lines(character) for character in characters]
    assert [character for character in shown if character not in ("\n", "\t") and not character.isprintable()] == []
    changed = [text for text, character in zip(shown, characters, strict=True) if text != character]
    assert [text for text in changed if not text.startswith("\\")] == []


def test_a_character_that_the_terminal_lacks_is_shown_as_an_escape() -> None:
    assert output.printable("Zoë ✓", "ascii") == r"Zo\xeb \u2713"
    assert output.printable("Zoë ✓", "latin-1") == r"Zoë \u2713"


def test_lines_of_a_message_stay_lines() -> None:
    assert output.printable_lines("one\n\ttwo\r\x1b[31m") == "one\n\ttwo\\r\\x1b[31m"


def _ended(shell: str, published: Mapping[str, str], folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    """The command as a shell runs it with these redirections."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {shell}', "sh", *command("status")],
        env=environment(**{**published, **changes}),
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_no_exit_code(published: Mapping[str, str], tmp_path: Path, closed: str) -> None:
    """Cron and some supervisors start programs without streams; the command ended in a traceback."""
    done = _ended(closed, published, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    mistaken = _ended(closed, published, tmp_path, ETL_NUM_SHARDS="0")
    assert mistaken.returncode == 2
    assert "Traceback" not in mistaken.stderr


@pytest.mark.parametrize(
    "arguments", [("query", "SELECT 1"), ("generate", "--rows", "10", "--out", "sample"), ("status", "--json")]
)
def test_no_command_needs_a_stdout(published: Mapping[str, str], tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" >&-', "sh", *command(*arguments)],
        env=environment(**published),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0
    assert "Traceback" not in done.stderr


def test_a_closed_stdout_is_not_given_to_the_next_file_that_is_opened(tmp_path: Path) -> None:
    """Else a print would be written into a database."""
    code = (
        "from etl_assets.cli import output\noutput.prepare()\n"
        f"opened = open({str(tmp_path / 'database')!r}, 'w')\nprint('text', flush=True)\nassert opened.fileno() > 2"
    )
    subprocess.run(["/bin/sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-c", code], env=environment(), check=True)
    assert (tmp_path / "database").read_text() == ""


@pytest.mark.parametrize(
    "locale",
    [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C"}],
)
@pytest.mark.parametrize(
    "sql", ["SELECT 'Zoë' AS \"naïve\", 1 AS n", "EXPLAIN SELECT 'Zoë'", "SELECT 'Zoë' FROM nosuch"]
)
@pytest.mark.parametrize("output_format", ["table", "csv", "json"])
def test_a_terminal_without_unicode_gets_escapes(
    cli: Cli, published: Mapping[str, str], locale: Mapping[str, str], sql: str, output_format: str
) -> None:
    done = cli("query", sql, "--format", output_format, env={**published, **locale})
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if "nosuch" in sql else 0), done.stderr


def test_a_path_that_the_terminal_cannot_show_is_escaped(cli: Cli, tmp_path: Path) -> None:
    done = cli("status", env={"ETL_HOME": str(tmp_path / "Zoë"), "PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert rf"Warehouse  {tmp_path}/Zo\xeb/warehouse.duckdb" in done.stdout


def test_a_table_in_ascii_keeps_its_columns(cli: Cli, published: Mapping[str, str]) -> None:
    sql = "SELECT name, 1 AS n FROM (VALUES ('Zoë'), ('Ada')) AS t(name)"
    done = cli("query", sql, env={**published, "PYTHONIOENCODING": "ascii"})
    assert done.stdout.isascii()
    header, rule, *rows = done.stdout.splitlines()
    assert {len(line.rstrip()) for line in (header, rule, *rows)} == {len(rule)}
    assert rows[0].startswith(r"Zo\xeb")


def test_a_plan_in_ascii_is_drawn_in_ascii(cli: Cli, published: Mapping[str, str]) -> None:
    done = cli("query", "EXPLAIN SELECT 1", env={**published, "PYTHONIOENCODING": "ascii"})
    assert done.stdout.isascii()
    assert "\\u" not in done.stdout


def _fail(error: OSError) -> None:
    with output.best_effort(io.StringIO()):
        raise error


def test_output_that_cannot_be_written_is_dropped_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    _fail(OSError(28, "No space left on device"))
    assert capsys.readouterr().err == "warning: output is lost: No space left on device\n"
    _fail(BrokenPipeError())
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_an_error_that_cannot_be_printed_still_sets_the_exit_code(tmp_path: Path) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>/dev/full', "sh", *command("qurey")],
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
