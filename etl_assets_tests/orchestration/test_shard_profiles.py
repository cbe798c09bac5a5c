"""The partitioned asset: one shard a run or many, retries, reuse, and what is left on record."""

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine import faults
from etl_assets.engine.published import attempts
from etl_assets.engine.published.shards import Manifest, read_shard
from etl_assets.engine.routing import shard_keys
from etl_assets.errors import AccountingError, Action, Advice
from etl_assets_tests.command_line import environment
from etl_assets_tests.dagster_runs import CodeLocation, facts, failure_text, materializations, range_tags
from etl_assets_tests.factory import build_shard, input_of, query, row, write_exports
from etl_assets_tests.orchestration.breaking import ALWAYS, DISK_ERROR, break_shards, count_builds

SHARDS = shard_keys(3)
LINE = ["event", "shard_id", "attempt", "run_id", "status", "record_count", "elapsed_ms"]


def lines(location: CodeLocation, run_id: str) -> list[dict[str, Any]]:
    """The JSON lines of a run's log."""
    messages = [entry.user_message for entry in location.instance.all_logs(run_id)]
    return [json.loads(message) for message in messages if message.startswith('{"event"')]


def manifest_of(location: CodeLocation, shard_id: str) -> Manifest:
    """The manifest of a published shard."""
    manifest = read_shard(location.site.home, shard_id).manifest
    assert manifest is not None
    return manifest


@pytest.fixture
def staged(location: CodeLocation) -> CodeLocation:
    assert location.stage().success
    return location


def test_a_shard_reports_its_numbers_schema_and_a_preview(staged: CodeLocation) -> None:
    result = staged.run("shard_profiles", partition="shard_01")
    assert result.success, failure_text(result)
    (made,) = materializations(result, "shard_profiles")
    manifest = manifest_of(staged, "shard_01")
    assert made.partition == "shard_01"
    for name in ("record_count", "elapsed_ms", "open_ms", "build_ms", "attempt"):
        assert made.metadata[name] == dg.MetadataValue.int(getattr(manifest, name))
    for name in ("source_data_hash", "content_hash"):
        assert made.metadata[name].value == getattr(manifest, name)
    assert made.metadata["built_by_run"].value == result.run_id
    assert made.metadata["dagster/row_count"].value == manifest.record_count
    assert made.metadata["dagster/table_name"].value == "shard_01.profiles"
    assert made.metadata["path"].value == str(staged.site.home.shard_file("shard_01"))
    columns = facts(made.metadata)["dagster/column_schema"].columns
    assert "idempotency_key" in [column.name for column in columns]
    assert "preview" in made.metadata
    assert made.tags is not None
    assert made.tags["dagster/data_version"] == manifest.content_hash


def test_a_run_writes_one_line_at_a_shards_start_and_one_at_its_end(staged: CodeLocation) -> None:
    result = staged.run("shard_profiles", partition="shard_01")
    start, end = lines(staged, result.run_id)
    assert list(start) == list(end) == LINE
    assert (start["event"], start["shard_id"], start["attempt"]) == ("shard_start", "shard_01", 1)
    assert (end["event"], end["status"], end["run_id"]) == ("shard_end", "succeeded", result.run_id)
    assert isinstance(end["elapsed_ms"], int)
    assert end["record_count"] == manifest_of(staged, "shard_01").record_count


