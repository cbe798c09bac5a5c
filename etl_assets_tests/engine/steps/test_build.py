"""A shard's file: what it says of itself, when it may be used again, and that no other one is ever published."""

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, islice
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.routing import route, shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.build import Manifest, ShardInput
from etl_assets.errors import ConfigError, SourceChangedError
from etl_assets.project.contract import SOURCES, source_named
from etl_assets_tests import factory

_SHARDS = 3
_NAMES = [source.name for source in SOURCES]


def _ids_in(number: int, how_many: int) -> list[str]:
    """The first customers that belong to this shard."""
    return list(islice((name for n in count() if route(name := f"cust_{n}", _SHARDS) == number), how_many))


# Shard 2 has no customer; the others have some that only one source knows.
_IN_0, _IN_1 = _ids_in(0, 3), _ids_in(1, 2)


def _write_sources(folder: Path, **changes: str) -> Path:
    """The exports of these tests, with some cells of the first customer of shard 0 changed in every source."""
    first, second, third = _IN_0
    rows = {source.name: [factory.row(first, **changes), factory.row(second)] for source in SOURCES}
    rows["crm"].append(factory.row(third))
    rows["billing"].append(factory.row(_IN_1[0], email="billing@x.example"))
    rows["support"].append(factory.row(_IN_1[1], nps_score="2"))
    return factory.write_exports(folder, **rows)


def _build(home: Home, shard_id: str, *, run_id: str = "run", attempt: int = 1) -> Manifest:
    given = shard.shard_input(home, shard_id, _SHARDS)
    return factory.build_shard(home, given, run_id=run_id, attempt=attempt)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with exports, staged, every shard built; tests work on copies of it."""
    root = tmp_path_factory.mktemp("shards")
    home = Home(root / "home")
    factory.stage_all(factory.staging_request(_write_sources(root / "sources"), home, _SHARDS))
    for shard_id in shard_keys(_SHARDS):
        _build(home, shard_id)
    return root


@pytest.fixture
def built(template: Path, tmp_path: Path) -> Home:
    """A home with every shard built from `_write_sources`."""
    shutil.copytree(template / "home", tmp_path / "home")
    return Home(tmp_path / "home")


def _restage(home: Home, folder: Path, names: Sequence[str] = _NAMES) -> None:
    request = factory.staging_request(folder, home, _SHARDS)
    for name in names:
        staging.stage(source_named(name), request)


def _why_stale(home: Home, shard_id: str) -> str | None:
    return shard.why_stale(shard.read_shard(home, shard_id), shard.shard_input(home, shard_id, _SHARDS))


def _manifest(home: Home, shard_id: str) -> Manifest:
    manifest = shard.read_shard(home, shard_id).manifest
    assert manifest is not None
    return manifest


def _leftovers(home: Home) -> list[str]:
    return [str(path) for path in home.root.rglob("*") if path.name.startswith(".tmp-") or path.suffix == ".wal"]


# What a shard says of itself.


def test_each_of_many_shards_is_told_by_itself(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: one damaged file among those of a statement hides the others, or a manifest goes to another shard."""
    home = Home(shutil.copytree(template / "home", tmp_path / "a [home]*"))
    names = [*shard_keys(_SHARDS), "shard_03", "shard_04"]
    home.shard_file("shard_01").write_bytes(b"damaged" * 1000)
    shutil.copy(home.shard_file("shard_00"), home.shard_file("shard_04"))
    for files_a_statement in (1, 2, 64):
        monkeypatch.setattr(shard, "FILES_A_STATEMENT", files_a_statement)
        states = shard.read_shards(home, names)
        assert [state.shard_id for state in states] == names
        assert [state.manifest and state.manifest.shard_id for state in states] == [
            "shard_00",
            None,
            "shard_02",
            None,
            "shard_00",
        ]
        assert [state.problem and state.problem.split(" ")[0] for state in states] == [
            None,
            "damaged",
            None,
            "missing",
            None,
        ]


