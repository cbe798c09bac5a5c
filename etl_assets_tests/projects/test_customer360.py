"""The shipped project: words that its scores do not know are counted."""

from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.checks import Finding, check_warehouse, warehouse_checks
from etl_assets.project.loading import load_project
from etl_assets.project.locating import shipped_folder
from etl_assets.project.severity import Severity
from etl_assets_tests.factory import LIMITS, query, row, run_engine, site_at, write_exports

SHIPPED = load_project(shipped_folder())


def _payment_status_known(root: Path, *words: str) -> Finding:
    rows = [row(f"c{number}", payment_status=word) for number, word in enumerate(words)]
    site = site_at(Home(root / "home"), project=SHIPPED)
    run_engine(write_exports(root / "sources", billing=rows), site)
    checks = [check for check in warehouse_checks(SHIPPED) if check.name == "payment_status_known"]
    (finding,) = check_warehouse(site, LIMITS, checks)
    return finding


@pytest.mark.parametrize("word", ["active", "Past Due", "past-due", "FAILED", " failed", "canceled", "Trialing", ""])
def test_a_payment_status_that_the_scores_know_passes(tmp_path: Path, word: str) -> None:
    assert _payment_status_known(tmp_path, word).passed


def test_payment_states_that_no_score_knows_are_counted_as_a_warning(tmp_path: Path) -> None:
    """Fails: `unpaid` counts as nothing at all, the customers look sound, and nothing says so."""
    finding = _payment_status_known(tmp_path, "unpaid", "active", "unpaid", "in dispute")
    assert (finding.passed, finding.severity) == (False, Severity.WARN)
    assert finding.failing is not None
    assert finding.failing.columns == ("payment_status", "customer_count")
    assert finding.failing.rows == (("in dispute", 1), ("unpaid", 2))


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("crm", "employee_count"),
        ("product", "total_sessions"),
        ("product", "features_used"),
        ("support", "total_tickets"),
        ("support", "open_tickets"),
        ("support", "avg_resolution_hrs"),
    ],
)
def test_a_count_below_zero_is_a_bad_cell(tmp_path: Path, source: str, column: str) -> None:
    """Fails: a placeholder such as -1 or -5 is scored as a number, and the profile looks sound."""
    site = site_at(Home(tmp_path / "home"), project=SHIPPED)
    rows = [row("c1", **{column: "-5"}), row("c2", **{column: "0"})]
    run_engine(write_exports(tmp_path / "sources", **{source: rows}), site)
    cells = query(site.home.warehouse, "SELECT customer_id, reason, cell FROM quarantine")
    assert cells == [("c1", f"invalid:{column}", "-5")]
    assert query(site.home.warehouse, f"SELECT {column} FROM merged_profiles ORDER BY customer_id") == [(None,), (0,)]
