"""The report at the end of a run, from facts."""

import io
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from etl_assets.cli import program, run_report, terminal
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import Publication
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, CheckError, ConfigError, EtlError, ShardSetError
from etl_assets.pipeline.report import BrokenCheck, Report, ShardReport, SourceReport
from etl_assets.project.contract import ProfileColumn
from etl_assets.project.severity import Severity

HOSTILE = "[/x][red] \x1b[31m"
SHOWN = r"[/x][red] \x1b[31m"
PUBLICATION = Publication(datetime(2026, 5, 1, tzinfo=UTC), "a-run", 20, "v2-20", 3, "v", "s", False, (), 0)


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands are named without their folder."""
    monkeypatch.setattr(program, "program", lambda: "etl-assets")


def _source(name: str, error: str | None = None, reason: str | None = None) -> SourceReport:
    reasons = {reason: 1} if reason else {}
    return SourceReport(name, 10, 9, 1, reasons, False, 5, EtlError(error) if error else None)


def _lines(report: Report, site: Site) -> list[str]:
    stream = io.StringIO()
    run_report.show(terminal.console(stream), report, site)
    return stream.getvalue().splitlines()


def _failure(report: Report, site: Site) -> list[str]:
    stream = io.StringIO()
    run_report.show_failure(terminal.console(stream), report, site)
    return stream.getvalue().splitlines()


def test_names_reasons_and_errors_are_shown_as_they_are(site: Site) -> None:
    report = Report(
        sources=[_source(HOSTILE, reason=HOSTILE), _source("crm", error=f"Source 'crm': {HOSTILE}")],
        shards=[ShardReport("shard_00", Status.FAILED, attempts=4, error=f"OSError: {HOSTILE}\nsecond line")],
        merge_error=EtlError(f"Not merged: {HOSTILE}"),
    )
    shown = "\n".join(_lines(report, site))
    assert shown.count(SHOWN) == 2
    lines = _failure(report, site)
    assert lines[:4] == [
        f"error: Source 'crm': {SHOWN}",
        f"error: shard_00 failed after 4 attempts: OSError: {SHOWN}",
        "second line",
        f"error: merge: Not merged: {SHOWN}",
    ]
    assert "\x1b" not in shown + "".join(lines)


def test_one_shard_that_fails_alone_is_not_said_to_have_left_others(site: Site) -> None:
    """`run --shards shard_03` said that the others are published; it had built no others."""
    report = Report(
        sources=[_source("crm")],
        shards=[ShardReport("shard_03", Status.FAILED, attempts=1, error="ValueError: no")],
        merge_error=EtlError("Not merged: shard_03 failed."),
    )
    lines = _failure(report, site)
    assert "others" not in "\n".join(lines)
    assert lines[-1] == "Recover: fix the cause, then etl-assets run --shards shard_03"


def test_a_failed_merge_alone_needs_no_fix_first(site: Site) -> None:
    report = Report(shards=[ShardReport("shard_00", Status.SUCCEEDED)], merge_error=EtlError("shard_01: missing"))
    assert _failure(report, site)[-1] == "Recover: etl-assets run"


def test_what_a_check_found_is_to_be_fixed_first(site: Site) -> None:
    """Fails: the advice is to run again, and the same rows fail the same check."""
    blocking = Report(shards=[ShardReport("shard_00", Status.SUCCEEDED)], merge_error=CheckError("2 failing rows"))
    broken = Report(publication=PUBLICATION, broken_checks=(BrokenCheck("sums", Severity.ERROR, error="no"),))
    for report in (blocking, broken):
        assert _failure(report, site)[-1] == "Recover: fix the cause, then etl-assets run"


def test_advice_of_the_engine_becomes_a_command(site: Site) -> None:
    error = ShardSetError("1 shard is not fit to merge.", Advice(Action.RUN, shards=("shard_01",)))
    assert _failure(Report(merge_error=error), site)[0] == (
        "error: merge: 1 shard is not fit to merge. Run: etl-assets run --shards shard_01"
    )


def test_what_helps_a_failed_shard_is_shown_with_its_error(site: Site) -> None:
    """The record of an attempt keeps the text of its error only; the SQL to change was named nowhere."""
    advice = (Advice(Action.EDIT, value="sql/profiles.sql"), Advice(Action.REPORT))
    shard = ShardReport("shard_03", Status.FAILED, attempts=1, error="ProfileError: shard_03: score 2", advice=advice)
    assert _failure(Report(shards=[shard]), site)[:3] == [
        "error: shard_03 failed: ProfileError: shard_03: score 2",
        "  Change sql/profiles.sql.",
        "  This is a defect of etl-assets: please report it.",
    ]


def test_every_error_of_a_run_is_listed(site: Site) -> None:
    """Who fixes only the first one runs again for nothing."""
    names = site.shard_ids
    report = Report(
        sources=[_source("crm", error="no file"), SourceReport("billing", error=ConfigError("no folder"))],
        shards=[ShardReport(name, Status.FAILED, attempts=2, error=f"OSError: {name}") for name in names],
        broken_checks=(BrokenCheck("customers_unique"),),
    )
    lines = _failure(report, site)
    assert lines[:2] == ["error: crm: no file", "error: billing: no folder"]
    assert lines[2:5] == [f"error: {name} failed after 2 attempts: OSError: {name}" for name in names]
    assert lines[5] == "error: Checks failed on the published warehouse: customers_unique."
    assert lines[6] == "Nothing is published yet. Finished work is kept and will be reused."
    assert lines[-1] == "Recover: fix the cause, then etl-assets run"


@pytest.mark.parametrize(
    ("column", "query"),
    [
        (
            {"type": "text", "values": ["LOW", "HIGH"]},
            "SELECT grade, count(*) AS customers FROM merged_profiles GROUP BY ALL",
        ),
        ({"type": "int"}, "SELECT count(*) AS customers FROM merged_profiles"),
    ],
)
def test_the_sample_query_fits_the_project(site: Site, column: Mapping[str, object], query: str) -> None:
    """A project without churn_risk was offered a query over churn_risk, which fails."""
    declared = (ProfileColumn.model_validate({"name": "grade", **column}),)
    contract = site.contract.model_copy(update={"profile": declared})
    other = replace(site, project=replace(site.project, contract=contract))
    assert _lines(Report(publication=PUBLICATION), other)[-1] == f'Try: etl-assets query "{query}"'


def test_a_partial_publication_is_marked_and_counts_profiles(site: Site) -> None:
    partial = replace(PUBLICATION, is_partial=True, missing_shards=("shard_01",))
    lines = _lines(Report(publication=partial, elapsed_ms=1500), site)
    assert "Published 20 profiles in 1.5 s, digest v2-20" in lines
    assert "PARTIAL: the profiles of shard_01 are missing from it (--allow-partial)." in lines
