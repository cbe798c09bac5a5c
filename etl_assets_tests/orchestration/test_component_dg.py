"""The component under the `dg` command: found, scaffolded, checked and listed, in a project of another name."""

import importlib.metadata
import json
from pathlib import Path

import pytest

from etl_assets.project.loading import load_project, shipped_folder
from etl_assets_tests import dg_projects
from etl_assets_tests.dg_projects import DgProject

SHIPPED = {*load_project(shipped_folder()).contract.source_names, "shard_profiles", "merged_profiles"}


def test_the_package_is_registered_for_dg() -> None:
    """Fails: `dg` knows no such component. `make test` installs the checkout again when pyproject.toml changed."""
    found = importlib.metadata.entry_points(group="dagster_dg_cli.registry_modules", name="etl_assets")
    assert [entry.value for entry in found] == ["etl_assets"]


def ok(project: DgProject, *arguments: str) -> str:
    """What a command of `dg` prints, which must succeed."""
    done = project.run(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_what_dg_scaffolds_is_checked_and_listed(tmp_path: Path) -> None:
    """Fails: the three commands of the documentation end in an error, or in no assets."""
    shop = dg_projects.write(tmp_path / "shop", "shop_of_dg")
    ok(shop, "scaffold", "defs", dg_projects.TYPE, "customers")
    ok(shop, "scaffold", "defs", dg_projects.TYPE, "emea/customers", "--format", "python")
    ok(shop, "check", "yaml")
    ok(shop, "check", "defs")
    listed = json.loads(ok(shop, "list", "defs", "--json"))
    assert {asset["asset_key"] for asset in listed["assets"]} >= {
        *("download_crm", "mailing"),
        *(f"{prefix}/{name}" for prefix in ("customers", "emea/customers") for name in SHIPPED),
    }


@pytest.mark.slow
def test_dg_names_the_line_of_a_word_that_is_no_attribute(tmp_path: Path) -> None:
    shop = dg_projects.write(tmp_path / "shop", "shop_with_a_flaw")
    shop.add("customers", home="data", num_shard=3)
    done = shop.run("check", "yaml")
    assert done.returncode == 1
    assert "num_shard" in done.stdout + done.stderr
    assert "defs.yaml" in done.stdout + done.stderr
