"""A run as JSON lines: the fields that scripts rely on."""

import contextlib
import json
import threading
from datetime import UTC, datetime
from typing import Any

from etl_assets.pipeline import event_lines
from etl_assets.pipeline.events import StepEvent
from etl_assets.pipeline.report import Report, ShardReport, SourceReport

AT = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
PUBLICATION: dict[str, object] = {
    "published_at": AT,
    "record_count": 20,
    "digest": "d",
    "shard_count": 2,
    "set_hash": "s",
    "is_partial": False,
    "missing_shards": [],
}


def _read(line: str) -> dict[str, Any]:
    assert "\n" not in line
    assert line.isascii()
    read: dict[str, Any] = json.loads(line)
    return read


def test_a_step_has_a_line_with_all_its_fields() -> None:
    event = StepEvent("retrying", "shard_profiles", "shard_01", "OSError: Zoë\nstack", elapsed_ms=7, attempt=2)
    assert _read(event_lines.step_line(event, AT)) == {
        "event": "retrying",
        "at": "2026-05-01T12:30:00.000+00:00",
        "step": "shard_profiles",
        "shard_id": "shard_01",
        "attempt": 2,
        "record_count": None,
        "elapsed_ms": 7,
        "reused": False,
        "message": "OSError: Zoë\nstack",
    }


def test_the_report_names_what_failed_and_the_recovery() -> None:
    report = Report(
        sources=[
            SourceReport("crm", None, None, None, {}, False, 5, "no"),
            SourceReport("b", 1, 1, 0, {}, True, 0, None),
        ],
        shards=[ShardReport("shard_00", "published", 3, 1, 9), ShardReport("shard_01", "failed", error="no")],
        merge_error="Not merged: shard_01 failed.",
        elapsed_ms=70,
    )
    read = _read(event_lines.report_line(report, AT, exit_code=1, recovery="etl-assets run"))
    assert (read["event"], read["exit_code"], read["elapsed_ms"]) == ("report", 1, 70)
    assert (read["failed_sources"], read["failed_shards"]) == (["crm"], ["shard_01"])
    assert (read["merge_error"], read["recovery"]) == ("Not merged: shard_01 failed.", "etl-assets run")
    assert (read["publication"], read["is_warehouse_replaced"], read["is_unchanged"]) == (None, False, False)
    assert read["shards"][0] == {
        "shard_id": "shard_00",
        "status": "published",
        "record_count": 3,
        "attempts": 1,
        "elapsed_ms": 9,
        "error": None,
        "run_id": None,
    }
    assert set(read["sources"][0]) == {
        *("source", "rows_in", "rows_accepted", "rows_quarantined", "reasons", "reused", "elapsed_ms", "error")
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
    threads = [threading.Thread(target=observe, args=[StepEvent("started", "crm")]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert met == []
