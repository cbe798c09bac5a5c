"""The partitioned asset: one shard a run or many, retries, reuse, and what is left on record."""

import json
import os
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
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.errors import AccountingError
from etl_assets_tests.dagster_runs import CodeLocation, failure_text, materializations, range_tags
from etl_assets_tests.factory import build_shard, query, row, write_exports

SHARDS = shard_keys(3)


def break_shards(monkeypatch: pytest.MonkeyPatch, error: Exception, broken: dict[str, int]) -> Counter[str]:
    """Make the first so many builds of these shards fail; returns the count of builds by shard."""
    build, builds = shard.build_shard, Counter[str]()

    def breaking(home: Any, given: shard.ShardInput, *args: Any, **options: Any) -> shard.Manifest:
        builds[given.shard_id] += 1
        if builds[given.shard_id] <= broken.get(given.shard_id, 0):
            raise error
        return build(home, given, *args, **options)

    monkeypatch.setattr(shard, "build_shard", breaking)
    return builds


def lines(project: CodeLocation, run_id: str) -> list[dict[str, Any]]:
    """The JSON lines of a run's log."""
    messages = [entry.user_message for entry in project.instance.all_logs(run_id)]
    return [json.loads(message) for message in messages if message.startswith('{"event"')]


@pytest.fixture
def staged(project: CodeLocation) -> CodeLocation:
    assert project.stage().success
    return project


def test_a_shard_reports_its_numbers_schema_and_a_preview(staged: CodeLocation) -> None:
    result = staged.run("shard_profiles", partition="shard_01")
    assert result.success, failure_text(result)
    (made,) = materializations(result, "shard_profiles")
    state = shard.read_shard(staged.settings.home, "shard_01")
    assert state.manifest is not None
    assert made.partition == "shard_01"
    for name in ("record_count", "elapsed_ms", "read_ms", "write_ms", "attempt"):
        assert made.metadata[name] == dg.MetadataValue.int(getattr(state.manifest, name))
    for name in ("source_data_hash", "content_hash"):
        assert made.metadata[name].value == getattr(state.manifest, name)
    assert made.metadata["dagster/row_count"].value == state.manifest.record_count
    assert made.metadata["dagster/table_name"].value == "shard_01.profiles"
    columns = made.metadata["dagster/column_schema"].value.columns  # type: ignore[union-attr]
    assert "idempotency_key" in [column.name for column in columns]
    assert "customer_id" in str(made.metadata["preview"].value)
    assert made.tags is not None
    assert made.tags["dagster/data_version"] == state.manifest.content_hash


def test_a_run_writes_one_line_at_a_shards_start_and_one_at_its_end(staged: CodeLocation) -> None:
    result = staged.run("shard_profiles", partition="shard_01")
    start, end = lines(staged, result.run_id)
    assert list(start) == ["event", "shard_id", "attempt", "run_id", "status", "record_count", "elapsed_ms"]
    assert (start["event"], start["shard_id"], start["attempt"]) == ("shard_start", "shard_01", 1)
    assert (end["event"], end["status"], end["run_id"]) == ("shard_end", "succeeded", result.run_id)
    assert isinstance(end["elapsed_ms"], int)
    assert end["record_count"] == shard.read_shard(staged.settings.home, "shard_01").manifest.record_count  # type: ignore[union-attr]


