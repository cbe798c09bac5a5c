"""The shipped project, whatever a user makes of it: it publishes the sample and keeps what it declares."""

from pathlib import Path

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.checks import check_warehouse, warehouse_checks
from etl_assets.engine.published.tables import profiles_table
from etl_assets.project.loading import load_project
from etl_assets.samples.writing import generate
from etl_assets_tests.factory import LIMITS, query, run_engine, site_at


def test_the_shipped_project_publishes_the_sample_and_passes_every_check(sources: Path, home: Home) -> None:
    """Fails: `make run` on a fresh checkout ends in an error, or with scores out of their declared ranges."""
    shipped = load_project()
    generate(sources, rows=300, seed=3, dirty=0.1)
    merged = run_engine(sources, site_at(home, 2, shipped))
    assert merged.publication.record_count == 300
    findings = check_warehouse(site_at(home, 2, shipped), LIMITS, warehouse_checks(shipped))
    assert [finding for finding in findings if not finding.passed] == []


def test_every_column_of_its_profiles_says_what_it_means(sources: Path, home: Home) -> None:
    """Fails: a person who opens the first warehouse finds columns without a comment."""
    shipped = load_project()
    generate(sources, rows=20)
    run_engine(sources, site_at(home, 1, shipped))
    published = [row[0] for row in query(home.warehouse, "DESCRIBE merged_profiles")]
    meanings = {column.name: column.meaning for column in profiles_table(shipped.contract).columns}
    assert [name for name in published if not meanings.get(name)] == []
    assert {column.name for column in shipped.contract.profile} <= set(published)
