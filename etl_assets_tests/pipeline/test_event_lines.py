"""A run as JSON lines: the fields that scripts rely on."""

import contextlib
import json
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from etl_assets.engine.published.status import Status
from etl_assets.engine.published.unmatched import KeyMapFacts
from etl_assets.engine.published.warehouse import Publication
from etl_assets.errors import Action, Advice, EtlError, InputError, RejectRatioError
from etl_assets.pipeline import event_lines
from etl_assets.pipeline.events import StepEvent
from etl_assets.pipeline.report import Report, ShardReport, SourceReport

AT = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
PUBLICATION = Publication(AT, "a-run", 20, "d", 2, "v", "s", False, (), 0)


def _read(line: str) -> dict[str, Any]:
    assert "\n" not in line
    assert line.isascii()
    read: dict[str, Any] = json.loads(line)
    return read


def test_a_step_has_a_line_with_all_its_fields() -> None:
    error = OSError("Zoë\nstack")
    event = StepEvent(Status.RETRYING, "shard_profiles", "shard_01", error, elapsed_ms=7, attempt=2)
    assert _read(event_lines.step_line(event, AT)) == {
        "event": "step",
        "at": "2026-05-01T12:30:00.000+00:00",
        "step": "shard_profiles",
        "status": "retrying",
        "shard_id": "shard_01",
        "attempt": 2,
        "record_count": None,
        "elapsed_ms": 7,
        "error": "Zoë\nstack",
        "error_kind": "OSError",
    }


@pytest.mark.parametrize(
    ("error", "text", "kind"),
    [
        (RejectRatioError("too many", Advice(Action.EXPORT_AGAIN)), "too many", "reject_ratio"),
        (InputError("no file"), "no file", "input"),
        (None, None, None),
    ],
)
def test_an_error_is_its_finding_and_its_kind(error: Exception | None, text: str | None, kind: str | None) -> None:
    """A script that has to tell a bad export from a full disk would have to parse English."""
    read = _read(event_lines.step_line(StepEvent(Status.FAILED, "crm", error=error), AT))
    assert (read["error"], read["error_kind"]) == (text, kind)


def test_the_words_of_a_status_are_those_that_are_documented() -> None:
    """A renamed word breaks every script that waits for it."""
    statuses = (Status.RUNNING, Status.RETRYING, Status.SUCCEEDED, Status.REUSED, Status.FAILED)
    words = [_read(event_lines.step_line(StepEvent(status, "crm"), AT))["status"] for status in statuses]
    assert words == ["running", "retrying", "succeeded", "reused", "failed"]
    assert [word for word in words if word not in str(event_lines.__doc__)] == []


def test_the_report_names_what_failed_and_the_recovery() -> None:
    report = Report(
        sources=[
            SourceReport("crm", elapsed_ms=5, error=InputError("no")),
            SourceReport("b", 1, 1, 0, {}, True, 0, key_map=KeyMapFacts(("ids.csv",), 4, 1, 3, ())),
        ],
        shards=[
            ShardReport("shard_00", Status.SUCCEEDED, 3, 1, 9),
            ShardReport("shard_01", Status.FAILED, error="no", advice=(Advice(Action.REPORT),)),
        ],
        merge_error=EtlError("Not merged: shard_01 failed."),
        elapsed_ms=70,
    )
    read = _read(event_lines.report_line(report, AT, exit_code=1, recovery="etl-assets run"))
    assert (read["event"], read["exit_code"], read["elapsed_ms"]) == ("report", 1, 70)
    assert (read["failed_sources"], read["failed_shards"]) == (["crm"], ["shard_01"])
    assert (read["merge_error"], read["recovery"]) == ("Not merged: shard_01 failed.", "etl-assets run")
    assert (read["publication"], read["is_warehouse_replaced"], read["is_unchanged"]) == (None, False, False)
    assert read["shards"][0] == {
        "shard_id": "shard_00",
        "status": "succeeded",
        "record_count": 3,
        "attempts": 1,
        "elapsed_ms": 9,
        "error": None,
        "run_id": None,
        "advice": [],
    }
    assert read["shards"][1]["advice"] == [{"action": "report", "setting": None, "value": None, "shards": []}]
    assert (read["sources"][0]["error"], read["sources"][0]["error_kind"]) == ("no", "input")
    assert read["sources"][1]["key_map"] == {
        "files": ["ids.csv"],
        "rows_in": 4,
        "rows_ignored": 1,
        "id_count": 3,
        "unmatched": [],
    }
    assert set(read["sources"][0]) == {
        *(
            "source",
            "rows_in",
            "rows_accepted",
            "rows_empty",
            "rows_quarantined",
            "reasons",
            "reused",
            "elapsed_ms",
            "error",
        ),
        *("error_kind", "cell_reasons", "key_map", "files", "ignored_columns"),
    }


def test_the_report_of_a_success_has_the_publication() -> None:
    read = _read(event_lines.report_line(Report(publication=PUBLICATION), AT, exit_code=0, recovery=None))
    assert read["recovery"] is None
    assert read["publication"] == {
        "published_at": "2026-05-01T12:30:00+00:00",
        "record_count": 20,
        "digest": "d",
        "shard_count": 2,
        "is_partial": False,
        "missing_shards": [],
    }


def test_one_event_is_written_at_a_time() -> None:
    """Lines of two threads would mix."""
    meeting = threading.Barrier(2)
    met: list[str] = []

    def write(line: str) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            meeting.wait(timeout=0.3)
            met.append(line)

    observe = event_lines.writer(write)
    threads = [threading.Thread(target=observe, args=[StepEvent(Status.RUNNING, "crm")]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == []
