"""Code versions: what decides a result changes them, so that its shards become stale by themselves; no more does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import etl_assets
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import stage as staging
from etl_assets.project import version as fingerprint

# Changes each file of a copy of the engine in turn and prints which of the two versions the change made another.
_PROBE = """
import json, pathlib, sys
from etl_assets.engine.steps import build as shard, stage as staging

room = pathlib.Path(sys.argv[1]) / "etl_assets"
assert pathlib.Path(shard.__file__).is_relative_to(room), shard.__file__

def versions():
    shard.code_version.cache_clear()
    staging.staging_version.cache_clear()
    return shard.code_version(), staging.staging_version()

before = versions()
changed = {}
for path in sorted(room.rglob("*.py")) + sorted(room.rglob("*.sql")):
    text = path.read_bytes()
    path.write_bytes(text + b"\\n")
    shard_version, staging_version = versions()
    changed[path.name] = [shard_version != before[0], staging_version != before[1]]
    path.write_bytes(text)
assert versions() == before
print(json.dumps(changed))
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[bool]]:
    """File of the engine: whether a change to it changes the shards' code version, and the staging version."""
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(etl_assets.__file__).parent, root / "etl_assets")
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(root)],
        env=os.environ | {"PYTHONPATH": str(root)},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[bool]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    "name",
    [
        *("health_score.sql", "churn_risk.sql", "expansion_potential.sql", "points_to_level.sql", "normalise_word.sql"),
        *("strip.sql", "profiles.sql", "contract.py", "keys.py", "routing.py", "build.py"),
    ],
)
def test_changing_what_decides_a_profile_makes_its_shards_stale(changed: dict[str, list[bool]], name: str) -> None:
    """A new weight that leaves old shards current would give half of the customers the old score."""
    assert changed[name][0]


@pytest.mark.parametrize(
    "name",
    [
        *("parse_int.sql", "parse_float.sql", "parse_date.sql", "blank_to_null.sql", "strip.sql", "contract.py"),
        *("routing.py", "records.py", "exports.py", "quarantine.py", "stage.py"),
    ],
)
def test_changing_what_decides_a_slice_makes_its_snapshot_stale(changed: dict[str, list[bool]], name: str) -> None:
    assert changed[name][1]


@pytest.mark.parametrize("name", ["attempts.py", "tables.py", "merge.py", "publishing.py", "errors.py"])
def test_changing_what_decides_no_row_leaves_the_published_shards_current(
    changed: dict[str, list[bool]], name: str
) -> None:
    """Otherwise every change of a message would rebuild everything."""
    assert changed[name] == [False, False]


def test_a_score_is_no_reason_to_read_the_sources_again(changed: dict[str, list[bool]]) -> None:
    assert changed["health_score.sql"] == [True, False]


def test_every_statement_of_the_engine_belongs_to_a_version(changed: dict[str, list[bool]]) -> None:
    """A macro that somebody adds and forgets to list would change results without anybody noticing."""
    decisive = {name: any(versions) for name, versions in changed.items() if name.endswith(".sql")}
    # Checks look at what is published; they decide nothing in it.
    assert {name for name, is_listed in decisive.items() if not is_listed and not name.startswith("check_")} == set()


def test_another_duckdb_is_another_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row hashes and text forms are only the same within one version of DuckDB."""
    before = fingerprint.code_fingerprint(["engine/keys"], ["strip"])
    monkeypatch.setattr(duckdb, "__version__", "99.0.0")
    assert fingerprint.code_fingerprint(["engine/keys"], ["strip"]) != before


def test_a_version_is_twelve_hex_digits_and_the_same_each_time() -> None:
    for version in (shard.code_version(), staging.staging_version(), fingerprint.code_fingerprint(["engine/keys"], [])):
        assert len(version) == 12
        int(version, 16)
    assert fingerprint.code_fingerprint(["engine/keys"], ["strip"]) == fingerprint.code_fingerprint(
        ["engine/keys"], ["strip"]
    )
    assert fingerprint.code_fingerprint(["engine/keys"], []) != fingerprint.code_fingerprint(["engine/routing"], [])
