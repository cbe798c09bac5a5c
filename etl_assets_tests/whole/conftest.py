"""Fixtures of the tests in real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets_tests.whole.sites import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A published first generation."""
    made = Site(tmp_path)
    try:
        made.publish("first")
        yield made
    finally:
        made.close()
