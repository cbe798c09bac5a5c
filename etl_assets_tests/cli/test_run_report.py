"""The report at the end of a run, from facts."""

import io
from pathlib import Path

import pytest

from etl_assets.cli import run_report, terminal
from etl_assets.engine.files.layout import Home
from etl_assets.pipeline.report import Report, ShardReport, SourceReport
from etl_assets_tests.dagster_runs import settings_for

HOSTILE = "[/x][red] \x1b[31m"
SHOWN = r"[/x][red] \x1b[31m"


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are named without their folder."""
    monkeypatch.setattr(run_report, "program", lambda: "etl-assets")


def _source(name: str, error: str | None = None, **reasons: int) -> SourceReport:
    return SourceReport(name, 10, 9, 1, reasons, False, 5, error)


def _failure(report: Report, folder: Path) -> list[str]:
    stream = io.StringIO()
    run_report.show_failure(terminal.console(stream), report, settings_for(folder, Home(folder)))
    return stream.getvalue().splitlines()


def test_names_reasons_and_errors_are_shown_as_they_are(tmp_path: Path) -> None:
    report = Report(
        sources=[_source(HOSTILE, **{HOSTILE: 1}), _source("crm", error=f"Source 'crm': {HOSTILE}")],
        shards=[ShardReport("shard_00", "failed", attempts=4, error=f"OSError: {HOSTILE}\nsecond line")],
        merge_error=f"Not merged: {HOSTILE}",
    )
    stream = io.StringIO()
    run_report.show(terminal.console(stream), report, settings_for(tmp_path, Home(tmp_path)))
    assert stream.getvalue().count(SHOWN) == 2
    lines = _failure(report, tmp_path)
    assert lines[:4] == [
        f"error: Source 'crm': {SHOWN}",
        f"error: shard_00 failed after 4 attempts: OSError: {SHOWN}",
        "second line",
        f"error: merge: Not merged: {SHOWN}",
    ]
    assert "\x1b" not in stream.getvalue() + "".join(lines)


def test_one_shard_that_fails_alone_is_not_said_to_have_left_others(tmp_path: Path) -> None:
    """`run --shards shard_03` said that the others are published; it had built no others."""
    report = Report(
        sources=[_source("crm")],
        shards=[ShardReport("shard_03", "failed", attempts=1, error="ValueError: no")],
        merge_error="Not merged: shard_03 failed.",
    )
    lines = _failure(report, tmp_path)
    assert "others" not in "\n".join(lines)
    assert lines[-1] == "Recover: fix the cause, then etl-assets run --shards shard_03"


def test_a_failed_merge_alone_needs_no_fix_first(tmp_path: Path) -> None:
    lines = _failure(Report(shards=[ShardReport("shard_00", "published")], merge_error="shard_01: missing"), tmp_path)
    assert lines[-1] == "Recover: etl-assets run"


def test_a_command_in_an_error_of_the_engine_is_spelled_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_report, "spell", lambda text: text.replace("etl-assets", "bin/etl-assets"))
    lines = _failure(Report(merge_error="shard_01: missing. Repair: etl-assets run --shards shard_01"), tmp_path)
    assert lines[0].endswith("Repair: bin/etl-assets run --shards shard_01")
