"""The commands on a lake, as processes of their own: run, status, query, rejects, restore, export."""

import json
import subprocess
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.warehouse import damage
from etl_assets_tests.command_line import Cli, ended
from etl_assets_tests.factory import LIMITS, generate_sample, query, run_engine, site_at


@pytest.fixture
def exports(sources: Path) -> Path:
    generate_sample(sources, rows=300, seed=6, dirty=0.03)
    return sources


@pytest.fixture
def etl(s3_url: str, exports: Path, tmp_path: Path) -> Cli:
    """Runs a command on the machine of this name."""

    def run(*arguments: str, machine: str = "one", code: int = 0) -> subprocess.CompletedProcess[str]:
        home = tmp_path / machine
        places = {
            "ETL_LAKE": s3_url,
            "ETL_SOURCES": str(exports),
            "ETL_HOME": str(home),
            "DAGSTER_HOME": f"{home}/dagster",
        }
        return ended(code, *arguments, **places, ETL_NUM_SHARDS="3", ETL_MIN_ROWS_RATIO="0")

    return run


def test_the_commands_work_on_a_lake_as_on_a_warehouse(etl: Cli, exports: Path, s3_url: str, tmp_path: Path) -> None:
    """Fails: a user who goes to a lake loses a command."""
    local = site_at(Home(tmp_path / "local"))
    expected = run_engine(exports, local).publication
    assert expected.digest in etl("run").stdout
    assert "Unchanged" in etl("run").stdout
    assert "No mistakes" in etl("check", machine="two").stdout
    assert "without a lake" in etl("drill", code=2).stderr
    facts = json.loads(etl("status", "--json", machine="two").stdout)
    assert (facts["warehouse"]["state"], facts["warehouse"]["digest"]) == ("current", expected.digest)
    assert facts["warehouse"]["path"] == s3_url
    assert {one["state"] for one in facts["shards"]} == {"published"}
    text = "SELECT churn_risk, count(*) AS n FROM merged_profiles GROUP BY ALL ORDER BY ALL"
    rows = json.loads(etl("query", text, "--format", "json", machine="three").stdout)
    assert [(one["churn_risk"], one["n"]) for one in rows] == query(local.home.warehouse, text)
    rejects = etl("rejects", "--format", "csv", machine="four").stdout.splitlines()
    quarantined = query(local.home.warehouse, "SELECT count(*) FROM quarantine")[0][0]
    assert len(rejects) >= 1 + quarantined
    target = tmp_path / "whole.duckdb"
    assert expected.digest in etl("export", "--warehouse", str(target), machine="five").stdout
    assert damage(local.home, LIMITS, target) is None
    statement = "SELECT * FROM merged_profiles ORDER BY ALL"
    assert query(target, statement) == query(local.home.warehouse, statement)
    assert "exists" in etl("export", "--warehouse", str(target), machine="five", code=2).stderr


@pytest.mark.slow
def test_an_earlier_version_is_restored_and_held_until_it_is_released(etl: Cli, exports: Path) -> None:
    """Fails: a bad publication cannot be undone, or the next run puts it back at once."""
    etl("run")
    first = json.loads(etl("status", "--json").stdout)["warehouse"]
    generate_sample(exports, rows=200, seed=7)
    etl("run")
    etl("restore", machine="two")
    now = json.loads(etl("status", "--json", machine="three").stdout)["warehouse"]
    assert (now["state"], now["digest"]) == ("restored", first["digest"])
    assert "held" in etl("run", code=2).stderr
    listed = json.loads(etl("restore", "--list", "--json").stdout)
    assert listed["published_at"][:19] == first["published_at"][:19]
    assert [one["record_count"] for one in listed["kept"]] == [200]
    etl("restore", "--release")
    etl("run")
    assert json.loads(etl("status", "--json").stdout)["warehouse"]["record_count"] == 200


def test_a_run_that_fails_after_its_commit_says_that_the_result_was_replaced(exports: Path, tmp_path: Path) -> None:
    """Fails: a person relies on "unchanged" while every reader sees the new version."""
    places = {
        "ETL_LAKE": (tmp_path / "lake").as_uri(),
        "ETL_SOURCES": str(exports),
        "ETL_HOME": str(tmp_path / "home"),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
    }
    failed = ended(1, "run", **places, ETL_NUM_SHARDS="3", ETL_FAULT="warehouse.after_swap raise-permanent")
    assert "The warehouse was replaced before the run failed" in failed.stdout + failed.stderr
    ended(0, "run", **places, ETL_NUM_SHARDS="3")
