"""Which materializations an instance still has, read without Dagster and compared with Dagster's answers."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.orchestration.instance import event_log
from etl_assets.orchestration.instance.event_log import holds_materializations, latest_materializations
from etl_assets.orchestration.instance.history import synced_once
from etl_assets.orchestration.instance.opening import open_instance

SHARDS = ["shard_00", "shard_01", "shard_02"]
_NO_PARTITION: list[str | None] = [None]
EXPECTED: dict[str, list[str]] = {"crm": [], "shard_profiles": SHARDS, "prefix/merged": []}


CRM, SHARD_PROFILES, MERGED = (dg.AssetKey(name.split("/")) for name in EXPECTED)


def materialize(instance: dg.DagsterInstance) -> None:
    """Report a materialization of everything."""
    for name, partitions in EXPECTED.items():
        for partition in partitions or _NO_PARTITION:
            instance.report_runless_asset_event(dg.AssetMaterialization(name.split("/"), partition=partition))


# `storage` in dagster.yaml: the log is read by Dagster and not by SQLite.
@pytest.fixture(params=["by SQLite", "by Dagster"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An instance's folder."""
    folder = tmp_path / "instance"
    folder.mkdir()
    storage = "" if request.param == "by SQLite" else f"storage: {{sqlite: {{base_dir: '{tmp_path / 'elsewhere'}'}}}}\n"
    (folder / "dagster.yaml").write_text(f"telemetry: {{enabled: false}}\n{storage}")
    return folder


@pytest.fixture
def instance(home: Path) -> Iterator[dg.DagsterInstance]:
    with synced_once(), open_instance(home) as opened:
        yield opened


@pytest.fixture
def noted(home: Path, instance: dg.DagsterInstance) -> event_log.Materializations:
    """What is noted after a run: twice materialized, so that there is a latest."""
    materialize(instance)
    materialize(instance)
    latest = latest_materializations(home, EXPECTED)
    assert latest is not None
    return latest


def test_the_latest_materializations_are_those_that_dagster_names(
    home: Path, instance: dg.DagsterInstance, noted: event_log.Materializations
) -> None:
    """Fails: Dagster keeps its log in another way, and event_log.py must follow."""
    by_dagster: event_log.Materializations = {}
    for name, partitions in EXPECTED.items():
        key = dg.AssetKey(name.split("/"))
        for partition in partitions or _NO_PARTITION:
            wanted = dg.AssetRecordsFilter(key, asset_partitions=[partition] if partition else None)
            (record,) = instance.fetch_materializations(wanted, limit=1).records
            by_dagster.setdefault(name, {})[partition or ""] = record.storage_id
    assert noted == by_dagster
    assert holds_materializations(home, noted)


def test_later_materializations_take_none_away(
    home: Path, instance: dg.DagsterInstance, noted: event_log.Materializations
) -> None:
    materialize(instance)
    assert holds_materializations(home, noted)
    assert latest_materializations(home, EXPECTED) != noted


@pytest.mark.parametrize("asset", [CRM, SHARD_PROFILES, MERGED])
def test_a_wiped_asset_is_missed(
    home: Path, instance: dg.DagsterInstance, noted: event_log.Materializations, asset: dg.AssetKey
) -> None:
    """Fails: after `dagster asset wipe` a run says "Unchanged" for ever, and the UI shows nothing."""
    instance.wipe_assets([asset])
    assert not holds_materializations(home, noted)
    assert latest_materializations(home, EXPECTED) is None
    materialize(instance)
    assert latest_materializations(home, EXPECTED) is not None


def test_a_deleted_run_is_missed(home: Path, instance: dg.DagsterInstance) -> None:
    @dg.asset(name="crm")
    def asset() -> None:
        pass

    _, last = (dg.materialize([asset], instance=instance) for _ in range(2))
    noted = latest_materializations(home, {"crm": []})
    assert noted is not None
    assert holds_materializations(home, noted)
    instance.delete_run(last.run_id)
    assert not holds_materializations(home, noted)
    # The older materialization is left.
    assert latest_materializations(home, {"crm": []}) is not None


def test_a_shard_that_was_never_materialized_is_missed(home: Path, noted: event_log.Materializations) -> None:
    """Fails: after a wipe and `etl-assets run --shards shard_00`, the other shards stay unknown to Dagster."""
    assert latest_materializations(home, {"shard_profiles": [*SHARDS, "shard_03"]}) is None
    assert latest_materializations(home, {"billing": []}) is None
    # What is not expected does not matter: shards of an earlier shard count.
    fewer = latest_materializations(home, {"shard_profiles": SHARDS[:1]})
    assert fewer == {"shard_profiles": {"shard_00": noted["shard_profiles"]["shard_00"]}}


@pytest.mark.parametrize("what", [".", "history", "history/runs/index.db"])
def test_a_deleted_log_is_missed(home: Path, noted: event_log.Materializations, what: str) -> None:
    (history,) = home.parent.glob("*/history")
    gone = history.parent / what
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    home.mkdir(exist_ok=True)
    assert not holds_materializations(home, noted)
    assert latest_materializations(home, EXPECTED) is None


def test_another_instance_holds_nothing_of_this_one(noted: event_log.Materializations, tmp_path: Path) -> None:
    (tmp_path / "another").mkdir()
    assert not holds_materializations(tmp_path / "another", noted)
    # Looking does not create a database: Dagster would take an empty one for its own.
    assert list((tmp_path / "another").iterdir()) == []


@pytest.mark.parametrize("event_id", [10**6, 1])
def test_one_missing_event_of_many_is_missed(home: Path, noted: event_log.Materializations, event_id: int) -> None:
    """The event of another asset is not this one's: ids begin at 1 again in a new log."""
    noted["shard_profiles"]["shard_01"] = event_id
    assert not holds_materializations(home, noted)


@pytest.mark.usefixtures("noted")
def test_nothing_is_held_when_nothing_is_noted(home: Path) -> None:
    """Fails: the note of an earlier version, which has no events, is believed."""
    assert not holds_materializations(home, {})


def test_an_asset_of_which_nothing_is_noted_is_missed(home: Path, noted: event_log.Materializations) -> None:
    """Fails: a note that lost its events counts as a report of them."""
    assert not holds_materializations(home, {**noted, "crm": {}})


def test_a_damaged_log_is_missed(tmp_path: Path) -> None:
    index = tmp_path / "history/runs/index.db"
    index.parent.mkdir(parents=True)
    index.write_bytes(b"no database" * 1000)
    assert not holds_materializations(tmp_path, {"crm": {"": 1}})
    assert latest_materializations(tmp_path, {"crm": []}) is None


def test_a_log_in_sqlite_is_read_without_dagster(tmp_path: Path) -> None:
    """Fails: a run with nothing to do waits a second for the import."""
    code = (
        "import sys; from pathlib import Path; from etl_assets.orchestration.instance.event_log import *\n"
        f"holds_materializations(Path({str(tmp_path)!r}), {{'crm': {{'': 1}}}})\n"
        "sys.exit(bool({'dagster', 'sqlalchemy'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
