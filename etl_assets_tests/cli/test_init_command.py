"""`etl-assets init`: a folder made whole or not at all, and two commands to a warehouse."""

import shutil
from pathlib import Path

import pytest

from etl_assets.project.loading import load_project
from etl_assets_tests.command_line import Cli
from etl_assets_tests.drafting.worlds import CUSTOMERS, WORLDS, write_table

FILES = [
    *(".etl_assets.schema.json", ".gitignore", "README.md", "etl_assets.yaml"),
    *("sql/checks/.gitkeep", "sql/macros/.gitkeep", "sql/profiles.sql"),
]
NO_PROJECT = {"ETL_PROJECT": ""}


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow
def test_two_commands_are_enough(cli: Cli, tmp_path: Path) -> None:
    """Fails: the one screen that a newcomer reads does not work as it is written."""
    WORLDS["american_accounts"](tmp_path / "exports")
    env = {**NO_PROJECT, "ETL_NUM_SHARDS": "2"}
    made = cli("init", "my360", "--from", "exports", env=env)
    assert (made.returncode, made.stderr) == (0, "")
    assert files_in(tmp_path / "my360") == FILES
    assert "subscriptions.Customer Email ↔ accounts.Email" in made.stdout
    assert made.stdout.endswith("  etl-assets check\n  etl-assets run\n")
    done = cli("run", env=env)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == "Project: my360, the only one in this folder"
    asked = cli("query", "SELECT count(*) AS n FROM merged_profiles", "--format", "csv", env=env)
    assert asked.stdout == f"n\n{CUSTOMERS}\n"
    # Everything that is made is in the project's folder, the instance of Dagster too.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exports", "my360"]
    planned = cli("check", env=env)
    assert (planned.returncode, "reuses them" in planned.stdout) == (0, True)


def test_without_exports_it_is_a_copy_of_the_shipped_example(cli: Cli, tmp_path: Path) -> None:
    made = cli("init", "mine", env=NO_PROJECT)
    assert (made.returncode, made.stderr) == (0, "")
    assert "etl-assets generate --rows 10_000\n" in made.stdout
    own, shipped = load_project(tmp_path / "mine"), load_project()
    assert own.contract.name == "mine"
    assert (own.version, own.macros) == (shipped.version, shipped.macros)
    first = (tmp_path / "mine" / "etl_assets.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=./.etl_assets.schema.json"


@pytest.mark.parametrize("obstacle", ["a file in it", "a file", "a link"])
def test_what_exists_is_never_changed(cli: Cli, tmp_path: Path, obstacle: str) -> None:
    """Fails: someone's project is overwritten by a draft."""
    target = tmp_path / "mine"
    if obstacle == "a file":
        target.write_text("precious")
    elif obstacle == "a link":
        (tmp_path / "elsewhere").mkdir()
        target.symlink_to(tmp_path / "elsewhere")
    else:
        target.mkdir()
        (target / "etl_assets.yaml").write_text("precious")
    before = sorted(tmp_path.rglob("*"))
    done = cli("init", "mine", env=NO_PROJECT)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{target} exists and is" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before
    assert [path.read_text() for path in before if path.is_file()] in ([], ["precious"])


def test_an_empty_folder_is_taken(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert cli("init", "mine", env=NO_PROJECT).returncode == 0
    assert files_in(tmp_path / "mine")[0] == ".etl_assets.schema.json"


@pytest.mark.parametrize("exports", ["nosuch", "empty"])
def test_a_folder_without_exports_makes_nothing(cli: Cli, tmp_path: Path, exports: str) -> None:
    (tmp_path / "empty").mkdir()
    done = cli("init", "mine", "--from", exports, env=NO_PROJECT)
    assert (done.returncode, done.stdout) == (2, "")
    assert str(tmp_path / exports) in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_folder_that_cannot_be_made_is_named(cli: Cli, tmp_path: Path) -> None:
    done = cli("init", "no/such/mine", env=NO_PROJECT)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"The folder {tmp_path}/no/such does not exist." in done.stderr


def test_the_same_exports_give_the_same_draft(cli: Cli, tmp_path: Path) -> None:
    """Fails: the draft of a colleague differs for no reason."""
    rows = [[f"u{number}@x.example", f"{number}.50"] for number in range(30)]
    write_table(tmp_path / "exports" / "crm.csv", [["email", "spent"], *rows])
    texts = []
    for _ in range(2):
        assert cli("init", "mine", "--from", "exports", env=NO_PROJECT).returncode == 0
        texts.append([(tmp_path / "mine" / name).read_text(encoding="utf-8") for name in FILES])
        shutil.rmtree(tmp_path / "mine")
    assert texts[0] == texts[1]


def test_a_project_beside_another_is_named_in_the_next_commands(cli: Cli) -> None:
    """Fails: the commands that `init` prints ask which of the two is meant."""
    assert cli("init", "one", env=NO_PROJECT).stdout.endswith("  etl-assets check\n  etl-assets run\n")
    made = cli("init", "two", env=NO_PROJECT)
    assert made.stdout.endswith("  etl-assets check --project two\n  etl-assets run --project two\n")
    checked = cli("check", "--project", "two", env=NO_PROJECT)
    assert "etl-assets generate --project two --rows 100000 --out " in checked.stdout
