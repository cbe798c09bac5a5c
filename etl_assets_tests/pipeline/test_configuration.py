"""Settings to what the engine is given."""

import shutil
from pathlib import Path

import pytest

from etl_assets.engine import faults
from etl_assets.engine.files.layout import Home
from etl_assets.errors import ConfigError
from etl_assets.pipeline.configuration import (
    arm_faults,
    merge_limits,
    project_of,
    run_limits,
    site_of,
    staging_request,
)
from etl_assets.project.loading import shipped_folder
from etl_assets_tests.dagster_runs import settings_for
from etl_assets_tests.factory import PROJECT, PROJECT_FOLDER


def test_a_site_is_the_project_where_the_settings_say(sources: Path, home: Home) -> None:
    site = site_of(PROJECT, settings_for(sources, home, 7))
    assert (site.project, site.home, site.shard_count) == (PROJECT, home, 7)


def test_what_works_at_once_stays_within_the_limit_together(sources: Path, home: Home) -> None:
    """Fails: with four workers a run takes four times what ETL_MEMORY_LIMIT allows."""
    settings = settings_for(sources, home, workers=4, memory_limit=1024)
    whole = run_limits(settings)
    each = staging_request(site_of(PROJECT, settings), settings).limits
    assert (whole.memory_mb, whole.threads) == (1024, 4)
    assert (each.memory_mb, each.threads) == (256, 1)
    # One of them that is stopped stops all.
    assert each.stop is not whole.stop


@pytest.mark.parametrize(("memory_mb", "workers", "expected_mb"), [(3000, 2, 1000), (700, 2, 300), (200, 8, 200)])
def test_the_merge_takes_what_helps_it_and_never_more_than_the_limit(
    sources: Path, home: Home, memory_mb: int, workers: int, expected_mb: int
) -> None:
    limits = merge_limits(settings_for(sources, home, memory_limit=memory_mb, workers=workers))
    assert (limits.memory_mb, limits.threads) == (expected_mb, workers)


def test_faults_are_armed_by_whom_asks_for_it_only(sources: Path, home: Home, request: pytest.FixtureRequest) -> None:
    """Fails: reading the settings of a drill breaks the process that reads them."""
    request.addfinalizer(lambda: faults.arm("", "", is_production=False, shard_count=1))
    settings = settings_for(sources, home, fault="sweep raise")
    faults.point("sweep")
    arm_faults(settings)
    with pytest.raises(OSError, match="injected fault at sweep"):
        faults.point("sweep")


def test_in_production_no_fault_is_armed(sources: Path, home: Home) -> None:
    with pytest.raises(ConfigError, match="faults are for drills only"):
        arm_faults(settings_for(sources, home, fault="sweep raise", env="production"))
    with pytest.raises(ConfigError, match="there are 3 shards"):
        arm_faults(settings_for(sources, home, CHAOS_FAIL_SHARD="7"))
    faults.point("sweep")


def test_the_nearest_project_upwards_is_used_when_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sources: Path, home: Home
) -> None:
    """Fails: in a project's folder `etl-assets run` builds the shipped project instead."""
    mine = tmp_path / "mine"
    shutil.copytree(PROJECT_FOLDER, mine)
    (mine / "sql" / "deep").mkdir()
    settings = settings_for(sources, home)
    monkeypatch.chdir(mine / "sql" / "deep")
    assert project_of(settings).folder == PROJECT_FOLDER
    assert project_of(settings.model_copy(update={"project": None})).folder == mine
    monkeypatch.chdir(sources)
    assert project_of(settings.model_copy(update={"project": None})).folder == shipped_folder()
