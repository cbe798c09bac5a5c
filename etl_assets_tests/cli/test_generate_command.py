"""`etl-assets generate` as a process."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets_tests.command_line import Cli, on_terminal
from etl_assets_tests.projects.fleets import FLEET, FLEET_FOLDER


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_files_are_written_and_summed_up_in_one_line(cli: Cli, tmp_path: Path) -> None:
    done = cli("generate", "--rows", "1_000", "--dirty", "0.1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("1,000 customers in data/sources: crm.csv ")
    assert done.stdout.count("\n") == 1
    assert _names(tmp_path / "data/sources") == ["billing.csv", "crm.csv", "product.csv", "support.csv"]


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(cli: Cli, tmp_path: Path) -> None:
    for out, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert cli("generate", "--rows", "100", "--seed", seed, "--out", out).returncode == 0
    texts = [(tmp_path / out / "crm.csv").read_bytes() for out in "abc"]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.parametrize("file_format", ["csv.gz", "parquet"])
def test_other_formats_are_written_on_request(cli: Cli, tmp_path: Path, file_format: str) -> None:
    assert cli("generate", "--rows", "100", "--format", file_format, "--out", "x").returncode == 0
    assert _names(tmp_path / "x") == [f"{name}.{file_format}" for name in ("billing", "crm", "product", "support")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rows", "0"), "argument --rows: expected a whole number from 1 to 100000000, found '0'"),
        (("--rows", "-1"), "argument --rows: expected a whole number"),
        (("--rows", "1e6"), "argument --rows: expected a whole number"),
        (("--rows", "1_000_"), "argument --rows: expected a whole number"),
        (("--rows", "99999999999"), "argument --rows: expected a whole number"),
        (("--seed", "x"), "argument --seed: expected a whole number"),
        (("--dirty", "0.7"), "argument --dirty: expected a share from 0 to 0.5, found '0.7'"),
        (("--dirty", "nan"), "argument --dirty: expected a share"),
        (("--format", "xlsx"), "argument --format: invalid choice: 'xlsx'"),
    ],
)
def test_a_bad_argument_exits_with_2_and_nothing_is_written(
    cli: Cli, tmp_path: Path, arguments: tuple[str, str], message: str
) -> None:
    done = cli("generate", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_the_sources_in_another_format_is_refused_and_left_alone(cli: Cli, tmp_path: Path) -> None:
    assert cli("generate", "--rows", "10", "--out", "x").returncode == 0
    before = {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()}
    done = cli("generate", "--rows", "20", "--out", "x", "--format", "parquet")
    assert done.returncode == 2
    assert done.stderr.startswith("error: x already holds crm.csv, billing.csv, product.csv, support.csv")
    assert {path.name: path.read_bytes() for path in (tmp_path / "x").iterdir()} == before


def test_a_folder_that_cannot_be_written_exits_with_2(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    done = cli("generate", "--rows", "10", "--out", "file/sub")
    assert done.returncode == 2
    assert done.stderr == "error: Cannot write to file/sub: Not a directory. Choose another folder with --out.\n"
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("colour", [{}, {"NO_COLOR": "1"}])
def test_the_bar_on_a_terminal_is_not_red_and_can_be_read_without_colours(
    tmp_path: Path, colour: Mapping[str, str]
) -> None:
    out = str(tmp_path / "out")
    shown = on_terminal(80, "generate", "--rows", "50000", "--out", out, env=colour, stderr=True)
    assert "█" in shown or "░" in shown
    assert "\x1b[31m" not in shown
    assert "38;5;197" not in shown
    assert ("\x1b[32m" in shown) == (not colour)


def test_a_folder_is_named_as_it_is(cli: Cli) -> None:
    assert cli("generate", "--rows", "10", "--out", "[/x]\x1b[31m").stdout.startswith(r"10 customers in [/x]\x1b[31m: ")


def test_sample_exports_in_etl_home_make_it_for_its_owner_alone(cli: Cli, tmp_path: Path) -> None:
    """By default they are in `data/sources`, and `data` is ETL_HOME. Fails: the home is open, as `generate` made it."""
    assert cli("generate", "--rows", "5").returncode == 0
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert cli("generate", "--rows", "5", "--out", str(tmp_path / "exports" / "new")).returncode == 0
    assert (tmp_path / "exports").stat().st_mode & 0o055


def test_another_project_gets_a_sample_of_its_own(cli: Cli, tmp_path: Path) -> None:
    """Fails: someone who tries a new project gets the customers of the shipped one."""
    done = cli("generate", "--rows", "1_000", env={"ETL_PROJECT": str(FLEET_FOLDER)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1,000 vehicles in data/sources: registry.csv ")
    assert _names(tmp_path / "data/sources") == [f"{name}.csv" for name in sorted(FLEET.contract.source_names)]


def test_a_project_gets_its_sample_where_it_looks_for_exports(cli: Cli, tmp_path: Path) -> None:
    """Fails: the sample of a project is written into `data/sources` of the current folder, where no run reads it."""
    assert cli("init", "mine").returncode == 0
    done = cli("generate", "--rows", "100", "--project", "mine")
    assert done.returncode == 0, done.stderr
    assert len(_names(tmp_path / "mine/data/sources")) == 4
    assert cli("check", "--project", "mine").returncode == 0


def test_without_out_no_export_is_replaced(cli: Cli, tmp_path: Path) -> None:
    """Fails: real exports are gone when someone wants to try a sample."""
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports/crm.csv").write_text("real")
    done = cli("generate", "--rows", "10", env={"ETL_SOURCES": "exports"})
    assert done.returncode == 2
    assert done.stderr.startswith("error: exports holds files, which may be real exports. ")
    assert (tmp_path / "exports/crm.csv").read_text() == "real"
    assert cli("generate", "--rows", "10", "--out", "exports").returncode == 0


def test_a_column_without_a_possible_value_exits_with_2(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql/profiles.sql").write_text("SELECT base.* FROM customers")
    contract = "name: p\nsources:\n  web:\n    columns:\n      odd: {pattern: '[^a]', required: true}\n"
    (tmp_path / "etl_assets.yaml").write_text(contract)
    done = cli("generate", "--rows", "10", env={"ETL_PROJECT": str(tmp_path)})
    assert done.returncode == 2
    assert done.stderr.startswith("error: no value can be made for web.odd: expected bounds ")
    assert _names(tmp_path / "data/sources") == []
