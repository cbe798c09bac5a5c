"""Building a shard: what its file and its manifest hold, and that no shard of overtaken sources is ever published."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.holding import held
from etl_assets.engine.published.shards import read_shard
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.site import Site
from etl_assets.errors import ConfigError, SourceChangedError
from etl_assets_tests import factory
from etl_assets_tests.engine.three_shards import (
    IN_0,
    IN_1,
    SHARD_COUNT,
    build,
    leftovers,
    manifest_of,
    obstacle,
    restage,
    write_exports,
)

# What a shard holds.


def test_the_manifest_says_exactly_what_the_shard_was_made_from(built: Site) -> None:
    before = datetime.now(UTC)
    returned = build(built, "shard_00", run_id="run-7", attempt=2)
    snapshots = current_snapshots(built)
    state = read_shard(built.home, "shard_00")
    assert (state.shard_id, state.manifest, state.obstacle) == ("shard_00", returned, None)
    assert returned.shard_id == "shard_00"
    assert returned.shard_count == SHARD_COUNT
    assert returned.source_snapshots == {name: snapshots[name].id for name in snapshots}
    assert json.loads(returned.source_snapshots_json) == returned.source_snapshots
    assert returned.source_data_hash == factory.input_of(built, "shard_00").source_data_hash
    assert returned.code_version == built.profile_version
    assert returned.record_count == len(IN_0)
    assert returned.content_hash.startswith(f"{len(IN_0)}-")
    assert returned.size_bytes == built.home.shard_file("shard_00").stat().st_size
    assert (returned.run_id, returned.attempt) == ("run-7", 2)
    assert before <= returned.started_at <= returned.ended_at <= datetime.now(UTC)
    duration_ms = (returned.ended_at - returned.started_at) / timedelta(milliseconds=1)
    assert 0 <= returned.open_ms + returned.build_ms <= returned.elapsed_ms <= duration_ms + 1


def test_the_file_holds_the_profiles_and_nothing_else(built: Site) -> None:
    path = built.home.shard_file("shard_00")
    assert factory.query(path, "SELECT table_name FROM duckdb_tables()") == [("profiles",)]
    assert factory.query(path, "SELECT customer_id, shard_id FROM profiles ORDER BY 1") == [
        (customer_id, "shard_00") for customer_id in sorted(IN_0)
    ]


def test_the_columns_are_those_of_the_projects_query_in_its_order(built: Site) -> None:
    columns = [row[0] for row in factory.query(built.home.shard_file("shard_00"), "DESCRIBE profiles")]
    assert columns[:3] == ["customer_id", "email", "company_name"]
    assert columns[-3:] == ["sources", "shard_id", "idempotency_key"]
    assert not [name for name in columns if name.startswith("_")]


def test_shard_files_can_be_read_by_duckdb_1_5(built: Site) -> None:
    """People open shard files with DBeaver and older drivers; those cannot read DuckDB 2's own format."""
    path = built.home.shard_file("shard_00")
    tags = factory.query(path, "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'opened'")
    assert tags == [("v1.5.0+",)]


def test_a_customer_of_one_source_has_nulls_for_the_others(built: Site) -> None:
    only_billing, only_support = IN_1
    columns = "sources, email, company_name, mrr, usage_pct, nps_score, health_score"
    rows = factory.query(
        built.home.shard_file("shard_01"),
        f"SELECT customer_id, {columns} FROM profiles ORDER BY list_position(?, customer_id)",
        [IN_1],
    )
    assert rows == [
        (only_billing, ["billing"], "billing@x.example", None, 29.0, None, None, 70),
        (only_support, ["support"], "ada@alpine.example", None, None, None, 2, 40),
    ]


def test_a_shard_without_customers_is_a_shard_like_any_other(built: Site) -> None:
    """Few customers and many shards leave some empty; the merge must not wait for them for ever."""
    manifest = manifest_of(built, "shard_02")
    assert manifest.record_count == 0
    assert factory.query(built.home.shard_file("shard_02"), "SELECT * FROM profiles") == []
    assert obstacle(built, "shard_02") is None
    assert factory.verify_shard(built.home, manifest) is None


def test_the_same_input_gives_the_same_rows_and_content_hash(built: Site) -> None:
    rows = factory.query(built.home.shard_file("shard_00"), "SELECT * FROM profiles ORDER BY customer_id")
    first = manifest_of(built, "shard_00")
    second = build(built, "shard_00", run_id="another", attempt=3)
    assert factory.query(built.home.shard_file("shard_00"), "SELECT * FROM profiles ORDER BY customer_id") == rows
    assert (second.content_hash, second.source_data_hash) == (first.content_hash, first.source_data_hash)
    assert (second.run_id, second.attempt) == ("another", 3)


