"""The environment variables in `--help`, and the warning about those that are no setting."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets.cli import environment
from etl_assets.errors import ConfigError
from etl_assets.project import settings
from etl_assets_tests.command_line import Cli


def _help_text() -> str:
    """The section as it follows from the settings: the first clause of each meaning, and the default if any."""
    lines = ["environment:"]
    for name, default, meaning in settings.table():
        clause = re.split("[;,]", meaning.replace("`", ""))[0]
        lines.append(f"  {name:<24} {clause}" + ("" if default == "not set" else f" ({default})"))
    return "\n".join(lines) + "\n"


def test_the_help_names_every_setting_with_its_default() -> None:
    """The text is kept, because deriving it costs `--help` a quarter of a second; so it can fall behind."""
    assert _help_text() == environment.HELP, f"put this into etl_assets/cli/environment.py:\n{_help_text()}"


def test_every_line_fits_a_wide_terminal() -> None:
    assert max(map(len, environment.HELP.splitlines())) <= 100


def test_the_help_shows_it(cli: Cli) -> None:
    assert f"\n{environment.HELP}\n" in cli("--help").stdout


@pytest.mark.parametrize("arguments", [("run",), ("status",), ("status", "--json"), ("ui", "--host", "no.invalid")])
def test_a_variable_that_is_no_setting_is_warned_about_in_one_line(
    cli: Cli, published: Mapping[str, str], arguments: tuple[str, ...]
) -> None:
    """It would be ignored in silence, and its value would be the default's."""
    unknown = {"ETL_PARALLELISM": "8", "ETL_COLOUR": "red"}
    # The exports are missing, so that the run ends before it begins.
    done = cli(*arguments, env={**published, "ETL_SOURCES": "nosuch", **unknown})
    first, *others = done.stderr.splitlines()
    assert first == (
        "warning: ETL_COLOUR, ETL_PARALLELISM are no settings and have no effect. The settings: etl-assets --help"
    )
    assert not [line for line in others if "ETL_COLOUR" in line]
    assert "warning" not in cli(*arguments, env={**published, "ETL_SOURCES": "nosuch"}).stderr


def test_one_of_them_alone_is_spoken_of_in_the_singular(capsys: pytest.CaptureFixture[str]) -> None:
    environment.warn_of_unknown({"ETL_COLOUR": "red", "HOME": "/root"})
    assert capsys.readouterr().err.startswith("warning: ETL_COLOUR is no setting and has no effect. The settings: ")


def test_what_the_packages_own_processes_pass_on_is_no_unknown_setting(capsys: pytest.CaptureFixture[str]) -> None:
    environment.warn_of_unknown({"ETL_ASSETS_ANYTHING": "1", "ETL_HOME": "data"})
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["run", "status", "query", "ui"])
def test_a_misspelt_setting_exits_with_2_and_says_how_to_spell_it(cli: Cli, name: str) -> None:
    """A run with the default number of shards would not be what was asked for."""
    arguments = ("SELECT 1",) if name == "query" else ()
    done = cli(name, *arguments, env={"ETL_NUM_SHARD": "5"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: ETL_NUM_SHARD is set, and there is no such setting: did you mean ETL_NUM_SHARDS?",
        "  Try: unset ETL_NUM_SHARD",
        "  Try: export ETL_NUM_SHARDS=5",
    ]


def test_a_project_is_adopted_for_this_process_and_its_children(tmp_path: Path) -> None:
    """Fails: the processes that a run starts work on another project, or keep their history in another folder."""
    _project(tmp_path / "mine", "settings: {dagster_home: .dagster}\n")
    variables: dict[str, str] = {}
    environment.adopt_project(str(tmp_path / "mine"), variables)
    assert variables == {"ETL_PROJECT": str(tmp_path / "mine"), "DAGSTER_HOME": str(tmp_path / "mine" / ".dagster")}
    variables = {"DAGSTER_HOME": "/elsewhere", "ETL_PROJECT": "/other"}
    environment.adopt_project(str(tmp_path / "mine"), variables)
    assert variables == {"ETL_PROJECT": str(tmp_path / "mine"), "DAGSTER_HOME": "/elsewhere"}


def test_a_folder_that_is_no_project_is_refused(tmp_path: Path) -> None:
    variables: dict[str, str] = {}
    with pytest.raises(ConfigError, match=r"is no project: it has no etl_assets\.yaml"):
        environment.adopt_project(str(tmp_path), variables)
    assert variables == {}


def test_the_only_project_below_is_adopted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fails: someone thinks that the shipped project runs, and it is another one."""
    _project(tmp_path / "mine", "")
    monkeypatch.chdir(tmp_path)
    variables: dict[str, str] = {}
    environment.adopt_project(None, variables)
    assert variables == {"ETL_PROJECT": str(tmp_path / "mine")}
    assert capsys.readouterr().err == "Project: mine, the only one in this folder\n"
    monkeypatch.chdir(tmp_path / "mine")
    environment.adopt_project(None, variables := {})
    assert (variables, capsys.readouterr().err) == ({}, "")


def _project(folder: Path, settings: str) -> None:
    folder.mkdir()
    (folder / "etl_assets.yaml").write_text(f"name: p\nsources: {{crm: {{columns: [email]}}}}\n{settings}")
