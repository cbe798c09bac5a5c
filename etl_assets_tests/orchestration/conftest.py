"""The tests' project on an ephemeral instance, with six customers in four exports."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets_tests.dagster_runs import CodeLocation, settings_for
from etl_assets_tests.factory import row, write_exports


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """A Dagster instance in memory."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture
def location(sources: Path, home: Home, instance: dg.DagsterInstance) -> CodeLocation:
    """Exports with customers a to f, a rejected row each in crm and billing, nothing staged yet."""
    write_exports(
        sources,
        crm=[row(name) for name in "abcdef"] + [row("", email="lost@x.example")],
        billing=[row(name) for name in "abc"] + [row("d", mrr="many")],
        product=[row(name) for name in "def"],
        support=[row("a"), row("a", nps_score="3")],
    )
    return CodeLocation(settings_for(sources, home), instance)
