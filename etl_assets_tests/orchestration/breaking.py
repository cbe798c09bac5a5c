"""Shards whose builds fail on purpose, at the place where the engine's steps call them."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from etl_assets.engine.published.shards import Manifest, ShardInput
from etl_assets.engine.site import Site
from etl_assets.engine.steps import build_many
from etl_assets.engine.steps.build import build_shard

ALWAYS = 99
DISK_ERROR = OSError(5, "the disk said no")


def break_shards(monkeypatch: pytest.MonkeyPatch, error: Exception, broken: Mapping[str, int]) -> Counter[str]:
    """Make the first so many builds of these shards fail; returns the count of builds by shard."""
    builds = Counter[str]()

    def breaking(site: Site, given: ShardInput, *args: Any, **options: Any) -> Manifest:
        builds[given.shard_id] += 1
        if builds[given.shard_id] <= broken.get(given.shard_id, 0):
            raise error
        return build_shard(site, given, *args, **options)

    monkeypatch.setattr(build_many, "build_shard", breaking)
    return builds


def count_builds(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The count of builds by shard; none fails."""
    return break_shards(monkeypatch, OSError(), {})
