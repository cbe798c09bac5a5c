"""Fixtures every room shares."""

import os
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets_tests.factory import PROJECT_FOLDER, site_at

# The processes that tests start work on the tests' own project.
os.environ["ETL_PROJECT"] = str(PROJECT_FOLDER)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """An ETL_HOME that does not exist yet."""
    return Home(tmp_path / "home")


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """An ETL_SOURCES folder, empty."""
    folder = tmp_path / "sources"
    folder.mkdir()
    return folder


@pytest.fixture
def site(home: Home) -> Site:
    """The tests' project in that ETL_HOME, with three shards."""
    return site_at(home)
