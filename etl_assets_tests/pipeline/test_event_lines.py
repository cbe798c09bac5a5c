"""A run as JSON lines: the fields that scripts rely on."""

import json
import threading
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import Publication
from etl_assets.errors import Action, Advice, EtlError, RejectRatioError, ShardSetError
from etl_assets.pipeline import event_lines
from etl_assets.pipeline.events import StepEvent
from etl_assets.pipeline.report import Report, ShardReport, SourceReport

AT = datetime(2026, 5, 1, 12, 30, tzinfo=UTC)
PUBLICATION = Publication(
    published_at=AT,
    run_id="run",
    record_count=20,
    digest="v2-20-1-2",
    shard_count=2,
    code_version="c",
    set_hash="s",
    is_partial=False,
    missing_shards=(),
    duplicates_dropped=0,
)


def _read(line: str) -> dict[str, Any]:
    assert "\n" not in line
    assert line.isascii()
    read: dict[str, Any] = json.loads(line)
    return read


def test_a_step_has_a_line_with_all_its_fields() -> None:
    event = StepEvent(Status.RETRYING, "shard_profiles", "shard_01", OSError(5, "Zoë\nstack"), elapsed_ms=7, attempt=2)
    assert _read(event_lines.step_line(event, AT)) == {
        "event": "step",
        "at": "2026-05-01T12:30:00.000+00:00",
        "step": "shard_profiles",
        "status": "retrying",
        "shard_id": "shard_01",
        "attempt": 2,
        "record_count": None,
        "elapsed_ms": 7,
        "error": "[Errno 5] Zoë\nstack",
        "error_kind": "OSError",
    }


def test_a_step_without_an_error_has_the_same_fields() -> None:
    read = _read(event_lines.step_line(StepEvent(Status.RUNNING, "crm"), AT))
    assert read.keys() == _read(event_lines.step_line(StepEvent(Status.FAILED, "crm", error=OSError()), AT)).keys()
    assert (read["status"], read["error"], read["error_kind"], read["shard_id"]) == ("running", None, None, None)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(ShardSetError("no"), "shard_set"), (RejectRatioError("no"), "reject_ratio"), (KeyError(), "KeyError")],
)
def test_an_error_has_a_kind_that_scripts_can_compare(error: Exception, kind: str) -> None:
    """Fails: a script has to search a sentence, which the next version words otherwise."""
    event = StepEvent(Status.FAILED, "crm", error=error)
    assert _read(event_lines.step_line(event, AT))["error_kind"] == kind


def test_the_report_names_what_failed_and_the_recovery() -> None:
    report = Report(
        sources=[
            SourceReport("crm", elapsed_ms=5, error=RejectRatioError("Too many.", Advice(Action.EXPORT_AGAIN))),
            SourceReport("billing", 3, 2, 1, {"malformed_row": 1}, reused=True, elapsed_ms=0),
        ],
        shards=[ShardReport("shard_00", Status.SUCCEEDED, 3, 1, 9), ShardReport("shard_01", Status.FAILED, error="no")],
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
    }
    assert read["sources"] == [
        {
            "source": "crm",
            "rows_in": None,
            "rows_accepted": None,
            "rows_quarantined": None,
            "reasons": {},
            "reused": False,
            "elapsed_ms": 5,
            "error": "Too many.",
            "error_kind": "reject_ratio",
        },
        {
            "source": "billing",
            "rows_in": 3,
            "rows_accepted": 2,
            "rows_quarantined": 1,
            "reasons": {"malformed_row": 1},
            "reused": True,
            "elapsed_ms": 0,
            "error": None,
            "error_kind": None,
        },
    ]


def test_the_report_of_a_success_has_the_publication() -> None:
    read = _read(event_lines.report_line(Report(publication=PUBLICATION), AT, exit_code=0, recovery=None))
    assert read["recovery"] is None
    assert read["merge_error"] is None
    assert read["publication"] == {
        "published_at": "2026-05-01T12:30:00+00:00",
        "record_count": 20,
        "digest": "v2-20-1-2",
        "shard_count": 2,
        "is_partial": False,
        "missing_shards": [],
    }


def test_the_report_of_a_partial_publication_names_the_shards_and_of_a_red_check_the_check() -> None:
    partial = replace(PUBLICATION, is_partial=True, missing_shards=("shard_01",))
    report = Report(publication=partial, failed_checks=("customers_unique",))
    read = _read(event_lines.report_line(report, AT, exit_code=1, recovery="etl-assets run"))
    assert (read["publication"]["is_partial"], read["publication"]["missing_shards"]) == (True, ["shard_01"])
    assert read["failed_checks"] == ["customers_unique"]


def test_events_of_several_threads_are_whole_lines() -> None:
    written: list[str] = []

    def write(line: str) -> None:
        for character in line:
            written.append(character)
        written.append("\n")

    observe = event_lines.writer(write)
    threads = [
        threading.Thread(target=lambda: [observe(StepEvent(Status.RUNNING, "crm")) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = "".join(written).splitlines()
    assert [_read(line)["status"] for line in lines] == ["running"] * 200
