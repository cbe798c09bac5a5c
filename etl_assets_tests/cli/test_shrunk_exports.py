"""Exports that shrank, from the command line and from Python."""

from collections.abc import Mapping
from pathlib import Path

import pytest

import etl_assets
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.warehouse import Publication, read_publication
from etl_assets.errors import ShrunkError
from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli

CRM = factory.PROJECT.contract.source("crm")
ROWS = [factory.row(f"cust_{number}") for number in range(20)]


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The environment of twenty published customers."""
    factory.write_exports(tmp_path / "sources", crm=ROWS, billing=ROWS, product=ROWS, support=ROWS)
    factory.run_engine(tmp_path / "sources", factory.site_at(Home(tmp_path / "home")))
    return {"ETL_SOURCES": str(tmp_path / "sources"), "ETL_HOME": str(tmp_path / "home"), "ETL_NUM_SHARDS": "3"}


def _published(env: Mapping[str, str]) -> Publication:
    found = read_publication(Home(Path(env["ETL_HOME"])))
    assert found is not None
    return found


@pytest.mark.slow
def test_a_run_refuses_what_shrank_until_it_is_accepted_or_whole_again(cli: Cli, own: dict[str, str]) -> None:
    """Fails: the night in which an export holds its header only costs the published result, with exit code 0."""
    before = _published(own)
    path = Path(own["ETL_SOURCES"]) / "crm.csv"
    factory.write_csv(path, CRM, [])
    refused = cli("run", env=own)
    assert refused.returncode == 1
    assert "Source 'crm': its export has shrunk. 0 rows accepted now (crm.csv), 20 rows in the publication of" in (
        refused.stderr
    )
    assert "If it is right, accept it this once: etl-assets run --accept-shrunk" in refused.stderr
    assert "The published warehouse is unchanged." in refused.stderr
    assert _published(own) == before
    status = cli("status", env=own).stdout
    assert "its export has shrunk" in status
    assert "etl-assets run --accept-shrunk" in status
    # It is no matter of --force.
    assert cli("run", "--force", env=own).returncode == 1
    assert _published(own) == before
    factory.write_csv(path, CRM, ROWS)
    assert cli("run", env=own).returncode == 0
    assert _published(own).digest == before.digest
    factory.write_csv(path, CRM, [])
    accepted = cli("run", "--accept-shrunk", env=own)
    assert accepted.returncode == 0, accepted.stderr
    assert "crm is empty: its files hold no rows." in accepted.stdout
    assert _published(own).digest != before.digest
    factory.write_csv(Path(own["ETL_SOURCES"]) / "billing.csv", factory.PROJECT.contract.source("billing"), ROWS[:3])
    assert cli("run", env=own).returncode == 1
    assert cli("run", env={**own, "ETL_MIN_ROWS_RATIO": "0"}).returncode == 0


@pytest.mark.slow
def test_a_program_is_told_and_may_accept_it(own: dict[str, str], tmp_path: Path) -> None:
    """Fails: `etl_assets.run` publishes what the command refuses, or cannot be told otherwise."""
    factory.write_csv(Path(own["ETL_SOURCES"]) / "crm.csv", CRM, ROWS[:3])
    options = {"sources": own["ETL_SOURCES"], "home": own["ETL_HOME"], "num_shards": 3, "dagster_home": tmp_path / "d"}
    report = etl_assets.run(factory.PROJECT_FOLDER, **options)  # type: ignore[arg-type]
    assert not report.ok
    assert isinstance(report.sources[0].error, ShrunkError)
    assert report.publication is None
    assert not report.is_warehouse_replaced
    accepted = etl_assets.run(factory.PROJECT_FOLDER, accept_shrunk=True, **options)  # type: ignore[arg-type]
    assert accepted.ok
    assert etl_assets.run(factory.PROJECT_FOLDER, **options).is_unchanged  # type: ignore[arg-type]
