"""Commands in messages are written as the user can run them."""

import subprocess
import sys
from pathlib import Path

import pytest

from etl_assets.cli.arguments import Parser
from etl_assets.cli.main import COMMANDS, subcommand_named
from etl_assets.cli.program import command, program, spell
from etl_assets_tests.command_line import environment


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A console script in an environment that is not on PATH; the current folder is the checkout's."""
    made = tmp_path / "my checkout" / ".venv" / "bin" / "etl-assets"
    made.parent.mkdir(parents=True)
    made.touch(mode=0o755)
    monkeypatch.chdir(tmp_path / "my checkout")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return made


def test_a_script_on_path_is_named_alone(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert program() == "etl-assets"


def test_a_link_to_the_script_on_path_is_named_alone(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pipx installs it."""
    (tmp_path / "etl-assets").symlink_to(script)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "etl-assets")])
    assert program() == "etl-assets"


@pytest.mark.parametrize("start", ["relative", "absolute"])
def test_a_script_off_path_is_named_by_its_path_from_here(
    script: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    """`make run` starts .venv/bin/etl-assets, and its last line recommends a query that must work."""
    monkeypatch.setattr(sys, "argv", [".venv/bin/etl-assets" if start == "relative" else str(script)])
    assert program() == ".venv/bin/etl-assets"


def test_another_script_of_that_name_on_path_is_not_meant(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etl-assets").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert program() == ".venv/bin/etl-assets"


def test_a_path_elsewhere_is_absolute_and_quoted(script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert program() == f"'{script}'"


def test_started_as_a_module_the_script_of_the_same_environment_is_named(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(script.with_name("python")))
    monkeypatch.setattr(sys, "argv", ["/somewhere/etl_assets/cli/main.py"])
    assert program() == ".venv/bin/etl-assets"
    script.unlink()
    assert program() == "etl-assets"


def test_commands_in_a_text_are_spelled_and_paths_are_not(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(script)])
    text = "Read the exports again: etl-assets run (see /srv/etl-assets run); etl-assets --help"
    assert spell(text) == (
        "Read the exports again: .venv/bin/etl-assets run (see /srv/etl-assets run); .venv/bin/etl-assets --help"
    )


def test_errors_of_every_origin_name_the_program_as_it_was_started(tmp_path: Path) -> None:
    """One from the command line's parser, one from the engine, one from the command itself."""
    script = Path(sys.executable).with_name("etl-assets")
    for arguments, expected in (
        (["qurey"], "See: {} --help"),
        (["run"], "Write sample data: {} generate"),
        (["query", "SELECT 1"], "Run: {} run"),
    ):
        done = subprocess.run(
            [script, *arguments],
            env=environment(PATH="/usr/bin:/bin"),
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 2
        assert expected.format(script) in done.stderr


def test_a_recommended_command_names_the_project_that_this_one_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the next step of `check --project mine` runs another project."""
    monkeypatch.setattr("etl_assets.cli.program._project", "my own")
    assert command("run --shards shard_01").endswith(" run --project 'my own' --shards shard_01")
    assert command("run").endswith(" run --project 'my own'")
    assert command("--help").endswith(" --help")
    assert command("init new").endswith(" init new")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_takes_a_project_is_recommended_with_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a command that gets the option later is recommended without it, and works on another project."""
    monkeypatch.setattr("etl_assets.cli.program._project", "mine")
    parser = subcommand_named(name).add_parser(Parser().add_subparsers())
    takes_project = "--project" in parser.format_help()
    assert ("--project mine" in command(name)) == takes_project
