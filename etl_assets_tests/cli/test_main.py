"""The command as a whole: help, versions, mistakes, and what is imported for what."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets.cli.main import COMMANDS
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


def test_help_imports_neither_dagster_nor_duckdb_nor_rich() -> None:
    """Otherwise a look at the help takes a second."""
    assert not {"dagster", "duckdb", "rich"} & _imported_by("--help")


@pytest.mark.parametrize("arguments", [("query", "SELECT 1"), ("status",), ("run", "--help"), ("generate", "--help")])
def test_what_does_not_run_the_pipeline_does_not_import_dagster(
    published: Mapping[str, str], arguments: tuple[str, ...]
) -> None:
    assert "dagster" not in _imported_by(*arguments, env=published)


def test_the_version_is_the_packages(cli: Cli) -> None:
    done = cli("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("etl-assets 0.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: a command is missing; the commands are run, status"),
        (("qurey",), "error: there is no command 'qurey'; did you mean 'query'?"),
        (("xyz",), "error: there is no command 'xyz'; the commands are run, status"),
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


# Nobody reads what is still in a buffer at the end; nobody reads on in the middle.
@pytest.mark.parametrize("row_count", [1, 100_000])
def test_output_that_nobody_reads_to_its_end_is_no_error(
    published: Mapping[str, str], tmp_path: Path, row_count: int
) -> None:
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
