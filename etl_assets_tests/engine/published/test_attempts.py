"""The record of attempts: how each ended, including those that could not record it themselves."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, tzinfo

import pytest

from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.status import Status

# Begins an attempt and works on it until it is ended.
_WORKER = """
import sys
from pathlib import Path
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts

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
    """Put a record there as an earlier run would have."""
    name = f"{attempt.sequence:09d}-{attempt.run_id[:8]}-{attempt.number}.json"
    publishing.publish_json(home.attempts_at(attempt.shard_id) / name, asdict(attempt))


def test_an_attempt_is_running_until_it_says_how_it_ended(home: Home) -> None:
    begun = attempts.start(home, "shard_03", "run-1", 1)
    assert attempts.read_attempts(home, ["shard_03"]) == [begun]
    assert begun.status is Status.RUNNING
    assert (begun.ended_at, begun.elapsed_ms, begun.record_count, begun.error) == (None, None, None, None)

    ended = attempts.finish(home, begun, Status.SUCCEEDED, record_count=7)
    assert attempts.read_attempts(home, ["shard_03"]) == [ended]
    assert (ended.shard_id, ended.run_id, ended.number) == ("shard_03", "run-1", 1)
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
    assert [attempt.number for attempt in attempts.read_attempts(home, ["shard_03"])] == [1, 2, 3, 4]


def test_a_killed_process_leaves_a_killed_attempt(home: Home) -> None:
    """Fails: a killed attempt is not in shard_attempts, or is shown as running for ever."""
    process = worker(home)
    with process:
        assert statuses(home, "shard_03") == [Status.RUNNING]
        process.kill()
    (attempt,) = attempts.read_attempts(home, ["shard_03"])
    assert (attempt.status, attempt.run_id, attempt.number) == (Status.KILLED, "killed-run", 2)
    assert (attempt.ended_at, attempt.elapsed_ms, attempt.record_count) == (None, None, None)
    assert attempt.error == "the process was killed or lost"


def test_a_retry_does_not_hide_the_killed_attempt_before_it(home: Home) -> None:
    with worker(home) as process:
        process.kill()
    attempts.finish(home, attempts.start(home, "shard_03", "run-2", 1), Status.SUCCEEDED, record_count=1)
    assert statuses(home, "shard_03") == [Status.KILLED, Status.SUCCEEDED]


def test_an_attempt_whose_end_could_not_be_recorded_is_over_when_its_run_tries_again(home: Home) -> None:
    """Fails: the warehouse never lists it, because it seems to be running still."""
    attempts.start(home, "shard_03", "run", 1)
    attempts.finish(home, attempts.start(home, "shard_03", "run", 2), Status.SUCCEEDED, record_count=1)
    lost, healed = attempts.read_attempts(home, ["shard_03"])
    assert (lost.status, lost.error) == (Status.FAILED, "its end could not be recorded; its run tried again")
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
    write(home, foreign)
    assert statuses(home, "shard_03") == [Status.RUNNING]
    write(home, replace(foreign, pid=2, sequence=2))
    assert statuses(home, "shard_03") == [Status.KILLED, Status.RUNNING]


def test_attempts_are_read_oldest_first_shard_by_shard(home: Home) -> None:
    for shard_id in ("shard_01", "shard_00", "shard_01"):
        attempts.finish(home, attempts.start(home, shard_id, f"run-{shard_id}", 1), Status.SUCCEEDED)
    found = attempts.read_attempts(home, ["shard_00", "shard_01", "shard_02"])
    assert [attempt.shard_id for attempt in found] == ["shard_00", "shard_01", "shard_01"]
    assert found[1].started_at < found[2].started_at