def test_the_manifest_says_exactly_what_the_shard_was_made_from(built: Home) -> None:
    before = datetime.now(UTC)
    returned = _build(built, "shard_00", run_id="run-7", attempt=2)
    snapshots = staging.current_snapshots(built, _SHARDS)
    assert shard.read_shard(built, "shard_00") == shard.ShardState("shard_00", returned, None)
    assert returned.shard_id == "shard_00"
    assert returned.shard_count == _SHARDS
    assert json.loads(returned.source_snapshots) == {name: snapshots[name].snapshot for name in snapshots}
    assert returned.source_data_hash == shard.shard_input(built, "shard_00", _SHARDS).source_data_hash
    assert returned.code_version == shard.code_version()
    assert returned.record_count == len(_IN_0)
    assert (returned.run_id, returned.attempt) == ("run-7", 2)
    assert before <= returned.started_at <= returned.ended_at <= datetime.now(UTC)
    duration_ms = (returned.ended_at - returned.started_at) / timedelta(milliseconds=1)
    assert 0 <= returned.read_ms + returned.write_ms <= returned.elapsed_ms <= duration_ms + 1


def test_the_file_holds_two_tables_and_one_manifest(built: Home) -> None:
    path = built.shard_file("shard_00")
    assert factory.query(path, "SELECT table_name FROM duckdb_tables() ORDER BY 1") == [("manifest",), ("profiles",)]
    assert factory.query(path, "SELECT count(*) FROM manifest") == [(1,)]
    assert factory.query(path, "SELECT customer_id, shard_id FROM profiles ORDER BY 1") == [
        (customer_id, "shard_00") for customer_id in sorted(_IN_0)
    ]


def test_shard_files_can_be_read_by_duckdb_1_5(built: Home) -> None:
    """People open shard files with DBeaver and older drivers; those cannot read DuckDB 2's own format."""
    path = built.shard_file("shard_00")
    tags = factory.query(path, "SELECT tags['storage_version'] FROM duckdb_databases() WHERE database_name = 'opened'")
    assert tags == [("v1.5.0+",)]


def test_a_customer_whom_one_source_knows_has_nulls_for_the_others(built: Home) -> None:
    only_billing, only_support = _IN_1
    columns = "sources, email, company_name, mrr, usage_pct, nps_score, health_score"
    rows = factory.query(
        built.shard_file("shard_01"),
        f"SELECT customer_id, {columns} FROM profiles ORDER BY list_position(?, customer_id)",
        [_IN_1],
    )
    assert rows == [
        (only_billing, ["billing"], "billing@x.example", None, 29.0, None, None, 70),
        (only_support, ["support"], "ada@alpine.example", None, None, None, 2, 40),
    ]


def test_a_shard_without_customers_is_a_shard_like_any_other(built: Home) -> None:
    """Few customers and many shards leave some empty; the merge must not wait for them for ever."""
    manifest = _manifest(built, "shard_02")
    assert manifest.record_count == 0
    assert factory.query(built.shard_file("shard_02"), "SELECT * FROM profiles") == []
    assert _why_stale(built, "shard_02") is None
    assert shard.verify_shard(built, manifest) is None


def test_the_same_input_gives_the_same_rows_and_content_hash(built: Home) -> None:
    rows = factory.query(built.shard_file("shard_00"), "SELECT * FROM profiles")
    first = _manifest(built, "shard_00")
    second = _build(built, "shard_00", run_id="another", attempt=3)
    assert factory.query(built.shard_file("shard_00"), "SELECT * FROM profiles") == rows
    assert (second.content_hash, second.source_data_hash) == (first.content_hash, first.source_data_hash)
    assert (second.run_id, second.attempt) == ("another", 3)


def test_building_leaves_no_temporary_file(built: Home) -> None:
    _build(built, "shard_00")
    assert _leftovers(built) == []


# Input.


def test_a_changed_record_changes_the_input_of_its_shard_and_of_no_other(built: Home, tmp_path: Path) -> None:
    """Otherwise one new customer would rebuild every shard."""
    before = {
        shard_id: shard.shard_input(built, shard_id, _SHARDS).source_data_hash for shard_id in shard_keys(_SHARDS)
    }
    _restage(built, _write_sources(tmp_path / "changed", usage_pct="66"))
    after = {shard_id: shard.shard_input(built, shard_id, _SHARDS).source_data_hash for shard_id in shard_keys(_SHARDS)}
    assert [shard_id for shard_id in before if before[shard_id] != after[shard_id]] == ["shard_00"]
    assert {shard_id: _why_stale(built, shard_id) for shard_id in before} == {
        "shard_00": "built from other source data",
        "shard_01": None,
        "shard_02": None,
    }


