"""The command as a whole: help, versions, mistakes, and what is imported for what."""

import errno
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets.cli import main as main_module
from etl_assets.cli.main import COMMANDS, main
from etl_assets.engine.published.tables import table_names
from etl_assets_tests.command_line import Cli, command, environment


def _imported_by(*arguments: str, env: Mapping[str, str] | None = None) -> set[str]:
    code = (
        "import sys\nfrom etl_assets.cli.main import main\n"
        "try:\n    code = main(sys.argv[1:])\nexcept SystemExit as end:\n    code = end.code\n"
        "print('\\n' + ' '.join(sys.modules), file=sys.stderr)\nsys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(**(env or {})),
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return set(done.stderr.splitlines()[-1].split())


def test_help_lists_every_command_and_the_exit_codes(cli: Cli) -> None:
    done = cli("--help")
    assert done.returncode == 0
    assert all(f"\n    {name}" in done.stdout for name in COMMANDS)
    assert "exit codes:" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_examples_and_exit_codes(cli: Cli, name: str) -> None:
    done = cli(name, "--help")
    assert done.returncode == 0
    assert f"etl-assets {name}" in done.stdout
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout


def test_help_imports_nothing_slow() -> None:
    """Otherwise the help takes a second."""
    assert not {"dagster", "duckdb", "rich", "pydantic", "yaml"} & _imported_by("--help")


@pytest.mark.parametrize("arguments", [("query", "SELECT 1"), ("status",), ("run", "--help"), ("generate", "--help")])
def test_what_does_not_run_the_pipeline_does_not_import_dagster(
    published: Mapping[str, str], arguments: tuple[str, ...]
) -> None:
    assert not {"dagster", "numpy"} & _imported_by(*arguments, env=published)


@pytest.mark.slow
def test_a_run_with_nothing_to_do_imports_neither_dagster_nor_numpy(
    cli: Cli, published: Mapping[str, str], tmp_path: Path
) -> None:
    """It is what a schedule runs most of the time: the two are half of its time."""
    env = {**published, "ETL_HOME": str(tmp_path / "home"), "DAGSTER_HOME": str(tmp_path / "dagster")}
    assert cli("run", env=env).returncode == 0
    assert not {"dagster", "numpy"} & _imported_by("run", env=env)


def test_no_text_of_the_command_as_a_whole_speaks_of_one_project(cli: Cli) -> None:
    """Who merges suppliers would look for another program."""
    shown = cli("--help").stdout.lower()
    assert not [word for word in ("customer", "crm", "billing", "churn") if word in shown]


def test_the_version_is_the_packages(cli: Cli) -> None:
    done = cli("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("etl-assets 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: a command is missing; the commands are init, check"),
        (("qurey",), "error: there is no command 'qurey'; did you mean 'query'?"),
        (("xyz",), "error: there is no command 'xyz'; the commands are init, check"),
        (("--nonsense",), "error: unrecognized arguments: --nonsense"),
        (("status", "--jsn"), "error: unrecognized arguments: --jsn"),
        # Abbreviations would become a promise the day a second option begins alike.
        (("query", "SELECT 1", "--form", "csv"), "error: unrecognized arguments: --form csv"),
        (("query",), "error: the following arguments are required: SQL"),
    ],
)
def test_a_mistyped_command_line_is_named_and_exits_with_2(cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert "--help" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["run", "status", "ui"])
@pytest.mark.parametrize("value", ["0", "abc", "1001"])
def test_a_bad_number_of_shards_exits_with_2_and_names_the_variable(
    cli: Cli, tmp_path: Path, name: str, value: str
) -> None:
    done = cli(name, env={"ETL_NUM_SHARDS": value})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: ETL_NUM_SHARDS must be a whole number from 1 to 1000, found '{value}'.")
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


# The reader leaves before the output at exit is flushed; the reader leaves in the middle of the output.
@pytest.mark.parametrize("row_count", [1, 100_000])
def test_a_reader_that_leaves_early_is_no_error(published: Mapping[str, str], tmp_path: Path, row_count: int) -> None:
    """`etl-assets query … | head` must not end in a traceback."""
    sql = f"SELECT range, repeat('x', 100) FROM range({row_count})"
    with subprocess.Popen(
        command("query", sql, "--format", "csv"),
        env=environment(**published),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_the_help_of_query_names_every_table(cli: Cli) -> None:
    shown = cli("query", "--help").stdout
    assert [name for name in table_names() if name not in shown] == []


@pytest.mark.parametrize(
    ("number", "advice", "other"),
    [
        (errno.ENOSPC, "Free space on the disk of /srv/[/x]", "this user"),
        (errno.EDQUOT, "raise its quota", "this user"),
        (errno.EFBIG, "file size limit", "this user"),
        (errno.EACCES, "Let this user read and write /srv/[/x]", "disk"),
        (errno.EPERM, "Let this user read and write /srv/[/x]", "disk"),
        (errno.EROFS, "or choose another folder", "disk of"),
        (errno.EIO, "Fix the cause.", "disk"),
    ],
)
def test_what_the_system_refuses_comes_with_advice_that_fits(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, advice: str, other: str
) -> None:
    """A permission error advised to look for a full disk."""

    def refuse(_: list[str]) -> int:
        raise OSError(number, "Refused", "/srv/[/x]")

    monkeypatch.setattr(main_module, "_dispatch", refuse)
    assert main([]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("error: Refused: /srv/[/x]. ")
    assert advice in shown
    assert other not in shown
    assert shown.endswith("run the same command again; finished work is kept.\n")


def test_an_error_message_is_shown_as_it_is(cli: Cli, tmp_path: Path) -> None:
    shown = cli("query", "SELECT 1", env={"ETL_HOME": str(tmp_path / "[/x]\x1b[31m\u202e")}).stderr
    assert r"[/x]\x1b[31m\u202e/warehouse.duckdb" in shown
    assert "\x1b" not in shown
