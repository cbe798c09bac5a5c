"""Staging refuses a source that has unread files, whoever starts it: also the Dagster UI, without a preflight."""

from pathlib import Path

import pytest

from etl_assets.engine.published.snapshots import read_refused
from etl_assets.engine.site import Site
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import InputError
from etl_assets_tests.factory import PROJECT, row, staging_request, write_csv

CRM = PROJECT.contract.source("crm")


def test_a_newer_file_beside_an_export_stops_it_also_when_that_one_is_staged(
    sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the export was staged, it has not changed, and the newer one beside it is never read."""
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    write_csv(sources / "crm.csv", CRM, [row("a")])
    staging.stage(CRM, staging_request(sources, site))
    write_csv(sources / "crm (1).csv", CRM, [row("b")])
    with pytest.raises(InputError, match=r"crm \(1\)\.csv looks like its data too"):
        staging.stage(CRM, staging_request(sources, site))
    refused = read_refused(site.home, "crm")
    assert refused is not None
    assert refused.kind == "input"