def test_other_bytes_with_the_same_rows_leave_every_shard_current(built: Home, tmp_path: Path) -> None:
    """An export that was only sorted anew, or saved with a byte order mark, is no reason to build anything."""
    folder = _write_sources(tmp_path / "saved_again")
    for path in folder.iterdir():
        header, *lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"\xef\xbb\xbf" + header + b"".join(reversed(lines)))
    old = staging.current_snapshots(built, _SHARDS)
    _restage(built, folder)
    new = staging.current_snapshots(built, _SHARDS)
    assert all(new[name].snapshot != old[name].snapshot for name in old)
    assert [_why_stale(built, shard_id) for shard_id in shard_keys(_SHARDS)] == [None] * _SHARDS


def test_a_shard_of_sources_that_are_not_staged_names_them(home: Home, sources: Path) -> None:
    request = factory.staging_request(_write_sources(sources), home, _SHARDS)
    staging.stage(source_named("crm"), request)
    staging.stage(source_named("support"), request)
    with pytest.raises(ConfigError, match="billing, product not staged for 3 shards"):
        shard.shard_input(home, "shard_00", _SHARDS)


def test_slices_of_another_number_of_shards_are_not_used(built: Home) -> None:
    with pytest.raises(ConfigError, match="not staged for 4 shards"):
        shard.shard_input(built, "shard_00", 4)


@pytest.mark.parametrize("changed", ["crm", "support"])
def test_a_shard_whose_sources_change_while_it_is_built_is_not_published(
    built: Home, tmp_path: Path, changed: str
) -> None:
    """A slow attempt that ended after a newer one would otherwise put the old records back."""
    given = shard.shard_input(built, "shard_00", _SHARDS)
    _restage(built, _write_sources(tmp_path / "changed", email="new@x.example"), [changed])
    published = built.shard_file("shard_00").read_bytes()
    with pytest.raises(SourceChangedError, match="shard_00"):
        factory.build_shard(built, given, run_id="late", attempt=1)
    assert built.shard_file("shard_00").read_bytes() == published
    assert _leftovers(built) == []


def test_a_first_build_whose_sources_change_publishes_nothing(built: Home, tmp_path: Path) -> None:
    given = shard.shard_input(built, "shard_00", _SHARDS)
    built.shard_file("shard_00").unlink()
    _restage(built, _write_sources(tmp_path / "changed", email="new@x.example"))
    with pytest.raises(SourceChangedError):
        factory.build_shard(built, given, run_id="late", attempt=1)
    assert not built.shard_file("shard_00").exists()
    assert _leftovers(built) == []


# Reuse: `reusable` is what skips a build, so it must know every reason not to.


def test_a_sound_current_shard_may_be_used_again(built: Home) -> None:
    for shard_id in shard_keys(_SHARDS):
        given = shard.shard_input(built, shard_id, _SHARDS)
        assert shard.reusable(built, given) == _manifest(built, shard_id)


def _assert_stale(home: Home, problem: str, given: ShardInput | None = None) -> None:
    state = shard.read_shard(home, "shard_00")
    found = shard.why_stale(state, given or shard.shard_input(home, "shard_00", _SHARDS))
    assert found is not None
    assert problem in found
    assert shard.reusable(home, given or shard.shard_input(home, "shard_00", _SHARDS)) is None


def test_a_missing_shard_is_stale(built: Home) -> None:
    built.shard_file("shard_00").unlink()
    _assert_stale(built, "missing")


@pytest.mark.parametrize("content", [b"", b"not a database", b"\0" * 100_000], ids=["empty", "text", "zeros"])
def test_a_file_that_is_no_database_is_damaged(built: Home, content: bytes) -> None:
    built.shard_file("shard_00").write_bytes(content)
    _assert_stale(built, "damaged (")


def test_a_truncated_file_is_damaged(built: Home) -> None:
    path = built.shard_file("shard_00")
    path.write_bytes(path.read_bytes()[:5_000])
    _assert_stale(built, "damaged (")


def test_a_file_without_its_manifest_row_is_damaged(built: Home) -> None:
    factory.alter(built.shard_file("shard_00"), "DELETE FROM manifest")
    _assert_stale(built, "damaged (no manifest)")


def test_a_shard_of_another_number_of_shards_is_stale(built: Home) -> None:
    factory.alter(built.shard_file("shard_00"), "UPDATE manifest SET shard_count = 4")
    _assert_stale(built, "built for 4 shards, not 3")


