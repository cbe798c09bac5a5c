"""The state of what is published, wherever it lies: under ETL_HOME, or in a lake, whose documents are fetched first."""

from collections.abc import Sequence

from etl_assets.engine.published.lake_shards import inspect_lake, inspect_unstaged, lake_stamp
from etl_assets.engine.published.lake_versions import fetch_publication, lake_table
from etl_assets.engine.published.mirroring import fetch_attempts, fetch_sources
from etl_assets.engine.published.shards import (
    Manifest,
    Obstacle,
    ShardSet,
    ShardState,
    inspect_shards,
    published_stamp,
    read_shards,
    verify_shards,
)
from etl_assets.engine.site import Site
from etl_assets.errors import ConfigError


def fetch_state(site: Site) -> None:
    """Make the scratch of a lake agree with it: pointers, accounting, attempts, the last publication. Reads no row."""
    if site.lake is not None:
        fetch_publication(site.home, site.lake, site.contract)
        fetch_sources(site)
        fetch_attempts(site)


def inspect(site: Site) -> ShardSet:
    """Compare every shard with the current sources; ConfigError when a source is not staged."""
    return inspect_shards(site) if site.lake is None else inspect_lake(site)


def inspect_all(site: Site) -> ShardSet:
    """As `inspect`; without staged sources there is nothing to compare the shards with."""
    try:
        return inspect(site)
    except ConfigError:
        if site.lake is not None:
            return inspect_unstaged(site)
        states = tuple(read_shards(site.home, site.shard_ids))
        return ShardSet({}, states, {state.shard_id: state.obstacle for state in states if state.obstacle})


def read_states(site: Site, shard_ids: Sequence[str]) -> list[ShardState]:
    """The shards with their manifests."""
    if site.lake is None:
        return read_shards(site.home, shard_ids)
    wanted = set(shard_ids)
    return [state for state in inspect_all(site).states if state.shard_id in wanted]


def unsound(site: Site, manifests: list[Manifest]) -> dict[str, Obstacle]:
    """What is wrong with the files of these shards, which were inspected just now; a lake's are not read again."""
    return verify_shards(site.home, manifests) if site.lake is None else {}


def stamp_of(site: Site) -> str:
    """Changes whenever a shard, a source's snapshot or the result is published."""
    if site.lake is None:
        return published_stamp(site)
    now = lake_table(site).current()
    return lake_stamp(site, now.number if now else None)
