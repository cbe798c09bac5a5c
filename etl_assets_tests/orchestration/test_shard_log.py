"""The JSON lines of attempts in Dagster's log, and how attempts are counted."""

import json
import logging
from typing import Any

import dagster as dg
import pytest

from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.status import Status
from etl_assets.orchestration.shard_log import AttemptLog, attempt_number
from etl_assets_tests.dagster_runs import failure_text

FIELDS = ["event", "shard_id", "attempt", "run_id", "status", "record_count", "elapsed_ms"]


def attempt(status: Status, *, number: int = 1, error: str | None = None) -> Attempt:
    ended = status is not Status.RUNNING
    return Attempt(
        shard_id="shard_03",
        run_id="run-1",
        number=number,
        status=status,
        started_at="2026-11-01T05:00:00.000000+00:00",
        ended_at="2026-11-01T05:00:01.250000+00:00" if ended else None,
        elapsed_ms=1250 if ended else None,
        record_count=7 if status in (Status.SUCCEEDED, Status.REUSED) else None,
        error=error,
        host="host",
        pid=1,
        process_start="0",
        sequence=number,
    )


def logged(instance: dg.DagsterInstance, *attempts: Attempt, shard_count: int = 1) -> list[dg.EventLogEntry]:
    """What is in the instance's log of a run of so many shards that logs these attempts."""

    @dg.asset
    def shards(context: dg.AssetExecutionContext) -> None:
        log = AttemptLog(context, shard_count)
        for found in attempts:
            log.add(found)
        log.flush()

    result = dg.materialize([shards], instance=instance)
    return [entry for entry in instance.all_logs(result.run_id) if entry.user_message.startswith("{")]


@pytest.mark.parametrize(
    ("status", "error", "event", "level"),
    [
        (Status.RUNNING, None, "shard_start", "INFO"),
        (Status.SUCCEEDED, None, "shard_end", "INFO"),
        (Status.REUSED, None, "shard_end", "INFO"),
        (Status.FAILED, "OSError: no", "shard_failed", "ERROR"),
        (Status.CANCELLED, "StoppedError: stopped", "shard_failed", "ERROR"),
        (Status.KILLED, "the process was killed or lost", "shard_failed", "ERROR"),
    ],
)
def test_a_line_says_what_became_of_the_attempt(
    instance: dg.DagsterInstance, status: Status, error: str | None, event: str, level: str
) -> None:
    """Fails: searches and alerts that go by these names find nothing; a failure that is no error raises no alarm."""
    (entry,) = logged(instance, attempt(status, error=error))
    line = json.loads(entry.user_message)
    assert (line["event"], line["status"]) == (event, status.value)
    assert line.get("error") == error
    assert logging.getLevelName(entry.level) == level


def test_a_line_holds_the_promised_fields_and_no_others(instance: dg.DagsterInstance) -> None:
    started, ended, failed = logged(
        instance,
        attempt(Status.RUNNING),
        attempt(Status.SUCCEEDED),
        attempt(Status.FAILED, number=2, error='the disk said "no"\nand went'),
    )
    assert json.loads(started.user_message) == {
        "event": "shard_start",
        "shard_id": "shard_03",
        "attempt": 1,
        "run_id": "run-1",
        "status": "running",
        "record_count": None,
        "elapsed_ms": None,
    }
    assert list(json.loads(ended.user_message)) == FIELDS
    assert (json.loads(ended.user_message)["record_count"], json.loads(ended.user_message)["elapsed_ms"]) == (7, 1250)
    assert list(json.loads(failed.user_message)) == [*FIELDS, "error"]
    # One line for each event: log collectors read line by line.
    assert "\n" not in failed.user_message


def numbers(instance: dg.DagsterInstance, fails: int, tags: dict[str, str]) -> list[int]:
    """The attempt numbers that a step sees which fails so many times."""
    seen: list[int] = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=3))
    def flaky(context: dg.AssetExecutionContext) -> None:
        seen.append(attempt_number(context))
        if len(seen) <= fails:
            raise OSError(5, "no")

    options: dict[str, Any] = {"instance": instance, "tags": tags}
    assert dg.materialize([flaky], **options).success
    return seen


@pytest.mark.parametrize(
    ("fails", "tags", "expected"),
    [
        (0, {}, [1]),
        (2, {}, [1, 2, 3]),
        (0, {"dagster/retry_number": "1"}, [2]),
        (1, {"dagster/retry_number": "2"}, [3, 4]),
    ],
)
def test_retries_of_the_step_and_of_a_killed_run_are_counted_together(
    instance: dg.DagsterInstance, fails: int, tags: dict[str, str], expected: list[int]
) -> None:
    """Fails: the attempt that heals after a kill looks like a first one, and overwrites what is known of that."""
    assert numbers(instance, fails, tags) == expected


@pytest.mark.parametrize("tag", ["x", "", "-1", "1.5", "1" * 30, "١"])
def test_a_tag_that_is_no_number_is_named_at_once(instance: dg.DagsterInstance, tag: str) -> None:
    """Tags can be set at launch. Fails: the run ends after all retries with a text that says nothing of the tag."""
    seen: list[str] = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=3))
    def asked(context: dg.AssetExecutionContext) -> None:
        seen.append(context.run.run_id)
        attempt_number(context)

    tags = {"dagster/retry_number": tag}
    result = dg.materialize([asked], instance=instance, tags=tags, raise_on_error=False)
    assert not result.success
    assert f"The tag dagster/retry_number of this run is {tag!r}. Expected a whole number" in failure_text(result)
    assert len(seen) == 1


def test_a_run_of_many_shards_shares_entries_and_writes_a_failure_at_once(instance: dg.DagsterInstance) -> None:
    """Fails: a thousand shards cost two thousand entries, or a failure appears after the run."""
    good = [attempt(Status.SUCCEEDED, number=number) for number in range(1, 121)]
    bad = attempt(Status.FAILED, number=121, error="OSError: no")
    entries = logged(instance, *good, bad, attempt(Status.RUNNING, number=122), shard_count=101)
    lines = [[json.loads(line) for line in entry.user_message.splitlines()] for entry in entries]
    assert [len(part) for part in lines] == [50, 50, 20, 1, 1]
    assert [line["attempt"] for part in lines for line in part] == list(range(1, 123))
    assert entries[3].level == logging.ERROR
    assert lines[3][0]["error"] == "OSError: no"


def test_a_run_of_a_hundred_shards_has_an_entry_for_each_line(instance: dg.DagsterInstance) -> None:
    entries = logged(instance, *(attempt(Status.SUCCEEDED, number=number) for number in range(1, 4)), shard_count=100)
    assert [json.loads(entry.user_message)["attempt"] for entry in entries] == [1, 2, 3]
