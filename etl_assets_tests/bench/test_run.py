"""The benchmark as a whole: which figures count, what it refuses, and the data it measures on."""

import json
import shutil
import sys
from collections import namedtuple
from pathlib import Path

import duckdb
import pytest

from bench import data, options, run, ways
from bench.peers import duckdb_query
from bench.ways import COLD, FLOOR, WAYS, Case, Kind, Start, Way, environment, warehouse
from etl_assets.samples.writing import generate
from etl_assets_tests import factory
from etl_assets_tests.bench.linux import needs_proc
from etl_assets_tests.oracle import expect


@pytest.fixture(autouse=True)
def own_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changing a weight of the shipped project changes no test: the peers compute the tests' own project."""
    monkeypatch.setattr(ways, "PROJECT", factory.PROJECT_FOLDER)


def fake_way(name: str, code: str) -> Way:
    """A way that runs this Python code with two arguments: the reference and the result to write."""

    def prepare(case: Case, scratch: Path) -> Start:
        reference, result = warehouse(case.home), scratch / "profiles.parquet"
        command = (sys.executable, "-c", code, str(reference), str(result))
        return Start(command, environment(), result, reference)

    return Way(name, name, Kind.PEER, prepare)


COPY = """
import duckdb, sys
with duckdb.connect(sys.argv[1], read_only=True) as warehouse:
    warehouse.execute(f"COPY (SELECT * REPLACE ({} AS email) FROM merged_profiles) TO '{sys.argv[2]}'")
"""


@pytest.mark.slow
@needs_proc
def test_a_way_counts_only_when_its_profiles_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fastest way to compute something else must not look like the fastest way."""
    ways = (
        *(way for way in WAYS if way.name in (FLOOR, COLD, "run_few_changed")),
        fake_way("right", COPY.replace("{}", "email")),
        fake_way("wrong", COPY.replace("{}", "upper(email)")),
        fake_way("failing", "raise SystemExit(7)"),
    )
    monkeypatch.setattr(options, "WAYS", ways)
    arguments = ["--rows", "2000", "--shards", "3", "--repeat", "2", "--out", str(tmp_path)]
    assert run.main([*arguments, "--peer-python", str(tmp_path / "none")]) == 1

    results = json.loads((tmp_path / "results.json").read_text())
    measured = {way["name"]: way for way in results["comparison"]["ways"]}
    for name in (FLOOR, COLD, "run_few_changed", "right"):
        assert measured[name]["problem"] is None
        assert len(measured[name]["runs"]) == 2
        assert measured[name]["median"]["peak_bytes"] > 10_000_000
        assert measured[name]["ratio_to_floor"] > 0
    assert measured[FLOOR]["ratio_to_floor"] == 1
    for name, reason in (("wrong", "WRONG: email differs"), ("failing", "failed (exit code 7")):
        assert measured[name]["problem"].startswith(reason)
        assert measured[name]["median"] is None
        assert measured[name]["ratio_to_floor"] is None
        assert measured[name]["runs"] == []
    assert "WRONG: email differs" in capsys.readouterr().out
    # Only the exports (for the next benchmark), logs and results stay.
    assert {path.name for path in tmp_path.iterdir()} == {"data", "logs", "results.json"}


@pytest.mark.parametrize(
    ("only", "sizes"),
    [
        ("duckdb_query,run_cold", [(2000, 4), (1000, 4), (5000, 4), (2000, 8)]),
        # Without them the comparison shows no growth, so its size is measured again.
        ("polars_script", [(2000, 4), (1000, 4), (2000, 4), (5000, 4), (2000, 8)]),
    ],
)
def test_growth_measures_no_size_twice(only: str, sizes: list[tuple[int, int]]) -> None:
    """The larger ones take long."""
    arguments = ["--rows", "2000", "--shards", "4", "--only", only, "--growth"]
    args = options.parser().parse_args([*arguments, "--growth-rows", "1000,2000,5000", "--growth-shards", "4,8"])
    assert [(rows, shards) for rows, shards, _ in options.cases_of(args)] == sizes


def test_nothing_begins_without_room_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10**6, 10**6))
    assert run.main(["--only", FLOOR, "--out", str(tmp_path)]) == 2
    assert "1,000,000 rows need 2.70 GB of disk space" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_missing_environment_of_the_peers_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main(["--out", str(tmp_path), "--peer-python", str(tmp_path / "none")]) == 2
    assert "make bench sets it up" in capsys.readouterr().err


def test_an_unknown_way_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run.main(["--only", "duckdb_query,spark"])
    assert stopped.value.code == 2
    assert "no such way: spark" in capsys.readouterr().err


def test_exports_are_written_once_and_incomplete_ones_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "_SETTLED_S", 0)
    (tmp_path / "1000-42-00000000.incomplete").mkdir()
    made = data.exports(tmp_path, 1000)
    stamps = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    assert len(stamps) == len(factory.SOURCES)
    assert data.exports(tmp_path, 1000) == made
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == stamps


def test_one_product_row_in_a_thousand_is_changed_and_stays_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "_SETTLED_S", 0)
    original = data.exports(tmp_path, 3000)
    changed = data.changed_exports(original)
    before, after = expect(original, 3), expect(changed, 3)
    assert before.profiles.keys() == after.profiles.keys()
    assert after.quarantine == []
    fields = [
        name
        for customer_id, profile in before.profiles.items()
        for name, value in profile.items()
        if after.profiles[customer_id][name] != value
    ]
    # 2,940 of 3,000 customers are in the export.
    assert sorted(fields) == ["features_used"] * 3 + ["idempotency_key"] * 3


def test_the_floor_computes_what_the_oracle_does(tmp_path: Path) -> None:
    """All ratios depend on the floor, so it is compared with the contract itself and not only with the pipeline."""
    generate(tmp_path, rows=1500)
    duckdb_query.main(tmp_path, tmp_path / "profiles.duckdb")
    with duckdb.connect(tmp_path / "profiles.duckdb", read_only=True) as connection:
        cursor = connection.execute("FROM profiles")
        names = [column[0] for column in cursor.description]
        profiles = {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}
    expected = {
        customer_id: {name: value for name, value in profile.items() if name != "shard_id"}
        for customer_id, profile in expect(tmp_path, 1).profiles.items()
    }
    assert profiles == expected
