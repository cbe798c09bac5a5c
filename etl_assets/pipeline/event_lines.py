"""A run as JSON lines, for programs: `etl-assets run --events jsonl`. Its display for people is in `cli/`.

One object per line. Every line has `event` and `at` (ISO 8601, UTC). Unknown values are null. Fields may be added; none
is renamed or removed. The lines of a step have `event` = `step` and a `status`: running, retrying, succeeded, reused or
failed. The last line has `event` = `report`; if it is missing, the process stopped before the end of the run. Text is
ASCII with escapes, so every line is valid in every locale, whatever an error message quotes.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from etl_assets.errors import EtlError
from etl_assets.pipeline.events import Observer, StepEvent
from etl_assets.pipeline.report import Report, ShardReport, SourceReport


def step_line(event: StepEvent, at: datetime) -> str:
    """One event of one source, one shard or the merge; `elapsed_ms` is in milliseconds."""
    return _line(
        "step",
        at,
        {
            "step": event.step,
            "status": event.status,
            "shard_id": event.shard_id,
            "attempt": event.attempt,
            "record_count": event.record_count,
            "elapsed_ms": event.elapsed_ms,
            **_error(event.error),
        },
    )


def report_line(report: Report, at: datetime, *, exit_code: int, recovery: str | None) -> str:
    """The result of the run; `recovery` is the command that does what is left, None when nothing is left."""
    return _line(
        "report",
        at,
        {
            "exit_code": exit_code,
            "elapsed_ms": report.elapsed_ms,
            "is_unchanged": report.is_unchanged,
            "is_warehouse_replaced": report.is_warehouse_replaced,
            "publication": _publication(report),
            "sources": [_source(source) for source in report.sources],
            "shards": [_shard(shard) for shard in report.shards],
            "failed_sources": report.failed_sources,
            "failed_shards": report.failed_shards,
            "failed_checks": list(report.failed_checks),
            "warned_checks": list(report.warned_checks),
            "failing_rows": {check.name: check.failing_count for check in report.broken_checks},
            "notices": [asdict(notice) for notice in report.notices],
            "overlap": [asdict(one) for one in report.overlap],
            "unread_files": list(report.unread_files),
            "merge_error": _error(report.merge_error)["error"],
            "recovery": recovery,
        },
    )


def writer(write_line: Callable[[str], None]) -> Observer:
    """An observer that passes each event on as a line; events of several threads do not mix."""
    lock = threading.Lock()

    def observe(event: StepEvent) -> None:
        with lock:
            write_line(step_line(event, datetime.now(UTC)))

    return observe


def _error(error: Exception | None) -> dict[str, str | None]:
    """An error as facts: its text, and its kind in words that can be compared."""
    kind = error.kind if isinstance(error, EtlError) else type(error).__name__ if error is not None else None
    return {"error": str(error) if error is not None else None, "error_kind": kind}


def _source(report: SourceReport) -> dict[str, Any]:
    key_map = asdict(report.key_map) if report.key_map else None
    files, ignored = ([asdict(one) for one in found] for found in (report.files, report.ignored_columns))
    return {**vars(report), "key_map": key_map, "files": files, "ignored_columns": ignored, **_error(report.error)}


def _shard(report: ShardReport) -> dict[str, Any]:
    return asdict(report)


def _publication(report: Report) -> dict[str, Any] | None:
    """The publication that this run made or verified; null when it did neither."""
    if report.publication is None:
        return None
    published = report.publication
    return {
        "published_at": published.published_at.astimezone(UTC).isoformat(),
        "record_count": published.record_count,
        "digest": published.digest,
        "shard_count": published.shard_count,
        "is_partial": published.is_partial,
        "missing_shards": list(published.missing_shards),
    }


def _line(event: str, at: datetime, facts: dict[str, Any]) -> str:
    return json.dumps({"event": event, "at": at.astimezone(UTC).isoformat(timespec="milliseconds"), **facts})
