"""Published shards: what their manifests say, when one may be used again, and what verification sees."""

import json
import shutil
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import shards
from etl_assets.engine.published.shards import (
    Obstacle,
    Unfit,
    inspect_shards,
    read_manifest,
    read_shards,
    refusal,
)
from etl_assets.engine.published.status import Status
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice
from etl_assets_tests import factory
from etl_assets_tests.engine.three_shards import (
    IN_0,
    build,
    change_manifest,
    manifest_of,
    obstacle,
    restage,
    write_exports,
)

# What a shard says of itself.


def test_each_of_many_shards_is_read_on_its_own(built: Site, tmp_path: Path) -> None:
    """Fails: one damaged manifest hides the others, or a manifest goes to another shard."""
    home = Home(shutil.copytree(built.home.root, tmp_path / "a [home]*"))
    home.manifest("shard_01").write_text('{"shard_id": "shard_01"')
    for suffix in ("duckdb", "json"):
        shutil.copy(home.shards / f"shard_00.{suffix}", home.shards / f"shard_04.{suffix}")
    names = [*built.shard_ids, "shard_03", "shard_04"]
    states = read_shards(home, names)
    assert [state.shard_id for state in states] == names
    assert [state.manifest and state.manifest.shard_id for state in states] == [
        "shard_00",
        None,
        "shard_02",
        None,
        "shard_00",
    ]
    assert [state.obstacle and state.obstacle.kind for state in states] == [
        None,
        Unfit.DAMAGED,
        None,
        Unfit.MISSING,
        None,
    ]


def test_a_manifest_survives_its_file(built: Site) -> None:
    manifest = manifest_of(built, "shard_00")
    path = built.home.root / "copy.json"
    path.write_text(json.dumps(manifest.to_json()))
    assert read_manifest(path) == manifest