def test_a_shard_of_another_code_version_is_stale(built: Home) -> None:
    factory.alter(built.shard_file("shard_00"), "UPDATE manifest SET code_version = 'older'")
    _assert_stale(built, "built by another code version")


def test_a_shard_of_other_source_data_is_stale(built: Home, tmp_path: Path) -> None:
    _restage(built, _write_sources(tmp_path / "changed", nps_score="3"), ["support"])
    _assert_stale(built, "built from other source data")


def test_a_shard_file_under_the_name_of_another_is_stale(built: Home) -> None:
    shutil.copyfile(built.shard_file("shard_01"), built.shard_file("shard_00"))
    _assert_stale(built, "holds shard_01")


def test_a_rebuilt_shard_is_current_again(built: Home, tmp_path: Path) -> None:
    _restage(built, _write_sources(tmp_path / "changed", nps_score="3"))
    _assert_stale(built, "built from other source data")
    _build(built, "shard_00")
    assert _why_stale(built, "shard_00") is None
    assert factory.query(
        built.shard_file("shard_00"), "SELECT nps_score FROM profiles ORDER BY nps_score NULLS LAST"
    ) == [
        (3,),
        (9,),
        (None,),
    ]


# Verification reads the whole file.


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE profiles SET mrr = mrr + 0.01 WHERE mrr IS NOT NULL",
        "UPDATE profiles SET email = NULL",
        "UPDATE profiles SET sources = ['crm']",
        "UPDATE profiles SET idempotency_key = 'x'",
        f"DELETE FROM profiles WHERE customer_id = '{_IN_0[0]}'",
        f"INSERT INTO profiles SELECT * FROM profiles WHERE customer_id = '{_IN_0[0]}'",
        "ALTER TABLE profiles DROP COLUMN plan",
        "DROP TABLE profiles",
    ],
)
def test_verification_sees_what_was_changed_in_the_rows(built: Home, change: str) -> None:
    factory.alter(built.shard_file("shard_00"), change)
    manifest = _manifest(built, "shard_00")
    problem = shard.verify_shard(built, manifest)
    assert problem is not None
    assert problem.startswith("damaged")
    assert shard.reusable(built, shard.shard_input(built, "shard_00", _SHARDS)) is None


def test_verification_does_not_mind_the_order_of_rows(built: Home) -> None:
    """The control of the test above: the same rows written anew are no damage."""
    factory.alter(
        built.shard_file("shard_00"),
        "CREATE TABLE turned AS SELECT * FROM profiles ORDER BY customer_id DESC",
        "DROP TABLE profiles",
        "ALTER TABLE turned RENAME TO profiles",
    )
    assert shard.verify_shard(built, _manifest(built, "shard_00")) is None


def test_verification_sees_a_flipped_byte(built: Home) -> None:
    """A bad disk or a broken copy must not reach the warehouse: every byte of a customer's data counts."""
    path = built.shard_file("shard_00")
    manifest = _manifest(built, "shard_00")
    sound = path.read_bytes()
    places = _places_of(b"ada@alpine.example", sound)
    assert places, "the data lies in the file as it is"
    for place in places:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        problem = shard.verify_shard(built, manifest)
        assert problem is not None
        assert problem.startswith("damaged (")
    path.write_bytes(sound)
    assert shard.verify_shard(built, manifest) is None


def _places_of(text: bytes, data: bytes) -> list[int]:
    places, place = [], data.find(text)
    while place >= 0:
        places.append(place)
        place = data.find(text, place + 1)
    return places


def test_verification_of_a_missing_file_is_a_finding_and_no_crash(built: Home) -> None:
    manifest = _manifest(built, "shard_00")
    built.shard_file("shard_00").unlink()
    problem = shard.verify_shard(built, manifest)
    assert problem is not None
    assert problem.startswith("damaged (")


def test_reading_a_shard_does_not_change_it_nor_lock_it(built: Home) -> None:
    path = built.shard_file("shard_00")
    before = path.read_bytes()
    shard.reusable(built, shard.shard_input(built, "shard_00", _SHARDS))
    with duckdb.connect(str(path)) as writer:
        assert writer.execute("SELECT count(*) FROM profiles").fetchall() == [(len(_IN_0),)]
    assert path.read_bytes() == before
