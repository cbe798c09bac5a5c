"""`etl-assets restore` and `query --at` as processes: what they say, and what `run` does after them."""

import json
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.orchestration.instance.opening import open_instance
from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli

COUNT = "SELECT count(*) AS customers FROM merged_profiles"


def _write(env: Mapping[str, str], count: int) -> None:
    customers = [factory.row(f"c{number}") for number in range(count)]
    sources = Path(env["ETL_SOURCES"])
    factory.write_exports(sources, crm=customers, billing=customers, product=customers, support=customers)


@pytest.fixture
def own(tmp_path: Path, cli: Cli) -> dict[str, str]:
    """The environment of a home with a good publication of nine customers and a bad one of two after it."""
    env = {
        "ETL_SOURCES": str(tmp_path / "sources"),
        "ETL_HOME": str(tmp_path / "home"),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "ETL_NUM_SHARDS": "3",
        "ETL_MIN_ROWS_RATIO": "0",
    }
    for count in (9, 2):
        _write(env, count)
        done = cli("run", env=env)
        assert done.returncode == 0, done.stderr
    return env


def _count(cli: Cli, env: Mapping[str, str], *options: str) -> str:
    done = cli("query", COUNT, "--format", "csv", *options, env=env)
    assert done.returncode == 0, done.stderr
    return str(done.stdout.splitlines()[1])


def test_a_bad_publication_is_undone_held_and_released(cli: Cli, own: Mapping[str, str]) -> None:
    """Fails: the one way back after a bad export is to wait for a good one."""
    kept = json.loads(cli("restore", "--list", "--json", env=own).stdout)["kept"]
    assert [one["record_count"] for one in kept] == [9]
    assert (_count(cli, own), _count(cli, own, "--at", kept[0]["published_at"])) == ("2", "9")
    restored = cli("restore", env=own)
    assert restored.returncode == 0, restored.stderr
    assert "Restored 9 profiles published " in restored.stdout
    assert "Undo: etl-assets restore '" in restored.stdout
    assert _count(cli, own) == "9"
    # The UI shows it on the asset's page.
    with open_instance(Path(own["DAGSTER_HOME"])) as instance:
        (seen,) = instance.fetch_observations(dg.AssetKey("merged_profiles"), limit=5).records
    assert seen.asset_observation is not None
    assert seen.asset_observation.metadata["record_count"].value == 9
    facts = json.loads(cli("status", "--json", env=own).stdout)["warehouse"]
    assert facts["state"] == "restored"
    assert facts["restored_at"] is not None
    assert "restored, held" not in cli("status", env=own).stdout
    assert "etl-assets restore --release" in cli("status", env=own).stdout
    assert "(restored " in cli("restore", "--list", env=own).stdout
    # A plain run changes nothing, and says why, also with new exports.
    for count in (2, 8):
        _write(own, count)
        held = cli("run", env=own)
        assert held.returncode == 2
        assert "was restored at " in held.stderr
        assert "Let the next merge replace it: etl-assets restore --release" in held.stderr
        assert _count(cli, own) == "9"
    assert "The next merge replaces it: etl-assets run" in cli("restore", "--release", env=own).stdout
    assert cli("run", env=own).returncode == 0
    assert _count(cli, own) == "8"


def test_a_forced_run_replaces_a_restored_warehouse(cli: Cli, own: Mapping[str, str]) -> None:
    assert cli("restore", env=own).returncode == 0
    _write(own, 7)
    forced = cli("run", "--force", env=own)
    assert forced.returncode == 0, forced.stderr
    assert _count(cli, own) == "7"
    assert json.loads(cli("status", "--json", env=own).stdout)["warehouse"]["restored_at"] is None


def test_kept_warehouses_can_be_forgotten_and_a_time_that_is_none_is_refused(cli: Cli, own: Mapping[str, str]) -> None:
    wrong = cli("query", COUNT, "--at", "1999", env=own)
    assert wrong.returncode == 2
    assert "No kept warehouse was published at '1999' (UTC). Kept are: " in wrong.stderr
    assert "Deleted the warehouse of " in cli("restore", "--forget", env=own).stdout
    assert json.loads(cli("restore", "--list", "--json", env=own).stdout)["kept"] == []
    none = cli("restore", env=own)
    assert (none.returncode, "No warehouse of before the present one is kept" in none.stderr) == (2, True)
    assert _count(cli, own) == "2"
