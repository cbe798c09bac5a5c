"""Fixtures of the tests of steps."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.published.shards import Manifest
from etl_assets.engine.site import Site
from etl_assets.engine.steps import shard_rows
from etl_assets_tests.engine.steps import twelve_customers
from etl_assets_tests.engine.steps.twelve_customers import MANY, SHARD_COUNT


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let an hour pass: files that were just written are then settled."""
    clock = {"offset_s": 0}
    real_ns, real_s = time.time_ns, time.time
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + clock["offset_s"] * 10**9)
    monkeypatch.setattr(time, "time", lambda: real_s() + clock["offset_s"])

    def pass_it() -> None:
        clock["offset_s"] += 3601

    return pass_it


@pytest.fixture(scope="session")
def few_shards_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exports and the warehouse of three shards; tests work on copies of it."""
    root = tmp_path_factory.mktemp("merge")
    twelve_customers.make(root, SHARD_COUNT)
    return root


@pytest.fixture
def published(few_shards_made: Path, tmp_path: Path) -> Site:
    """A site with three shards and the warehouse made from them."""
    return twelve_customers.copied(few_shards_made, tmp_path / "home", SHARD_COUNT)


@pytest.fixture(scope="session")
def many_shards_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exports and the warehouse of eight shards; tests work on copies of it."""
    root = tmp_path_factory.mktemp("many")
    twelve_customers.make(root, MANY)
    return root


@pytest.fixture
def many(many_shards_made: Path, tmp_path: Path) -> Site:
    """A site whose warehouse was merged from its very files, so that it may be a base."""
    site = twelve_customers.copied(many_shards_made, tmp_path / "home", MANY)
    twelve_customers.merge(site, run_id="first")
    return site


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The shards whose files each merge has read."""
    found: list[list[str]] = []
    copy_shards = shard_rows.copy_shards

    def copying(
        site: Site, connection: duckdb.DuckDBPyConnection, manifests: Sequence[Manifest], *, append: bool
    ) -> None:
        found.append([manifest.shard_id for manifest in manifests])
        copy_shards(site, connection, manifests, append=append)

    monkeypatch.setattr(shard_rows, "copy_shards", copying)
    return found
