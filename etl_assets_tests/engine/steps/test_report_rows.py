"""A sum at the end of a report, and a header in its middle, are no records: they are accepted and reported."""

from pathlib import Path

import pytest

from etl_assets.engine.published.notices import NoticeKind, source_notices
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import stage
from etl_assets_tests.factory import PROJECT, row, staging_request, write_csv

CRM = PROJECT.contract.source("crm")


@pytest.mark.parametrize(
    ("key", "is_told"),
    [
        ("Grand Total", True),
        (" TOTAL ", True),
        ("Gesamt", True),
        ("Total general", True),
        ("Total Energies SE", False),
        ("T", False),
    ],
)
def test_a_key_that_is_a_word_for_a_sum_is_a_notice(sources: Path, site: Site, key: str, is_told: bool) -> None:
    """Fails: the sum of all customers is published as the largest one."""
    write_csv(sources / "crm.csv", CRM, [row("a"), row("b"), row(key, deal_value="30010")])
    snapshot, _ = stage(CRM, staging_request(sources, site))
    assert snapshot.rows_accepted == 3
    found = [notice for notice in source_notices([snapshot]) if notice.kind == NoticeKind.TOTAL_ROW]
    assert bool(found) is is_told
    if found:
        assert f"'{key.strip()}'" in found[0].finding
        assert found[0].is_warning


@pytest.mark.parametrize(
    ("header", "key", "is_told"),
    [
        ("customer_id", "customer_id", True),
        ("customer_id", "CUSTOMER_ID", True),
        ("Customer Id", "Customer Id", True),
        ("customer_id", "-----------", True),
        ("customer_id", "==", True),
        ("customer_id", "customer", False),
        ("customer_id", "--x", False),
    ],
)
def test_a_header_among_the_records_is_a_notice(
    sources: Path, site: Site, header: str, key: str, is_told: bool
) -> None:
    """Fails: of files that were put together, each header but the first is published as a customer."""
    path = sources / "crm.csv"
    write_csv(path, CRM, [row("a"), row(key), row("b")])
    path.write_text(path.read_text().replace("customer_id", header, 1))
    snapshot, _ = stage(CRM, staging_request(sources, site))
    assert snapshot.rows_accepted == 3
    found = [notice for notice in source_notices([snapshot]) if notice.kind == NoticeKind.HEADER_ROW]
    assert [(notice.figures, notice.is_warning) for notice in found] == [({"key_count": 1}, True)] * is_told
    assert all(f"'{key}'" in notice.finding for notice in found)
