"""Rows and dates of the files of a snapshot, and the columns that were ignored."""

import os
from pathlib import Path

import pytest

from etl_assets.engine.published.read_files import IgnoredColumn, ignored_columns, read_files
from etl_assets.engine.site import Site
from etl_assets.engine.steps import stage as staging
from etl_assets.project.contract import Contract
from etl_assets_tests.factory import staging_request

SOURCE = Contract.model_validate({"name": "any", "sources": {"crm": {"columns": ["name", "industry"]}}}).source("crm")
DAY = 86_400


def write(path: Path, text: str, time_s: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time_s, time_s))


def test_each_file_has_its_rows_and_the_time_of_its_last_change(
    sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the sum of the rows is right, and nobody sees that one file of ten has none."""
    monkeypatch.setattr(staging, "_STAMP_GRANULARITY_NS", 0)
    for number, rows in enumerate(["a,x,y\nb,x,y\n\n", "", "c,x,y\nbroken\n"]):
        write(sources / "crm" / f"{number}.csv", f"customer_id,name,industry\n{rows}", (number + 1) * DAY)
    snapshot, _ = staging.stage(SOURCE, staging_request(sources, site))
    found = read_files(site.home, snapshot)
    assert [(one.name, one.row_count, one.modified_at) for one in found] == [
        ("crm/0.csv", 2, "1970-01-02T00:00:00+00:00"),
        ("crm/1.csv", 0, "1970-01-03T00:00:00+00:00"),
        ("crm/2.csv", 2, "1970-01-04T00:00:00+00:00"),
    ]
    # The same bytes, exported again.
    os.utime(sources / "crm" / "1.csv", (9 * DAY, 9 * DAY))
    again, reused = staging.stage(SOURCE, staging_request(sources, site))
    assert reused
    assert read_files(site.home, again)[1].modified_at == "1970-01-10T00:00:00+00:00"


def test_an_ignored_column_tells_which_absent_one_it_may_be(sources: Path, site: Site) -> None:
    write(sources / "crm.jsonl", '{"customer_id": "a", "name": "x", "indstry": "y", "phone": 1}\n', DAY)
    snapshot, _ = staging.stage(SOURCE, staging_request(sources, site))
    assert ignored_columns(SOURCE, snapshot) == (IgnoredColumn("indstry", "industry"), IgnoredColumn("phone"))
