"""Fixtures of the tests in real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets_tests.whole.sandbox import Sandbox


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """A published first generation."""
    made = Sandbox(tmp_path)
    try:
        made.publish("first")
        yield made
    finally:
        made.close()