def test_a_small_shard_takes_little_of_the_disk(built: Site) -> None:
    """Fails: a thousand shards of a few hundred customers take half a gigabyte."""
    assert manifest_of(built, "shard_00").size_bytes < 200_000


def test_building_leaves_no_temporary_file(built: Site) -> None:
    build(built, "shard_00")
    assert leftovers(built) == []


# Input.


def test_a_changed_record_changes_the_input_of_its_shard_and_of_no_other(built: Site, tmp_path: Path) -> None:
    """Otherwise one new customer would rebuild every shard."""
    before = {name: factory.input_of(built, name).source_data_hash for name in built.shard_ids}
    restage(built, write_exports(tmp_path / "changed", usage_pct="66"))
    after = {name: factory.input_of(built, name).source_data_hash for name in built.shard_ids}
    assert [name for name in before if before[name] != after[name]] == ["shard_00"]
    assert {name: str(obstacle(built, name)) for name in before} == {
        "shard_00": "built from other source data",
        "shard_01": "None",
        "shard_02": "None",
    }


def test_other_bytes_with_the_same_rows_leave_every_shard_current(built: Site, tmp_path: Path) -> None:
    """An export that was only sorted again, or saved with a byte order mark, is no reason to build anything."""
    folder = write_exports(tmp_path / "saved_again")
    for path in folder.iterdir():
        header, *lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"\xef\xbb\xbf" + header + b"".join(reversed(lines)))
    old = current_snapshots(built)
    restage(built, folder)
    new = current_snapshots(built)
    assert all(new[name].id != old[name].id for name in old)
    assert [obstacle(built, name) for name in built.shard_ids] == [None] * SHARD_COUNT


def test_a_shard_of_sources_that_are_not_staged_names_them(site: Site, sources: Path) -> None:
    restage(site, write_exports(sources), ["crm", "support"])
    with pytest.raises(ConfigError, match="billing, product not staged for 3 shards"):
        factory.input_of(site, "shard_00")


def test_slices_of_another_number_of_shards_are_not_used(built: Site) -> None:
    with pytest.raises(ConfigError, match="not staged for 4 shards"):
        factory.input_of(factory.site_at(built.home, 4), "shard_00")


@pytest.mark.parametrize("changed", ["crm", "support"])
def test_a_shard_whose_sources_change_while_it_is_built_is_not_published(
    built: Site, tmp_path: Path, changed: str
) -> None:
    """A slow attempt that ended after a newer one would otherwise put the old records back."""
    given = factory.input_of(built, "shard_00")
    with held(built.home, given.snapshots.values()):
        restage(built, write_exports(tmp_path / "changed", email="new@x.example"), [changed])
        before = _files_of(built.home)
        with pytest.raises(SourceChangedError, match="shard_00"):
            factory.build_shard(built, given, run_id="late")
    assert _files_of(built.home) == before
    assert leftovers(built) == []


def test_a_first_build_whose_sources_change_publishes_nothing(built: Site, tmp_path: Path) -> None:
    given = factory.input_of(built, "shard_00")
    built.home.shard_file("shard_00").unlink()
    built.home.manifest("shard_00").unlink()
    with held(built.home, given.snapshots.values()):
        restage(built, write_exports(tmp_path / "changed", email="new@x.example"))
        before = _files_of(built.home)
        with pytest.raises(SourceChangedError):
            factory.build_shard(built, given, run_id="late")
    assert _files_of(built.home) == before
    assert leftovers(built) == []


def test_a_shard_is_built_from_the_snapshots_it_was_given(built: Site, tmp_path: Path) -> None:
    """Fails: rows of two exports stand side by side in one shard."""
    given = factory.input_of(built, "shard_00")
    other = restaged = factory.site_at(Home(tmp_path / "other"))
    restage(restaged, write_exports(tmp_path / "changed", email="new@x.example"))
    assert factory.input_of(other, "shard_00").source_data_hash != given.source_data_hash
    assert factory.reusable(built, given) == manifest_of(built, "shard_00")
    assert factory.reusable(built, factory.input_of(other, "shard_00")) is None


def _files_of(home: Home) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in home.shards.iterdir()}
