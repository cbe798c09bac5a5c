"""Exports of twelve customers with a few bad rows, and the warehouse made from them, for the tests of the merge."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

from etl_assets.engine.files.layout import Home
from etl_assets.engine.routing import route
from etl_assets.engine.site import Site
from etl_assets.engine.steps.merge import Merged, merge_shards
from etl_assets_tests import factory

SHARD_COUNT = 3
MANY = 8
IDS = [f"cust_{number}" for number in range(12)]


def write_sources(folder: Path, **changes: str) -> Path:
    """The exports: twelve customers, three bad rows; `changes` go to the first customer's CRM row."""
    rows = [factory.row(customer_id) for customer_id in IDS]
    return factory.write_exports(
        folder,
        crm=[factory.row(IDS[0], **changes), *rows[1:10]],
        billing=[*rows[2:], factory.row("")],
        product=[*rows, factory.row(IDS[3], usage_pct="20"), factory.row("bad", usage_pct="101")],
        support=rows[:6],
    )


def make(root: Path, shard_count: int) -> None:
    """Write the exports and publish the warehouse of `root/home`."""
    site = factory.site_at(Home(root / "home"), shard_count)
    factory.run_engine(write_sources(root / "sources"), site, run_id="first")


def copied(template: Path, target: Path, shard_count: int) -> Site:
    """A site whose home is a copy of the template's."""
    shutil.copytree(template / "home", target)
    return factory.site_at(Home(target), shard_count)


def merge(site: Site, *, run_id: str = "second", allow_partial: bool = False, keep_count: int = 0) -> Merged:
    """Merge what is published."""
    return merge_shards(site, factory.LIMITS, run_id=run_id, allow_partial=allow_partial, keep_count=keep_count)


def build(site: Site, *shard_ids: str, run_id: str = "again") -> None:
    """Build these shards from the current snapshots."""
    for shard_id in shard_ids:
        factory.build_shard(site, factory.input_of(site, shard_id), run_id=run_id)


def restage(site: Site, folder: Path, **changes: str) -> None:
    """Stage the exports again with other cells of the first customer's CRM row."""
    factory.stage_all(factory.staging_request(write_sources(folder, **changes), site))


def shard_of(site: Site, customer_id: str) -> str:
    """The shard of a customer."""
    return site.shard_ids[route(customer_id, site.shard_count)]


def ids_in(site: Site, shard_id: str) -> list[str]:
    """The customers of a shard."""
    return [customer_id for customer_id in IDS if shard_of(site, customer_id) == shard_id]


def change_manifest(site: Site, shard_id: str, **changes: object) -> None:
    """Write another manifest beside a shard, as no part of the pipeline does."""
    path = site.home.manifest(shard_id)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def leftovers(site: Site) -> list[str]:
    """Unpublished files in the home."""
    paths = site.home.root.rglob("*")
    return [str(path) for path in paths if path.name.startswith(".tmp-") or path.suffix == ".wal"]


def without_times(merged: Merged) -> Merged:
    """The result of a merge without what depends on when and on which file it was made."""
    publication = replace(merged.publication, published_at=merged.publication.published_at.min)
    return replace(merged, publication=publication, elapsed_ms=0, size_bytes=0)
