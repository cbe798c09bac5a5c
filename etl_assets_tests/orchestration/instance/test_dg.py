"""`dg` in the checkout: it finds the project by dg.toml, and warns of nothing."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from etl_assets.orchestration.instance import origin
from etl_assets.orchestration.instance.home import dagster_home
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.orchestration.test_code_location import CHECKOUT

DG = Path(sys.executable).with_name("dg")


def test_the_code_location_has_the_name_in_the_origin_of_runs() -> None:
    """Fails: under `dg dev` the runs of `etl-assets run` belong to no code location."""
    project = tomllib.loads((CHECKOUT / "dg.toml").read_text())["project"]
    assert project["code_location_name"] == origin.LOCATION_NAME
    assert project["code_location_target_module"] == "etl_assets.definitions"


def test_a_bare_dagster_dev_reads_the_workspace() -> None:
    """Fails: with one of these tables `dagster dev` ignores workspace.yaml."""
    assert not {"dagster", "dg"} & tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"].keys()


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a folder with exports and a Dagster instance."""
    folder = tmp_path_factory.mktemp("dg")
    subprocess.run(command("generate", "--rows", "200", "--out", str(folder / "sources")), check=True)
    home = dagster_home({"DAGSTER_HOME": str(folder / "dagster")})
    return environment(ETL_SOURCES=str(folder / "sources"), ETL_HOME=str(folder / "home"), DAGSTER_HOME=str(home))


def run_dg(variables: dict[str, str], *arguments: str) -> str:
    """What a command of dg prints, which must succeed without a warning."""
    done = subprocess.run(
        [str(DG), *arguments], cwd=CHECKOUT, env=variables, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in (done.stdout + done.stderr).lower()
    return done.stdout


@pytest.mark.slow
def test_the_definitions_are_listed_and_checked(variables: dict[str, str]) -> None:
    listed = json.loads(run_dg(variables, "list", "defs", "--json"))
    names = {asset["asset_key"] for asset in listed["assets"]}
    assert names == {"crm", "billing", "product", "support", "shard_profiles", "merged_profiles"}
    run_dg(variables, "check", "defs")


@pytest.mark.slow
def test_assets_are_launched(variables: dict[str, str]) -> None:
    run_dg(variables, "launch", "--assets", "crm,billing,product,support")
    run_dg(variables, "launch", "--assets", "shard_profiles", "--partition", "shard_00")
    assert [path.stem for path in Path(variables["ETL_HOME"]).glob("shards/*.duckdb")] == ["shard_00"]
