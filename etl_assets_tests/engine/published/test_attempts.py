"""The record of attempts: how each ended, also those that could not say so themselves."""

import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

import pytest

from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts
from etl_assets.engine.published.attempts import Attempt, Status

# Begins an attempt and works on it until it is ended.
_WORKER = """
import sys
from pathlib import Path
from etl_assets.engine import attempts
from etl_assets.engine.storage import Home

attempts.start(Home(Path(sys.argv[1])), "shard_03", "killed-run", 2)
print("begun", flush=True)
sys.stdin.read()
"""


def worker(home: Home) -> "subprocess.Popen[str]":
    """A real process in the middle of an attempt."""
    command = [sys.executable, "-c", _WORKER, str(home.root)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def statuses(home: Home, *shard_ids: str) -> list[Status]:
    return [attempt.status for attempt in attempts.read_attempts(home, shard_ids)]


def write(home: Home, attempt: Attempt) -> None:
    """Put a document there as an earlier run would have."""
    name = f"{attempt.started_at.replace(':', '')}-{attempt.run_id[:8]}-{attempt.attempt}.json"
    storage.publish_json(home.attempts / attempt.shard_id / name, asdict(attempt))


def test_an_attempt_is_running_until_it_says_how_it_ended(home: Home) -> None:
    begun = attempts.start(home, "shard_03", "run-1", 1)
    assert attempts.read_attempts(home, ["shard_03"]) == [begun]
    assert begun.status is Status.RUNNING
    assert (begun.ended_at, begun.elapsed_ms, begun.record_count, begun.error) == (None, None, None, None)

    ended = attempts.finish(home, begun, Status.SUCCEEDED, record_count=7)
    assert attempts.read_attempts(home, ["shard_03"]) == [ended]
    assert (ended.shard_id, ended.run_id, ended.attempt) == ("shard_03", "run-1", 1)
    assert (ended.status, ended.record_count, ended.error) == (Status.SUCCEEDED, 7, None)
    assert ended.ended_at is not None
    assert ended.elapsed_ms is not None
    assert ended.elapsed_ms >= 0


def test_the_elapsed_time_is_that_between_start_and_end(home: Home) -> None:
    begun = attempts.start(home, "shard_03", "run-1", 1)
    earlier = datetime.fromisoformat(begun.started_at) - timedelta(milliseconds=90_000)
    ended = attempts.finish(home, replace(begun, started_at=earlier.isoformat()), Status.FAILED, error="no")
    assert ended.elapsed_ms is not None
    assert 90_000 <= ended.elapsed_ms < 150_000
    assert ended.started_at < str(ended.ended_at)


def test_times_are_utc(home: Home) -> None:
    begun = attempts.start(home, "shard_03", "run-1", 1)
    assert datetime.fromisoformat(begun.started_at).utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(begun.started_at)) < timedelta(minutes=5)


def test_every_way_to_end_is_read_back(home: Home) -> None:
    ways = [Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.REUSED]
    for number, way in enumerate(ways, 1):
        attempts.finish(home, attempts.start(home, "shard_03", "run-1", number), way)
    assert statuses(home, "shard_03") == ways
    assert [attempt.attempt for attempt in attempts.read_attempts(home, ["shard_03"])] == [1, 2, 3, 4]


def test_a_killed_process_leaves_a_killed_attempt(home: Home) -> None:
    """Fails: a killed attempt is not in shard_attempts, or is shown as running for ever."""
    process = worker(home)
    with process:
        assert statuses(home, "shard_03") == [Status.RUNNING]
        process.kill()
    (attempt,) = attempts.read_attempts(home, ["shard_03"])
    assert (attempt.status, attempt.run_id, attempt.attempt) == (Status.KILLED, "killed-run", 2)
    assert (attempt.ended_at, attempt.elapsed_ms, attempt.record_count) == (None, None, None)
    assert attempt.error == "the process was killed or lost"


def test_a_retry_does_not_hide_the_killed_attempt_before_it(home: Home) -> None:
    with worker(home) as process:
        process.kill()
    attempts.finish(home, attempts.start(home, "shard_03", "run-2", 1), Status.SUCCEEDED, record_count=1)
    assert statuses(home, "shard_03") == [Status.KILLED, Status.SUCCEEDED]


def test_an_attempt_whose_end_could_not_be_noted_is_over_when_its_run_tries_again(home: Home) -> None:
    """Fails: the warehouse leaves it out as one that still runs, and nobody learns of it."""
    attempts.start(home, "shard_03", "run", 1)
    attempts.finish(home, attempts.start(home, "shard_03", "run", 2), Status.SUCCEEDED, record_count=1)
    lost, healed = attempts.read_attempts(home, ["shard_03"])
    assert (lost.status, lost.error) == (Status.FAILED, "how it ended could not be noted; its run tried again")
    assert healed.status is Status.SUCCEEDED


