"""Fixtures of the engine's tests."""

import shutil
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets_tests.engine import three_shards
from etl_assets_tests.factory import site_at


@pytest.fixture(scope="session")
def three_shards_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exports, staged, every shard built; tests work on copies of it."""
    root = tmp_path_factory.mktemp("shards")
    three_shards.make(root)
    return root


@pytest.fixture
def built(three_shards_made: Path, tmp_path: Path) -> Site:
    """A site with every shard of `three_shards` built."""
    shutil.copytree(three_shards_made / "home", tmp_path / "home")
    return site_at(Home(tmp_path / "home"), three_shards.SHARD_COUNT)