def test_a_transient_fault_heals_on_the_second_attempt(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    break_shards(monkeypatch, OSError(5, "the disk said no"), {"shard_01": 1})
    result = staged.run("shard_profiles", partition="shard_01")
    assert result.success
    assert [line["event"] for line in lines(staged, result.run_id)] == [
        "shard_start",
        "shard_failed",
        "shard_start",
        "shard_end",
    ]
    known = attempts.read_attempts(staged.settings.home, ["shard_01"])
    assert [(attempt.attempt, attempt.status.value) for attempt in known] == [(1, "failed"), (2, "succeeded")]
    assert "the disk said no" in (known[0].error or "")
    (made,) = materializations(result, "shard_profiles")
    assert made.metadata["attempt"].value == 2
    manifest = shard.read_shard(staged.settings.home, "shard_01").manifest
    assert manifest is not None
    assert manifest.attempt == 2
    failed = lines(staged, result.run_id)[1]
    assert list(failed) == [
        "event",
        "shard_id",
        "attempt",
        "run_id",
        "status",
        "record_count",
        "elapsed_ms",
        "error",
    ]
    assert (failed["status"], failed["record_count"]) == ("failed", None)
    assert isinstance(failed["elapsed_ms"], int)


def test_a_fault_that_stays_fails_after_three_retries(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = break_shards(monkeypatch, OSError(5, "the disk said no"), {"shard_01": 99})
    result = staged.run("shard_profiles", partition="shard_01")
    assert not result.success
    assert builds["shard_01"] == 4


def test_a_permanent_fault_stops_at_once_and_names_the_repair(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = break_shards(monkeypatch, AccountingError("a customer too many"), {"shard_01": 99})
    result = staged.run("shard_profiles", partition="shard_01")
    assert not result.success
    assert builds["shard_01"] == 1
    assert "a customer too many" in failure_text(result)
    assert "etl-assets run --shards shard_01" in failure_text(result)
    assert [attempt.status.value for attempt in attempts.read_attempts(staged.settings.home, ["shard_01"])] == [
        "failed"
    ]


def test_a_shard_without_staged_sources_is_refused_with_what_to_do(project: CodeLocation) -> None:
    result = project.run("shard_profiles", partition="shard_00")
    assert not result.success
    assert "Materialize the assets of group 'sources' first" in failure_text(result)


def test_an_unchanged_shard_is_reused_and_force_builds_it(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = break_shards(monkeypatch, OSError(), {})
    assert staged.run("shard_profiles", partition="shard_01").success
    reused = staged.run("shard_profiles", partition="shard_01")
    assert builds["shard_01"] == 1
    assert lines(staged, reused.run_id)[-1]["status"] == "reused"
    staged.run("shard_profiles", partition="shard_01", config={"shard_profiles": {"force": True}})
    assert builds["shard_01"] == 2


def test_a_damaged_shard_is_built_again(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    builds = break_shards(monkeypatch, OSError(), {})
    assert staged.run("shard_profiles", partition="shard_01").success
    path = staged.settings.home.shard_file("shard_01")
    path.write_bytes(path.read_bytes()[:20_000])
    assert staged.run("shard_profiles", partition="shard_01").success
    assert builds["shard_01"] == 2


def test_a_run_over_all_shards_gives_each_its_own_data_version(staged: CodeLocation) -> None:
    """Fails: one data version for all shards, so that a change in one makes all of them look new."""
    single = materializations(staged.run("shard_profiles", partition="shard_01"), "shard_profiles")[0]
    made = {m.partition: m for m in materializations(staged.build_all(), "shard_profiles")}
    assert sorted(made) == SHARDS
    for shard_id, materialization in made.items():
        manifest = shard.read_shard(staged.settings.home, shard_id or "").manifest
        assert manifest is not None
        assert (materialization.tags or {})["dagster/data_version"] == manifest.content_hash
    # What Dagster itself notes of where a partition came from is noted here too, to the letter.
    assert made["shard_01"].tags == single.tags
    assert (single.tags or {})["dagster/input_data_version/crm"] == _staged_version(staged, "crm")
    assert made["shard_01"].metadata.keys() == single.metadata.keys()


def _staged_version(project: CodeLocation, source: str) -> str:
    return (project.materialized(source).tags or {})["dagster/data_version"]


def test_a_shard_that_fails_does_not_stop_the_others_of_its_run(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: one bad shard costs the work of all, and the UI does not show which one it was."""
    builds = break_shards(monkeypatch, OSError(5, "the disk said no"), {"shard_01": 99})
    result = staged.build_all()
    assert not result.success
    assert builds == {"shard_00": 1, "shard_01": 4, "shard_02": 1}
    assert "1 of 3 shards failed. shard_01: OSError" in failure_text(result)
    assert staged.instance.get_materialized_partitions(dg.AssetKey("shard_profiles")) == {"shard_00", "shard_02"}


def test_a_retry_builds_and_reports_only_what_failed(staged: CodeLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    break_shards(monkeypatch, OSError(5, "the disk said no"), {"shard_01": 1})
    result = staged.run("shard_profiles", tags=range_tags(SHARDS))
    assert result.success
    events = [entry.dagster_event for entry in staged.instance.all_logs(result.run_id) if entry.dagster_event]
    made = [event.step_materialization_data.materialization for event in events if event.is_step_materialization]
    assert Counter(materialization.partition for materialization in made) == dict.fromkeys(SHARDS, 1)
    ends = Counter(line["shard_id"] for line in lines(staged, result.run_id) if line["event"] == "shard_end")
    assert ends == dict.fromkeys(SHARDS, 1)


def test_attempts_of_a_run_that_the_daemon_repeats_are_counted_on(staged: CodeLocation) -> None:
    """Fails: after a killed process, the healing attempt looks like a first one."""
    result = staged.run("shard_profiles", partition="shard_01", tags={"dagster/retry_number": "1"})
    assert [line["attempt"] for line in lines(staged, result.run_id)] == [2, 2]


def test_a_cancelled_run_is_not_repeated_and_publishes_nothing(
    staged: CodeLocation, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Fails: "Terminate" in the UI, or Ctrl-C, only makes the run start over: Dagster retries interrupted steps."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("etl_assets.orchestration.shard_profiles.log_attempt", interrupt)
        # Keeps the shard from being done before the interrupt comes.
        faults.arm({"ETL_FAULT": "shard.before_sync hang"})
        request.addfinalizer(lambda: faults.arm({}))
        result = staged.run("shard_profiles", partition="shard_01")
    assert not result.success
    assert "Cancelled" in failure_text(result)
    assert "STEP_UP_FOR_RETRY" not in [event.event_type_value for event in result.all_events]
    (attempt,) = attempts.read_attempts(staged.settings.home, ["shard_01"])
    assert attempt.status.value == "cancelled"
    assert not staged.settings.home.shard_file("shard_01").exists()


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


def test_an_attempt_whose_process_was_killed_is_on_record_and_the_next_one_heals(
    staged: CodeLocation, tmp_path: Path
) -> None:
    """A worker that ran out of memory leaves no trace, or a torn shard."""
    settings = staged.settings
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ETL_")} | {
        "ETL_SOURCES": str(settings.sources),
        "ETL_HOME": str(settings.home.root),
        "ETL_NUM_SHARDS": "3",
        "ETL_FAULT": "shard.before_swap kill shard=shard_01",
        "DAGSTER_HOME": str(tmp_path),
    }
    killed = subprocess.run(
        [sys.executable, "-c", WORKER], env=environment, capture_output=True, timeout=120, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not settings.home.shard_file("shard_01").exists()
    (attempt,) = attempts.read_attempts(settings.home, ["shard_01"])
    assert (attempt.attempt, attempt.status.value, attempt.record_count) == (1, "killed", None)
    # As the daemon does by run_retries.
    healing = staged.run("shard_profiles", partition="shard_01", tags={"dagster/retry_number": "1"})
    assert healing.success, failure_text(healing)
    assert list(settings.home.shards.iterdir()) == [settings.home.shard_file("shard_01")]
    for name in ("shard_00", "shard_02"):
        given = shard.shard_input(settings.home, name, 3)
        build_shard(settings.home, given, run_id="other", attempt=1)
    assert staged.run("merged_profiles").success
    rows = query(settings.home.warehouse, "SELECT shard_id, attempt, status, record_count FROM shard_attempts")
    manifest = shard.read_shard(settings.home, "shard_01").manifest
    assert manifest is not None
    assert rows == [("shard_01", 1, "killed", None), ("shard_01", 2, "succeeded", manifest.record_count)]


def test_a_shard_of_no_customers_is_a_shard_like_any_other(project: CodeLocation, sources: Path) -> None:
    """With few customers and many shards some are empty, and the merge would wait for them for ever."""
    write_exports(sources, crm=[row("a")])
    assert project.stage().success
    assert project.build_all().success
    counts = [shard.read_shard(project.settings.home, name).manifest.record_count for name in SHARDS]  # type: ignore[union-attr]
    assert sorted(counts) == [0, 0, 1]
    assert project.instance.get_materialized_partitions(dg.AssetKey("shard_profiles")) == set(SHARDS)