@pytest.mark.parametrize("moved", [timedelta(days=-400), timedelta(days=400)])
def test_an_attempt_after_the_clock_was_set_is_still_the_latest(
    home: Home, monkeypatch: pytest.MonkeyPatch, moved: timedelta
) -> None:
    """Fails: an attempt that is dated in the future is the latest until that day, and blocks the merge sensor."""
    attempts.finish(home, attempts.start(home, "shard_03", "first", 1), Status.FAILED, error="no")

    class Clock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return super().now(tz) + moved

    with monkeypatch.context() as after_setting_it:
        after_setting_it.setattr(attempts, "datetime", Clock)
        attempts.finish(home, attempts.start(home, "shard_03", "second", 1), Status.SUCCEEDED, record_count=1)
    attempts.finish(home, attempts.start(home, "shard_03", "third", 1), Status.CANCELLED)
    found = attempts.read_attempts(home, ["shard_03"])
    assert [(attempt.run_id, attempt.sequence) for attempt in found] == [("first", 1), ("second", 2), ("third", 3)]
    assert [attempt.run_id for attempt in attempts.latest_attempts(home, ["shard_03"])] == ["third"]


def test_a_clock_that_goes_back_during_an_attempt_gives_no_negative_time(home: Home) -> None:
    begun = attempts.start(home, "shard_03", "run", 1)
    later = datetime.fromisoformat(begun.started_at) + timedelta(hours=1)
    ended = attempts.finish(home, replace(begun, started_at=later.isoformat()), Status.SUCCEEDED, record_count=1)
    assert ended.elapsed_ms == 0


def test_numbers_go_on_after_a_thousand_million_attempts(home: Home) -> None:
    """Fails: the file of a ten-digit number sorts before all others."""
    begun = attempts.start(home, "shard_03", "run", 1)
    write(home, replace(begun, sequence=999_999_998, run_id="last"))
    attempts.start(home, "shard_03", "next", 1)
    assert [attempt.run_id for attempt in attempts.latest_attempts(home, ["shard_03"])] == ["next"]


def test_only_the_last_attempts_of_a_shard_are_kept(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a pipeline that runs every minute fills its folder with small files."""
    monkeypatch.setattr(attempts, "MAX_KEPT", 3)
    for number in range(1, 6):
        attempts.finish(home, attempts.start(home, "shard_03", "run", number), Status.SUCCEEDED)
    attempts.start(home, "shard_04", "run", 1)
    kept = attempts.read_attempts(home, ["shard_03", "shard_04"])
    assert [(attempt.shard_id, attempt.number) for attempt in kept] == [
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
    write(home, replace(begun, number=2))
    assert len(statuses(home, "shard_03")) == 3


@pytest.mark.parametrize(
    "text",
    [
        "\0\0",
        "",
        "null",
        "[]",
        "7",
        '"shard_03"',
        "{}",
        '{"status": "running"}',
        '{"shard_id": "shard_03", "attempt": 1, "status": "running", "recorded_at": "an earlier version"}',
        "SOUND with an unknown status",
    ],
)
def test_a_document_of_another_shape_is_no_attempt(home: Home, text: str) -> None:
    """Fails: one damaged file, or one of another version, keeps the merge from publishing."""
    begun = attempts.start(home, "shard_03", "run", 1)
    if text.startswith("SOUND"):
        text = json.dumps(asdict(begun) | {"status": "exploded"})
    (home.attempts_at("shard_03") / "000000002-damaged-1.json").write_text(text)
    assert attempts.read_attempts(home, ["shard_03"]) == [begun]
    assert attempts.latest_attempts(home, ["shard_03"]) == [begun]
    assert attempts.start(home, "shard_03", "run", 2).sequence == 3


def test_a_shard_never_attempted_has_no_attempts(home: Home) -> None:
    assert attempts.read_attempts(home, ["shard_03"]) == []


def test_the_latest_attempt_of_each_shard_is_the_last_one_judged(home: Home) -> None:
    with worker(home) as process:
        process.kill()
    for number, shard_id in enumerate(["shard_00", "shard_00"], 1):
        attempts.finish(home, attempts.start(home, shard_id, "run", number), Status.FAILED)
    found = attempts.latest_attempts(home, ["shard_00", "shard_02", "shard_03"])
    assert [(attempt.shard_id, attempt.number, attempt.status) for attempt in found] == [
        ("shard_00", 2, Status.FAILED),
        ("shard_03", 2, Status.KILLED),
    ]