def test_no_shard_file_is_opened_to_read_manifests(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a status over a thousand shards opens a thousand databases."""
    monkeypatch.setattr(duckdb, "connect", lambda *_: pytest.fail("a database was opened"))
    assert inspect_shards(built).obstacles == {}


# Reuse: `reusable` is what skips a build, so it must know every reason not to.


def test_a_sound_current_shard_may_be_used_again(built: Site) -> None:
    for shard_id in built.shard_ids:
        assert obstacle(built, shard_id) is None
        assert factory.reusable(built, factory.input_of(built, shard_id)) == manifest_of(built, shard_id)


def _assert_unfit(site: Site, kind: Unfit, detail: str | None = None) -> None:
    found = obstacle(site, "shard_00")
    assert found is not None
    assert found.kind is kind
    assert detail is None or found.detail == detail
    assert factory.reusable(site, factory.input_of(site, "shard_00")) is None


@pytest.mark.parametrize("suffix", ["duckdb", "json"])
def test_a_shard_without_its_file_or_its_manifest_is_missing(built: Site, suffix: str) -> None:
    (built.home.shards / f"shard_00.{suffix}").unlink()
    _assert_unfit(built, Unfit.MISSING)


@pytest.mark.parametrize("content", [b"", b"not a database", b"\0" * 100_000], ids=["empty", "text", "zeros"])
def test_a_file_of_another_size_is_damaged(built: Site, content: bytes) -> None:
    built.home.shard_file("shard_00").write_bytes(content)
    _assert_unfit(built, Unfit.DAMAGED)


def test_a_file_of_the_right_size_that_is_no_database_is_not_used_again(built: Site) -> None:
    """The size is all that a status looks at; what builds or merges reads the rows."""
    path = built.home.shard_file("shard_00")
    path.write_bytes(b"\0" * path.stat().st_size)
    assert obstacle(built, "shard_00") is None
    assert factory.reusable(built, factory.input_of(built, "shard_00")) is None


def test_a_truncated_file_is_damaged(built: Site) -> None:
    path = built.home.shard_file("shard_00")
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:5_000])
    _assert_unfit(built, Unfit.DAMAGED, f"its file has 5000 bytes, its manifest says {size}")


@pytest.mark.parametrize("text", ["[]", '"shard_00"', "{}", '{"shard_id": "shard_00"}'])
def test_a_manifest_of_another_form_is_damaged(built: Site, text: str) -> None:
    """Another version of the package may have written it."""
    built.home.manifest("shard_00").write_text(text)
    _assert_unfit(built, Unfit.DAMAGED, "its manifest cannot be read")


def test_a_shard_of_another_number_of_shards_is_stale(built: Site) -> None:
    change_manifest(built, "shard_00", shard_count=4)
    _assert_unfit(built, Unfit.OTHER_SHARD_COUNT, "4, not 3")


def test_a_shard_of_another_version_is_stale(built: Site) -> None:
    change_manifest(built, "shard_00", code_version="older")
    _assert_unfit(built, Unfit.OTHER_VERSION)


def test_a_shard_of_other_source_data_is_stale(built: Site, tmp_path: Path) -> None:
    restage(built, write_exports(tmp_path / "changed", nps_score="3"), ["support"])
    _assert_unfit(built, Unfit.OTHER_DATA)


def test_a_shard_under_the_name_of_another_is_stale(built: Site) -> None:
    for suffix in ("duckdb", "json"):
        shutil.copyfile(built.home.shards / f"shard_01.{suffix}", built.home.shards / f"shard_00.{suffix}")
    _assert_unfit(built, Unfit.OTHER_SHARD, "shard_01")


def test_a_rebuilt_shard_is_current_again(built: Site, tmp_path: Path) -> None:
    restage(built, write_exports(tmp_path / "changed", nps_score="3"))
    _assert_unfit(built, Unfit.OTHER_DATA)
    build(built, "shard_00")
    assert obstacle(built, "shard_00") is None
    scores = "SELECT nps_score FROM profiles ORDER BY nps_score NULLS LAST"
    assert factory.query(built.home.shard_file("shard_00"), scores) == [(3,), (9,), (None,)]


# Verification reads the whole file.


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE profiles SET mrr = mrr + 0.01 WHERE mrr IS NOT NULL",
        "UPDATE profiles SET email = NULL",
        "UPDATE profiles SET sources = ['crm']",
        "UPDATE profiles SET idempotency_key = 'x'",
        "UPDATE profiles SET shard_id = 'shard_01'",
        "UPDATE profiles SET shard_id = NULL",
        f"DELETE FROM profiles WHERE customer_id = '{IN_0[0]}'",
        f"INSERT INTO profiles SELECT * FROM profiles WHERE customer_id = '{IN_0[0]}'",
        "ALTER TABLE profiles DROP COLUMN plan",
        "DROP TABLE profiles",
    ],
)
def test_verification_sees_what_was_changed_in_the_rows(built: Site, change: str) -> None:
    factory.alter(built.home.shard_file("shard_00"), change)
    found = factory.verify_shard(built.home, manifest_of(built, "shard_00"))
    assert found is not None
    assert found.kind is Unfit.DAMAGED
    assert found.detail
    assert factory.reusable(built, factory.input_of(built, "shard_00")) is None


def test_verification_does_not_mind_the_order_of_rows(built: Site) -> None:
    """The control of the test above: the same rows in another order are no damage."""
    factory.alter(
        built.home.shard_file("shard_00"),
        "CREATE TABLE turned AS SELECT * FROM profiles ORDER BY customer_id DESC",
        "DROP TABLE profiles",
        "ALTER TABLE turned RENAME TO profiles",
    )
    assert factory.verify_shard(built.home, manifest_of(built, "shard_00")) is None


def test_verification_sees_a_flipped_byte(built: Site) -> None:
    """A bad disk or a broken copy must not reach the warehouse: every byte of a customer's data counts."""
    path = built.home.shard_file("shard_00")
    manifest = manifest_of(built, "shard_00")
    sound = path.read_bytes()
    places = _places_of(b"ada@alpine.example", sound)
    assert places, "the data lies in the file as it is"
    for place in places:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        found = factory.verify_shard(built.home, manifest)
        assert found is not None
        assert found.kind is Unfit.DAMAGED
    path.write_bytes(sound)
    assert factory.verify_shard(built.home, manifest) is None


def _places_of(text: bytes, data: bytes) -> list[int]:
    places, place = [], data.find(text)
    while place >= 0:
        places.append(place)
        place = data.find(text, place + 1)
    return places


def test_verification_of_a_missing_file_is_a_finding_and_no_crash(built: Site) -> None:
    manifest = manifest_of(built, "shard_00")
    built.home.shard_file("shard_00").unlink()
    found = factory.verify_shard(built.home, manifest)
    assert found is not None
    assert found.kind is Unfit.DAMAGED


def test_reading_a_shard_neither_changes_nor_locks_it(built: Site) -> None:
    path = built.home.shard_file("shard_00")
    before = path.read_bytes()
    factory.reusable(built, factory.input_of(built, "shard_00"))
    with duckdb.connect(str(path)) as writer:
        assert writer.execute("SELECT count(*) FROM profiles").fetchall() == [(len(IN_0),)]
    assert path.read_bytes() == before


# What is said of many.


def test_inspection_names_the_fit_shards_and_what_is_wrong_with_the_others(built: Site) -> None:
    complete = inspect_shards(built)
    assert complete.obstacles == {}
    assert [manifest.shard_id for manifest in complete.manifests] == list(built.shard_ids)
    built.home.shard_file("shard_01").unlink()
    found = inspect_shards(built)
    assert found.obstacles == {"shard_01": Obstacle(Unfit.MISSING)}
    assert [manifest.shard_id for manifest in found.manifests] == ["shard_00", "shard_02"]
    assert found.set_hash != complete.set_hash


def test_every_publication_of_a_shard_or_a_source_shows_in_the_stamp(built: Site, tmp_path: Path) -> None:
    """Fails: a sensor takes yesterday's shards for today's."""
    stamps = [shards.published_stamp(built)]
    build(built, "shard_01")
    stamps.append(shards.published_stamp(built))
    restage(built, write_exports(tmp_path / "changed", nps_score="3"), ["support"])
    stamps.append(shards.published_stamp(built))
    change_manifest(built, "shard_01", attempt=2)
    stamps.append(shards.published_stamp(built))
    assert len(set(stamps)) == 4
    assert shards.published_stamp(built) == stamps[-1]


def test_of_many_shards_in_the_way_some_are_named() -> None:
    """Fails: with a thousand shards, the message is one that no one can read, three times on a screen."""
    error = refusal(dict.fromkeys(shard_keys(300), Obstacle(Unfit.MISSING)))
    message = str(error)
    assert "300 shards are not fit to merge (shard_000: missing; " in message
    assert "shard_009: missing; and 290 more)" in message
    assert "shard_010" not in message
    assert error.advice == (Advice(Action.RUN),)


def test_a_few_shards_in_the_way_are_all_named_in_the_advice() -> None:
    error = refusal({"shard_01": Obstacle(Unfit.MISSING), "shard_07": Obstacle(Unfit.OTHER_DATA)})
    assert "2 shards are not fit to merge (shard_01: missing; shard_07: built from other source data)" in str(error)
    assert error.advice == (Advice(Action.RUN, shards=("shard_01", "shard_07")),)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (Unfit.MISSING, Status.MISSING),
        (Unfit.DAMAGED, Status.DAMAGED),
        (Unfit.HELD, Status.DAMAGED),
        (Unfit.OTHER_SHARD, Status.STALE),
        (Unfit.OTHER_SHARD_COUNT, Status.STALE),
        (Unfit.OTHER_VERSION, Status.STALE),
        (Unfit.OTHER_DATA, Status.STALE),
        (Unfit.OVERTAKEN, Status.STALE),
    ],
)
def test_each_obstacle_has_a_status_and_words(kind: Unfit, status: Status) -> None:
    assert Obstacle(kind).status is status
    assert str(Obstacle(kind))
    assert str(Obstacle(kind, "why")).endswith(" why" if kind is Unfit.HELD else " (why)")


def test_every_obstacle_is_in_the_table_above() -> None:
    assert len(Unfit) == 8
