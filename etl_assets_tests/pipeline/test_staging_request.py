"""What staging is asked for."""

from pathlib import Path

from etl_assets.engine.steps.shrinking import ShrinkLimit
from etl_assets.pipeline.configuration import site_of, staging_request
from etl_assets.project.settings import Settings
from etl_assets_tests.factory import PROJECT


def test_staging_is_asked_for_what_the_settings_say(tmp_path: Path) -> None:
    """Fails: a share of rejects or a limit that a user sets has no effect."""
    settings = Settings(
        sources=tmp_path,
        max_reject_ratio=0.5,
        max_unpacked=128,
        source_timeout_s=7,
        workers=64,
        max_superseded_ratio=0.3,
        min_rows_ratio=0.2,
    )
    site = site_of(PROJECT, settings)
    request = staging_request(site, settings)
    assert request.site is site
    assert (request.exports, request.max_reject_ratio, request.max_unpacked_mb) == (tmp_path, 0.5, 128)
    assert request.timeout_s == 7
    assert (request.max_superseded_ratio, request.shrink) == (0.3, ShrinkLimit(0.2))
    assert staging_request(site, settings, accept_shrunk=True).shrink == ShrinkLimit(0.2, is_accepted=True)
    # Never less than DuckDB can work with.
    assert (request.limits.memory_mb, request.limits.threads) == (64, 1)
