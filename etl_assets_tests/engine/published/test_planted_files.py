"""Database files from elsewhere, such as the `data/` of a bug report: they are read, their SQL is not run."""

import http.server
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import preview, warehouse
from etl_assets.engine.published.shards import Unfit, inspect_shards, verify_shards
from etl_assets.engine.site import Site
from etl_assets.engine.steps.keeping import shards_to_keep
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.errors import ShardSetError
from etl_assets_tests import factory
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.engine.three_shards import change_manifest, manifest_of

CANARY = "hunter2-canary"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    customers = [factory.row(f"cust_{number}") for number in range(5)]
    factory.write_exports(folder / "sources", crm=customers, billing=customers, product=customers, support=customers)
    factory.run_engine(folder / "sources", factory.site_at(Home(folder / "home"), 2))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A published home with exports, and a secret beside it and one in it."""
    found = Path(shutil.copytree(made, tmp_path / "received"))
    for place in (found, found / "home", found / "home/shards"):
        (place / "secret").write_text(CANARY)
    return found


@pytest.fixture
def site(folder: Path) -> Site:
    return factory.site_at(Home(folder / "home"), 2)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """A web server on this machine, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def do_HEAD(self) -> None:
            self.do_GET()

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_address[1]}/secret", asked
        found.shutdown()
        thread.join()


def _plant(path: Path, table: str, column: str, source: str) -> None:
    """Make a view of a published table, in which a column is what a file holds."""
    read = "(SELECT content FROM read_text(place()))"
    factory.alter(
        path,
        # DuckDB looks for the file when the view is made, and again whenever it is used.
        "CREATE OR REPLACE MACRO place() AS '/dev/null'",
        f"ALTER TABLE {table} RENAME TO real_{table}",
        f"CREATE VIEW {table} AS SELECT * REPLACE ({read} AS {column}) FROM real_{table}",
        f"CREATE OR REPLACE MACRO place() AS '{source}'",
    )


_SECRETS = ("secret", "home/secret", "home/shards/secret")


@pytest.mark.parametrize("secret", _SECRETS)
def test_a_view_in_the_place_of_the_publication_is_not_evaluated(site: Site, folder: Path, secret: str) -> None:
    """Fails: `status` shows any file of this user as the digest of what is published."""
    _plant(site.home.warehouse, "publication", "digest", f"{folder}/{secret}")
    assert warehouse.read_publication(site.home) is None
    assert warehouse.damage(site.home, factory.LIMITS) == "it cannot be read"


@pytest.mark.parametrize("secret", _SECRETS)
def test_no_view_in_a_warehouse_is_shown_or_kept(site: Site, folder: Path, secret: str) -> None:
    """Fails: the Dagster UI shows any file of this user in a preview, or a merge publishes it."""
    source = f"{folder}/{secret}"
    for table, column in (("shard_manifest", "run_id"), ("shard_attempts", "run_id"), ("merged_profiles", "email")):
        _plant(site.home.warehouse, table, column, source)
    with pytest.raises(Exception, match="it has no table shard_manifest"):
        preview.shard_timings(site.home, 5)
    with pytest.raises(Exception, match="it has no table shard_attempts"):
        warehouse.listed_attempts(site.home)
    with (
        preview.glancing(site.contract, site.home.root) as glance,
        pytest.raises(Exception, match="it has no table merged_profiles"),
    ):
        glance(site.home.warehouse, "merged_profiles", 5)
    assert "it has no table" in str(warehouse.damage(site.home, factory.LIMITS))
    assert shards_to_keep(site, inspect_shards(site)) == frozenset()
    merge_shards(site, factory.LIMITS, run_id="again")
    assert CANARY.encode() not in site.home.warehouse.read_bytes()
    assert warehouse.damage(site.home, factory.LIMITS) is None


@pytest.mark.parametrize("secret", _SECRETS)
def test_a_view_in_the_place_of_a_shards_profiles_is_damage(site: Site, folder: Path, secret: str) -> None:
    """Fails: what a view reads from this machine ends in the warehouse."""
    path = site.home.shard_file("shard_00")
    _plant(path, "profiles", "email", f"{folder}/{secret}")
    change_manifest(site, "shard_00", size_bytes=path.stat().st_size)
    assert inspect_shards(site).obstacles == {}
    found = verify_shards(site.home, [manifest_of(site, "shard_00")])["shard_00"]
    assert found.kind is Unfit.DAMAGED
    assert "it has no table profiles" in str(found)
    assert CANARY not in str(found)
    with pytest.raises(ShardSetError) as refused:
        merge_shards(site, factory.LIMITS, run_id="again")
    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("query", "FROM publication")])
@pytest.mark.parametrize("place", ["file", "network"])
def test_no_command_runs_what_is_planted_or_asks_the_network(
    site: Site, folder: Path, server: tuple[str, list[str]], arguments: tuple[str, ...], place: str
) -> None:
    """Fails: looking at a received folder reads this user's files, fetches an extension, and can send what it read."""
    url, asked = server
    _plant(site.home.warehouse, "publication", "digest", url if place == "network" else f"{folder}/secret")
    (folder / "user").mkdir()
    done = subprocess.run(
        command(*arguments),
        env=environment(
            ETL_SOURCES=str(folder / "sources"),
            ETL_HOME=str(site.home.root),
            ETL_NUM_SHARDS="2",
            HOME=str(folder / "user"),
        ),
        cwd=folder / "user",
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert CANARY not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 1, 2)
    assert asked == []
    # DuckDB makes its folder of extensions here.
    assert list((folder / "user").iterdir()) == []
