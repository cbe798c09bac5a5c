"""Settings as the engine is given them: the site, and what each kind of work may use."""

from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.pipeline.configuration import merge_limits, run_limits, site_of, staging_request
from etl_assets.project.settings import Settings
from etl_assets_tests.factory import PROJECT


def test_the_site_is_the_project_where_the_settings_say(tmp_path: Path) -> None:
    site = site_of(PROJECT, Settings(home=tmp_path, num_shards=5))
    assert (site.project, site.home, site.shard_count) == (PROJECT, Home(tmp_path), 5)
    assert site.shard_ids == ("shard_00", "shard_01", "shard_02", "shard_03", "shard_04")


@pytest.mark.parametrize(("workers", "memory_mb"), [(1, 700), (4, 175), (64, 64)])
def test_the_workers_share_the_memory(workers: int, memory_mb: int) -> None:
    """Fails: as many workers as there are cores take as many times the memory that was allowed."""
    settings = Settings(workers=workers)
    limits = staging_request(site_of(PROJECT, settings), settings).limits
    assert (limits.memory_mb, limits.threads) == (memory_mb, 1)
    assert (run_limits(settings).memory_mb, run_limits(settings).threads) == (700, workers)


@pytest.mark.parametrize(
    ("allowed_mb", "workers", "memory_mb"), [(2048, 4, 682), (700, 2, 300), (700, 4, 600), (256, 8, 256)]
)
def test_the_merge_takes_what_its_threads_need_and_no_more_than_is_allowed(
    allowed_mb: int, workers: int, memory_mb: int
) -> None:
    """Fails: it fills its memory with pages that are read once, or one thread does the work of all."""
    limits = merge_limits(Settings(workers=workers, memory_limit=allowed_mb))
    assert (limits.memory_mb, limits.threads) == (memory_mb, workers)


def test_staging_is_asked_for_what_the_settings_say(tmp_path: Path) -> None:
    settings = Settings(sources=tmp_path, max_reject_ratio=0.5, max_unpacked=128)
    site = site_of(PROJECT, settings)
    request = staging_request(site, settings)
    assert request.site is site
    assert (request.exports, request.max_reject_ratio, request.max_unpacked_mb) == (tmp_path, 0.5, 128)
