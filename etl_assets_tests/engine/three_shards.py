"""A home of three shards with few customers, for the tests of building, reading and verifying a shard."""

import json
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.shards import Manifest, Obstacle, read_shard, why_unfit
from etl_assets.engine.routing import route
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import stage
from etl_assets_tests import factory

SHARD_COUNT = 3
NAMES = tuple(source.name for source in factory.SOURCES)


def _ids_in(number: int, how_many: int) -> list[str]:
    """The first customers that belong to this shard."""
    return list(islice((name for n in count() if route(name := f"cust_{n}", SHARD_COUNT) == number), how_many))


# Shard 2 has no customer; the others have some that only one source has a record of.
IN_0, IN_1 = _ids_in(0, 3), _ids_in(1, 2)


def write_exports(folder: Path, **changes: str) -> Path:
    """The exports of these tests, with some cells of the first customer of shard 0 changed in every source."""
    first, second, third = IN_0
    rows = {name: [factory.row(first, **changes), factory.row(second)] for name in NAMES}
    rows["crm"].append(factory.row(third))
    rows["billing"].append(factory.row(IN_1[0], email="billing@x.example"))
    rows["support"].append(factory.row(IN_1[1], nps_score="2"))
    return factory.write_exports(folder, **rows)


def build(site: Site, shard_id: str, *, run_id: str = "run", attempt: int = 1) -> Manifest:
    """Build a shard from the current snapshots."""
    return factory.build_shard(site, factory.input_of(site, shard_id), run_id=run_id, attempt=attempt)


def restage(site: Site, folder: Path, names: Sequence[str] = NAMES) -> None:
    """Stage these sources from other exports."""
    request = factory.staging_request(folder, site)
    for name in names:
        stage(site.contract.source(name), request)


def make(root: Path) -> None:
    """Write the exports, stage them and build every shard; the home is `root/home`."""
    site = factory.site_at(Home(root / "home"), SHARD_COUNT)
    restage(site, write_exports(root / "sources"))
    for shard_id in site.shard_ids:
        build(site, shard_id)


def obstacle(site: Site, shard_id: str) -> Obstacle | None:
    """Why the shard may not be merged or reused now; None when it may."""
    return why_unfit(site, read_shard(site.home, shard_id), factory.input_of(site, shard_id))


def manifest_of(site: Site, shard_id: str) -> Manifest:
    """The manifest of a published shard."""
    manifest = read_shard(site.home, shard_id).manifest
    assert manifest is not None
    return manifest


def change_manifest(site: Site, shard_id: str, **changes: object) -> None:
    """Write another manifest beside a shard, as no part of the pipeline does."""
    path = site.home.manifest(shard_id)
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def leftovers(site: Site) -> list[str]:
    """Unpublished files in the home."""
    paths = site.home.root.rglob("*")
    return [str(path) for path in paths if path.name.startswith(".tmp-") or path.suffix == ".wal"]
