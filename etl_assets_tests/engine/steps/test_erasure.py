"""What is deleted from the exports is gone, byte for byte, from all that is published with the next run."""

import csv
import random
import shutil
import string
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import kept_warehouses
from etl_assets.engine.routing import route
from etl_assets.engine.site import Site
from etl_assets.engine.steps.build_many import ShardResult, ShardsRequest, build_shards
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.errors import ShardSetError
from etl_assets_tests import factory

CUSTOMERS, SHARD_COUNT = 20_000, 10
# Random, so that no compression has a shorter form of it: its bytes are in the file as they are.
TOKEN = "".join(random.Random(7).choices(string.ascii_letters + string.digits, k=120))
_WINDOW = 6

Rows = list[dict[str, str]]


def _places(home: Home) -> set[str]:
    """The files that hold any part of the token, by their folder."""
    parts = {TOKEN[start : start + _WINDOW].encode() for start in range(len(TOKEN) - _WINDOW)}
    files = [path for path in home.root.rglob("*") if path.is_file() and "sources" not in path.parts]
    holding = [path for path in files if any(part in (content := path.read_bytes()) for part in parts) and content]
    return {path.relative_to(home.root).parts[0] for path in holding}


def _run(place: Path, site: Site, *, allow_partial: bool = False, keep_count: int = 0) -> str:
    """The whole engine as a run uses it; returns the digest."""
    factory.stage_all(factory.staging_request(place / "sources", site))
    news = list(build_shards(ShardsRequest(site, factory.LIMITS, "run", 1), site.shard_ids))
    assert [entry.error for entry in news if isinstance(entry, ShardResult)] == [None] * SHARD_COUNT
    return merge_shards(
        site, factory.LIMITS, run_id="run", allow_partial=allow_partial, keep_count=keep_count
    ).publication.digest


def _edit(place: Path, change: Callable[[Rows], Rows]) -> None:
    """Change the rows of every export."""
    for source in factory.SOURCES:
        path = place / "sources" / f"{source.name}.csv"
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        factory.write_csv(path, source, change(rows))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Exports in which one customer has the token for a name, and one row without a key has it too."""
    place = tmp_path_factory.mktemp("erasure")
    factory.generate_sample(place / "sources", rows=CUSTOMERS, seed=3)
    path = place / "sources" / "crm.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    header, cells = lines[0].split(","), dict(zip(lines[0].split(","), next(csv.reader([lines[500]])), strict=True))
    cells["company_name"] = cells["email"] = TOKEN
    factory.write_csv(path, factory.PROJECT.contract.source("crm"), [cells], header)
    erased = path.read_text(encoding="utf-8").splitlines()[1]
    path.write_text("\n".join([*lines[:500], erased, *lines[501:]]) + "\n", encoding="utf-8")
    return place


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture
def site(place: Path) -> Site:
    return factory.site_at(Home(place / "home"), SHARD_COUNT)


def _holds_token(row: Mapping[str, str]) -> bool:
    return TOKEN in row.values()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["removed", "blanked"])
def test_an_erased_customer_leaves_no_byte_in_what_is_published(place: Path, site: Site, how: str) -> None:
    """Fails: a customer who asked to be forgotten can be read in `warehouse.duckdb`, or in a slice, for ever."""
    _run(place, site)
    assert _places(site.home) == {"staged", "shards", "warehouse.duckdb"}
    keys = {row["customer_id"] for row in _rows(place) if _holds_token(row)}
    assert len(keys) == 1

    def erase(rows: Rows) -> Rows:
        if how == "removed":
            return [row for row in rows if row["customer_id"] not in keys]
        return [{name: "" if value == TOKEN else value for name, value in row.items()} for row in rows]

    _edit(place, erase)
    digest = _run(place, site)
    assert _places(site.home) == set()
    assert digest == _run(place, factory.site_at(Home(place / "fresh"), SHARD_COUNT))


@pytest.mark.slow
def test_a_kept_warehouse_holds_an_erased_customer_until_it_is_forgotten(place: Path, site: Site) -> None:
    """Fails: with warehouses kept, no command erases a customer; or a run with none to keep leaves older ones."""
    _run(place, site, keep_count=3)
    _edit(place, lambda rows: [row for row in rows if not _holds_token(row)])
    _run(place, site, keep_count=3)
    assert _places(site.home) == {"warehouses"}
    shutil.copytree(site.home.kept, place / "kept")
    assert len(kept_warehouses.forget(site.home, None)) == 1
    assert _places(site.home) == set()
    # ETL_KEEP_WAREHOUSES=0: the next merge removes what was kept before, too.
    shutil.copytree(place / "kept", site.home.kept, dirs_exist_ok=True)
    _run(place, site, keep_count=0)
    assert _places(site.home) == set()


def _rows(place: Path) -> Rows:
    with (place / "sources" / "crm.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_rejected_row_that_was_removed_leaves_no_byte(place: Path, site: Site) -> None:
    """Quarantine holds raw text. Fails: what was rejected once stays in the warehouse or among the staged files."""
    _edit(place, lambda rows: [{**row, "customer_id": ""} if _holds_token(row) else row for row in rows])
    _run(place, site)
    assert _places(site.home) == {"staged", "warehouse.duckdb"}
    _edit(place, lambda rows: [row for row in rows if not _holds_token(row)])
    _run(place, site)
    assert _places(site.home) == set()


@pytest.mark.slow
def test_an_erased_customer_is_gone_from_a_partial_publication_and_from_the_one_after(place: Path, site: Site) -> None:
    """Fails: the way over a partial publication keeps what a complete one would not."""
    _run(place, site)
    (key,) = {row["customer_id"] for row in _rows(place) if _holds_token(row)}
    erased = site.shard_ids[route(key, SHARD_COUNT)]
    other = next(name for name in site.shard_ids if name != erased)
    _edit(place, lambda rows: [row for row in rows if row["customer_id"] != key])
    factory.stage_all(factory.staging_request(place / "sources", site))
    with pytest.raises(ShardSetError, match=erased):
        merge_shards(site, factory.LIMITS, run_id="run")
    # Its shard is stale, so it is left out.
    merge_shards(site, factory.LIMITS, run_id="run", allow_partial=True)
    assert _places(site.home) == {"shards"}
    site.home.shard_file(other).unlink()
    _run(place, site)
    assert _places(site.home) == set()
