"""Fixtures every room shares."""

from pathlib import Path

import pytest

from etl_assets.engine.files.publishing import Home


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
