"""The lake against the local mode: the same rows, the same accounting, the same reuse."""

import shutil
from pathlib import Path

import pytest

from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.lake.delta import LakeTable
from etl_assets.engine.published import tables
from etl_assets.engine.published.lake_names import PROFILES_FOLDER
from etl_assets.engine.published.lake_versions import fetch_profiles, fetch_publication, lake_table
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import PROFILES_TABLE, damage, opened_whole, read_publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps.committing import commit_shards
from etl_assets_tests.factory import LIMITS, generate_sample, query, row, run_engine, site_at, write_exports
from etl_assets_tests.lake.conftest import site_in
from etl_assets_tests.lake.lake_runs import build_lake, run_lake, stage_lake, statuses

# What differs by nature: times, runs, files and how long things took.
_COMPARED = {
    "shard_manifest": "shard_id, shard_count, source_snapshots, source_data_hash, code_version, record_count, "
    "content_hash",
    "quarantine": "*",
    "source_snapshots": "*",
    "publication": "record_count, digest, shard_count, code_version, is_partial, missing_shards, duplicates_dropped",
    "source_overlap": "*",
    "publication_notices": "*",
    "publication_figures": "input_hash, code_version, kind, source, column_name, value, amount, total",
}


@pytest.fixture
def exports(sources: Path) -> Path:
    """Dirty exports of 600 customers."""
    generate_sample(sources, rows=600, seed=3, dirty=0.03)
    return sources


def rows_of(site: Site) -> list[tuple[object, ...]]:
    """The published profiles, as a reader on this machine gets them."""
    assert site.lake is not None
    version = fetch_publication(site.home, site.lake, site.contract)
    assert version is not None
    fetch_profiles(site.home, site.lake, version.files)
    with opened_whole(site.home, LIMITS) as connection:
        return connection.execute(f"SELECT * FROM {PROFILES_TABLE} ORDER BY ALL").fetchall()


@pytest.mark.parametrize("shard_count", [1, 10])
def test_the_lake_publishes_the_rows_of_the_local_mode(
    url: str, exports: Path, tmp_path: Path, shard_count: int
) -> None:
    """Fails: a project that outgrows a machine gets other profiles, keys or digests."""
    local = site_at(Home(tmp_path / "local"), shard_count)
    published = run_engine(exports, local).publication
    site = site_in(url, tmp_path / "machine", shard_count)
    merged = run_lake(exports, site)
    assert merged.publication.digest == published.digest
    assert rows_of(site) == query(local.home.warehouse, f"SELECT * FROM {PROFILES_TABLE} ORDER BY ALL")
    assert damage(site.home, LIMITS) is None


def test_every_table_says_what_it_says_in_the_local_mode(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: accounting, overlap, notices or figures get lost on the way to the lake."""
    local, site = site_at(Home(tmp_path / "local")), site_in(url, tmp_path / "machine")
    here = run_engine(exports, local)
    there = run_lake(exports, site)
    for table, columns in _COMPARED.items():
        statement = f"SELECT {columns} FROM {table} ORDER BY ALL"
        assert query(site.home.warehouse, statement) == query(local.home.warehouse, statement), table
    assert (there.value_counts, there.means) == (here.value_counts, here.means)
    assert there.quarantined_count == here.quarantined_count
    assert set(_COMPARED) | {"merged_profiles", "shard_attempts", "merged_files"} == set(tables.table_names())


def test_a_machine_without_anything_fetches_what_it_builds_and_what_it_reads(
    url: str, exports: Path, tmp_path: Path
) -> None:
    """Fails: a shard can be built only where its sources were staged."""
    first = site_in(url, tmp_path / "first")
    stage_lake(exports, first)
    shutil.rmtree(tmp_path / "first")
    workers = [site_in(url, tmp_path / name) for name in ("second", "third", "fourth")]
    for worker, shard_id in zip(workers, first.shard_ids, strict=True):
        assert statuses(build_lake(worker, [shard_id])) == {shard_id: Status.SUCCEEDED}
        slices = [path.name for path in worker.home.staged.glob("*/*/shard_*.parquet")]
        assert set(slices) == {f"{shard_id}.parquet"}, "other shards' rows were fetched, too"
    driver = site_in(url, tmp_path / "driver")
    merged = commit_shards(driver, LIMITS, run_id="run")
    assert merged.publication.digest == run_engine(exports, site_at(Home(tmp_path / "local"))).publication.digest
    assert not list(driver.home.shards.glob("*.parquet")), "the merge has read rows"
    assert len(rows_of(site_in(url, tmp_path / "reader"))) == merged.publication.record_count


def test_unchanged_work_is_not_done_again_on_any_machine(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: every run costs as much as the first."""
    site = site_in(url, tmp_path / "first")
    run_lake(exports, site)
    version = lake_table(site).current()
    other = site_in(url, tmp_path / "second")
    stage_lake(exports, other)
    assert set(statuses(build_lake(other)).values()) == {Status.REUSED}
    assert lake_table(site).current() == version


def test_a_changed_record_replaces_the_file_of_its_shard_and_no_other(url: str, sources: Path, tmp_path: Path) -> None:
    """Fails: the cost of a day's changes grows with all that did not change."""
    rows = [row(f"C{number}") for number in range(60)]
    write_exports(sources, crm=rows)
    site = site_in(url, tmp_path / "machine", 10)
    run_lake(sources, site)
    before = lake_table(site).current()
    rows[0] = row("C0", company_name="Other")
    write_exports(sources, crm=rows)
    merged = run_lake(sources, site, run_id="second")
    now = lake_table(site).current()
    assert before is not None
    assert now is not None
    assert len(before.files.keys() & now.files.keys()) == 9
    assert now.number == before.number + 1
    local = run_engine(sources, site_at(Home(tmp_path / "local"), 10))
    assert merged.publication.digest == local.publication.digest
    # And back again: nothing is built, and the files of the first version are named again.
    rows[0] = row("C0")
    write_exports(sources, crm=rows)
    stage_lake(sources, site)
    assert set(statuses(build_lake(site)).values()) == {Status.REUSED}
    commit_shards(site, LIMITS, run_id="third")
    again = lake_table(site).current()
    assert again is not None
    assert again.files == before.files


def test_the_table_is_read_without_this_package(url: str, exports: Path, tmp_path: Path) -> None:
    """Fails: the version that a reader sees is not the publication."""
    site = site_in(url, tmp_path / "machine")
    merged = run_lake(exports, site)
    assert site.lake is not None
    version = LakeTable(site.lake, PROFILES_FOLDER).current()
    assert version is not None
    publication = read_publication(site.home)
    assert publication is not None
    assert (publication.digest, publication.set_hash) == (merged.publication.digest, merged.publication.set_hash)
    with duck.reader() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(version.files) == 3