def test_an_attempt_of_another_run_does_not_end_one_that_is_under_way(home: Home) -> None:
    attempts.start(home, "shard_03", "run", 1)
    attempts.start(home, "shard_03", "another", 1)
    assert statuses(home, "shard_03") == [Status.RUNNING, Status.RUNNING]


def test_another_hosts_attempt_is_running_until_the_shard_is_attempted_again(home: Home) -> None:
    """Fails: a shard that runs on another machine is reported as killed."""
    here = attempts.start(home, "shard_03", "run-9", 1)
    (home.attempts / "shard_03").rename(home.attempts / "shard_04")
    foreign = replace(here, host="another-host", pid=1, run_id="foreign")
    write(home, replace(foreign, started_at="2026-01-01T00:00:00.000001+00:00"))
    assert statuses(home, "shard_03") == [Status.RUNNING]
    write(home, replace(foreign, pid=2, started_at="2026-01-01T00:00:00.000002+00:00"))
    assert statuses(home, "shard_03") == [Status.KILLED, Status.RUNNING]


def test_attempts_are_read_oldest_first_shard_by_shard(home: Home) -> None:
    for shard_id in ("shard_01", "shard_00", "shard_01"):
        attempts.finish(home, attempts.start(home, shard_id, f"run-{shard_id}", 1), Status.SUCCEEDED)
    found = attempts.read_attempts(home, ["shard_00", "shard_01", "shard_02"])
    assert [attempt.shard_id for attempt in found] == ["shard_00", "shard_01", "shard_01"]
    assert found[1].started_at < found[2].started_at


def test_an_attempt_begun_on_the_full_second_sorts_before_later_ones(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: once in a million starts, the last attempt is not the one shown as the last."""
    moments = [datetime(2026, 5, 1, 12, 0, 0, microsecond, UTC) for microsecond in (0, 5)]

    class Clock:
        @staticmethod
        def now(_zone: object) -> datetime:
            return moments.pop(0)

    monkeypatch.setattr(attempts, "datetime", Clock)
    attempts.start(home, "shard_03", "first", 1)
    attempts.start(home, "shard_03", "second", 1)
    assert [attempt.run_id for attempt in attempts.read_attempts(home, ["shard_03"])] == ["first", "second"]


def test_only_the_last_attempts_of_a_shard_are_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a pipeline that runs every minute fills its folder with small files."""
    monkeypatch.setattr(attempts, "MAX_KEPT", 3)
    for number in range(1, 6):
        attempts.finish(home, attempts.start(home, "shard_03", "run", number), Status.SUCCEEDED)
    attempts.start(home, "shard_04", "run", 1)
    kept = attempts.read_attempts(home, ["shard_03", "shard_04"])
    assert [(attempt.shard_id, attempt.attempt) for attempt in kept] == [
        ("shard_03", 3),
        ("shard_03", 4),
        ("shard_03", 5),
        ("shard_04", 1),
    ]


def test_an_endless_error_is_cut(home: Home) -> None:
    ended = attempts.finish(home, attempts.start(home, "shard_03", "run", 1), Status.FAILED, error="x" * 100_000)
    assert ended.error == "x" * attempts.MAX_ERROR_CHARS
    assert attempts.read_attempts(home, ["shard_03"]) == [ended]


def test_two_attempts_at_the_same_moment_are_two_records(home: Home) -> None:
    begun = attempts.start(home, "shard_03", "run-one", 1)
    write(home, replace(begun, run_id="other-run"))
    write(home, replace(begun, attempt=2))
    assert len(statuses(home, "shard_03")) == 3


def test_a_damaged_record_is_passed_over(home: Home) -> None:
    """Fails: one unreadable file keeps the merge from publishing."""
    begun = attempts.start(home, "shard_03", "run", 1)
    (home.attempts / "shard_03" / "0000.json").write_bytes(b"\0\0")
    assert attempts.read_attempts(home, ["shard_03"]) == [begun]


def test_a_shard_never_attempted_has_no_attempts(home: Home) -> None:
    assert attempts.read_attempts(home, ["shard_03"]) == []


def test_the_latest_attempt_of_each_shard_is_the_last_one_judged(home: Home) -> None:
    with worker(home) as process:
        process.kill()
    for number, shard_id in enumerate(["shard_00", "shard_00"], 1):
        attempts.finish(home, attempts.start(home, shard_id, "run", number), Status.FAILED)
    found = attempts.latest_attempts(home, ["shard_00", "shard_02", "shard_03"])
    assert [(attempt.shard_id, attempt.attempt, attempt.status) for attempt in found] == [
        ("shard_00", 2, Status.FAILED),
        ("shard_03", 2, Status.KILLED),
    ]