def test_a_transient_fault_heals_on_the_second_attempt(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    break_shards(monkeypatch, DISK_ERROR, {"shard_01": 1})
    result = staged.run("shard_profiles", partition="shard_01")
    assert result.success
    written = lines(staged, result.run_id)
    assert [line["event"] for line in written] == ["shard_start", "shard_failed", "shard_start", "shard_end"]
    known = attempts.read_attempts(staged.site.home, ["shard_01"])
    assert [(attempt.number, attempt.status.value) for attempt in known] == [(1, "failed"), (2, "succeeded")]
    assert "the disk said no" in (known[0].error or "")
    (made,) = materializations(result, "shard_profiles")
    assert made.metadata["attempt"].value == 2
    assert manifest_of(staged, "shard_01").attempt == 2
    failed = written[1]
    assert list(failed) == [*LINE, "error"]
    assert (failed["status"], failed["record_count"]) == ("failed", None)
    assert isinstance(failed["elapsed_ms"], int)


def test_a_fault_that_stays_fails_after_three_retries(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = break_shards(monkeypatch, DISK_ERROR, {"shard_01": ALWAYS})
    result = staged.run("shard_profiles", partition="shard_01")
    assert not result.success
    assert builds["shard_01"] == 4


def test_a_permanent_fault_stops_at_once_and_says_what_to_do_in_the_ui(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = AccountingError("A customer too many.", Advice(Action.EDIT, value="sql/profiles.sql"))
    builds = break_shards(monkeypatch, error, {"shard_01": ALWAYS})
    result = staged.run("shard_profiles", partition="shard_01")
    assert not result.success
    assert builds["shard_01"] == 1
    assert failure_text(result).splitlines() == [
        "1 of 1 shard failed.",
        "shard_01: A customer too many. Change sql/profiles.sql of the project, then reload the definitions.",
        'Repair with "Re-execute from failure", or materialize the failed partitions again.',
    ]
    known = attempts.read_attempts(staged.site.home, ["shard_01"])
    assert [attempt.status.value for attempt in known] == ["failed"]


def test_a_run_of_one_shard_that_fails_says_nothing_of_the_others(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: "The others are published" although not one of them was ever built."""
    break_shards(monkeypatch, AccountingError("a customer too many"), {"shard_00": ALWAYS, "shard_01": ALWAYS})
    assert "others" not in failure_text(staged.run("shard_profiles", partition="shard_01"))
    assert "2 of 2 shards failed" in (both := failure_text(staged.run("shard_profiles", tags=range_tags(SHARDS[:2]))))
    assert "others" not in both
    assert "2 of 3 shards failed" in (text := failure_text(staged.build_all()))
    assert "The others are published." in text


def test_a_shard_without_staged_sources_is_refused_with_what_to_do(location: CodeLocation) -> None:
    result = location.run("shard_profiles", partition="shard_00")
    assert not result.success
    assert "Materialize the assets of the group 'sources' first." in failure_text(result)


def test_an_unchanged_shard_is_reused_and_force_builds_it(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = count_builds(monkeypatch)
    first = staged.run("shard_profiles", partition="shard_01")
    assert first.success
    reused = staged.run("shard_profiles", partition="shard_01")
    assert builds["shard_01"] == 1
    assert lines(staged, reused.run_id)[-1]["status"] == "reused"
    (made,) = materializations(reused, "shard_profiles")
    assert made.metadata["built_by_run"].value == first.run_id
    staged.run("shard_profiles", partition="shard_01", config={"shard_profiles": {"force": True}})
    assert builds["shard_01"] == 2


@pytest.mark.parametrize("damage", ["half of the file", "no manifest"])
def test_a_damaged_shard_is_built_again(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    builds = count_builds(monkeypatch)
    assert staged.run("shard_profiles", partition="shard_01").success
    path = staged.site.home.shard_file("shard_01")
    if damage == "no manifest":
        staged.site.home.manifest("shard_01").unlink()
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert staged.run("shard_profiles", partition="shard_01").success
    assert builds["shard_01"] == 2
    assert manifest_of(staged, "shard_01").size_bytes == path.stat().st_size


def test_a_run_over_all_shards_gives_each_its_own_data_version(staged: CodeLocation) -> None:
    """Fails: one data version for all shards, so that a change in one makes all of them look new."""
    single = materializations(staged.run("shard_profiles", partition="shard_01"), "shard_profiles")[0]
    made = {m.partition: m for m in materializations(staged.build_all(), "shard_profiles")}
    assert made.keys() == set(SHARDS)
    for shard_id, materialization in made.items():
        assert (materialization.tags or {})["dagster/data_version"] == manifest_of(staged, shard_id or "").content_hash
    # What Dagster itself notes of where a partition came from is noted here too, to the letter.
    assert made["shard_01"].tags == single.tags
    assert (single.tags or {})["dagster/input_data_version/crm"] == _staged_version(staged, "crm")
    assert made["shard_01"].metadata.keys() == single.metadata.keys()


def _staged_version(location: CodeLocation, source: str) -> str:
    return (location.materialized(source).tags or {})["dagster/data_version"]


def test_a_shard_that_fails_does_not_stop_the_others_of_its_run(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: one bad shard costs the work of all, and the UI does not show which one it was."""
    builds = break_shards(monkeypatch, DISK_ERROR, {"shard_01": ALWAYS})
    result = staged.build_all()
    assert not result.success
    assert builds == {"shard_00": 1, "shard_01": 4, "shard_02": 1}
    first, second, last = failure_text(result).splitlines()
    assert (first, second) == ("1 of 3 shards failed.", "shard_01: [Errno 5] the disk said no")
    assert last.startswith("The others are published. Repair with ")
    assert staged.instance.get_materialized_partitions(dg.AssetKey("shard_profiles")) == {"shard_00", "shard_02"}


def test_a_retry_builds_and_reports_only_what_failed(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    break_shards(monkeypatch, DISK_ERROR, {"shard_01": 1})
    result = staged.run("shard_profiles", tags=range_tags(SHARDS))
    assert result.success
    events = [entry.dagster_event for entry in staged.instance.all_logs(result.run_id) if entry.dagster_event]
    made = [event.step_materialization_data.materialization for event in events if event.is_step_materialization]
    assert Counter(materialization.partition for materialization in made) == dict.fromkeys(SHARDS, 1)
    ends = Counter(line["shard_id"] for line in lines(staged, result.run_id) if line["event"] == "shard_end")
    assert ends == dict.fromkeys(SHARDS, 1)


def test_attempts_of_a_run_that_the_daemon_repeats_are_counted_on(staged: CodeLocation) -> None:
    """Fails: after a killed process, the attempt that heals looks like a first one."""
    result = staged.run("shard_profiles", partition="shard_01", tags={"dagster/retry_number": "1"})
    assert [line["attempt"] for line in lines(staged, result.run_id)] == [2, 2]


def test_a_cancelled_run_is_not_repeated_and_publishes_nothing(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Fails: "Terminate" in the UI, or Ctrl-C, only makes the run start over: Dagster retries interrupted steps."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("etl_assets.orchestration.shard_log.AttemptLog.add", interrupt)
        # Keeps the shard from being done before the interrupt comes.
        faults.arm("shard.before_sync hang", "", is_production=False, shard_count=3)
        request.addfinalizer(lambda: faults.arm("", "", is_production=False, shard_count=3))
        result = staged.run("shard_profiles", partition="shard_01")
    assert not result.success
    assert "Cancelled" in failure_text(result)
    assert "STEP_UP_FOR_RETRY" not in [event.event_type_value for event in result.all_events]
    (attempt,) = attempts.read_attempts(staged.site.home, ["shard_01"])
    assert attempt.status.value == "cancelled"
    assert list(staged.site.home.root.glob("shards/*")) == []


# A process of its own: what a run worker of the daemon is.
WORKER = """
import dagster as dg
from etl_assets.definitions import defs
job = defs.resolve_implicit_global_asset_job_def()
with dg.DagsterInstance.get() as instance:
    job.execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("shard_profiles")], partition_key="shard_01"
    )
"""


@pytest.mark.parametrize("point", ["shard.before_swap", "manifest.before_swap"])
def test_an_attempt_whose_process_was_killed_is_on_record_and_the_next_one_heals(
    staged: CodeLocation, tmp_path: Path, point: str
) -> None:
    """Fails: a worker that ran out of memory leaves no trace, or a torn shard."""
    home = staged.site.home
    variables = environment(
        ETL_SOURCES=str(staged.settings.sources),
        ETL_HOME=str(home.root),
        ETL_NUM_SHARDS="3",
        ETL_FAULT=f"{point} kill shard=shard_01",
        DAGSTER_HOME=str(tmp_path),
    )
    killed = subprocess.run(
        [sys.executable, "-c", WORKER], env=variables, capture_output=True, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert read_shard(home, "shard_01").manifest is None
    (attempt,) = attempts.read_attempts(home, ["shard_01"])
    assert (attempt.number, attempt.status.value, attempt.record_count) == (1, "killed", None)
    # As the daemon does by run_retries.
    healing = staged.run("shard_profiles", partition="shard_01", tags={"dagster/retry_number": "1"})
    assert healing.success, failure_text(healing)
    assert set(home.shards.iterdir()) == {home.shard_file("shard_01"), home.manifest("shard_01")}
    for name in ("shard_00", "shard_02"):
        build_shard(staged.site, input_of(staged.site, name), run_id="other")
    assert staged.run("merged_profiles").success
    rows = query(home.warehouse, "SELECT shard_id, attempt, status, record_count FROM shard_attempts")
    record_count = manifest_of(staged, "shard_01").record_count
    assert rows == [("shard_01", 1, "killed", None), ("shard_01", 2, "succeeded", record_count)]


def test_a_shard_of_no_customers_is_a_shard_like_any_other(location: CodeLocation, sources: Path) -> None:
    """Fails: with few customers and many shards some are empty, and the merge waits for them for ever."""
    write_exports(sources, crm=[row("a")])
    assert location.stage().success
    assert location.build_all().success
    assert sorted(manifest_of(location, name).record_count for name in SHARDS) == [0, 0, 1]
    assert location.instance.get_materialized_partitions(dg.AssetKey("shard_profiles")) == set(SHARDS)
