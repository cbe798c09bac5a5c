"""`etl-assets drill`: its timeline, its proofs, and that nothing of the user's is touched."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from etl_assets.cli import drill_command, terminal
from etl_assets.cli.main import main
from etl_assets.engine import faults
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.pipeline import drill, event_lines
from etl_assets.pipeline.drill import Moment, Proof, Result
from etl_assets.pipeline.events import StepEvent
from etl_assets.pipeline.report import Report
from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli

AT = datetime(2026, 5, 1, tzinfo=UTC)


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The environment of exports that were never read, with a quarantined row, and a home that must stay empty."""
    customers = [factory.row(f"cust_{number}") for number in range(20)]
    factory.write_exports(tmp_path / "sources", crm=[*customers, factory.row("")], billing=customers)
    return {"ETL_SOURCES": str(tmp_path / "sources"), "ETL_HOME": str(tmp_path / "home"), "ETL_NUM_SHARDS": "2"}


def _reported(line: str) -> list[tuple[Mapping[str, Any] | None, str | None]]:
    seen: list[tuple[Mapping[str, Any] | None, str | None]] = []
    drill._report_line(line, lambda step, note: seen.append((step, note)))
    return seen


def _shown(capsys: pytest.CaptureFixture[str], event: StepEvent) -> str:
    step = json.loads(event_lines.step_line(event, AT))
    drill_command._show_moment(terminal.console(), Moment(1.23, "disturbed", step), "shard_01")
    return capsys.readouterr().out


def test_events_of_a_run_become_steps_and_everything_else_notes() -> None:
    step = event_lines.step_line(StepEvent(Status.SUCCEEDED, "shard_profiles", "shard_01", attempt=1), AT)
    assert _reported(step) == [(json.loads(step), None)]
    assert _reported("error: no space") == [(None, "error: no space")]
    # Lines of other programs that happen to be JSON.
    assert _reported("42") == [(None, "42")]


def test_the_result_of_a_run_is_no_moment() -> None:
    """The drill reads it from what was published."""
    assert _reported(event_lines.report_line(Report(), AT, exit_code=0, recovery=None)) == []


def test_the_timeline_shows_the_end_of_every_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    failed = StepEvent(Status.RETRYING, "shard_profiles", "shard_01", OSError("full\nstack"), attempt=1)
    assert _shown(capsys, failed) == "   1.2 s  disturbed    shard_01 attempt 1 retrying: full\n"
    done = StepEvent(Status.SUCCEEDED, "shard_profiles", "shard_00", record_count=3, attempt=2)
    assert _shown(capsys, done) == "   1.2 s  disturbed    shard_00 attempt 2 succeeded\n"
    assert _shown(capsys, StepEvent(Status.SUCCEEDED, "merged_profiles")).endswith("merged_profiles succeeded\n")


def test_beginnings_and_sources_are_left_out_of_the_timeline(capsys: pytest.CaptureFixture[str]) -> None:
    assert _shown(capsys, StepEvent(Status.RUNNING, "shard_profiles", "shard_00", attempt=1)) == ""
    assert _shown(capsys, StepEvent(Status.SUCCEEDED, "crm", record_count=3)) == ""


@pytest.mark.parametrize("kind", drill.FAULTS)
def test_every_kind_of_fault_can_be_armed(kind: str) -> None:
    """A point that was renamed would make the drill prove nothing."""
    text = drill.fault_text(kind, "shard_01", 2)
    try:
        faults.arm(text, "", is_production=False, shard_count=2)
    finally:
        faults.arm("", "", is_production=False, shard_count=2)
    assert text.endswith(" shard=shard_01 attempts=1,2")


@pytest.mark.parametrize(("found", "code"), [("20", 0), ("19", 1)])
def test_the_exit_code_is_that_of_the_proofs(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    own: Mapping[str, str],
    found: str,
    code: int,
) -> None:
    def fake(folder: Path, sources: Path, site: Site, **options: Any) -> Result:
        return Result([], [1, 0], 3, 1, [Proof("same digest", "20", found)])

    monkeypatch.setattr(drill, "drill", fake)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    assert main(["drill"]) == code
    shown = capsys.readouterr().out
    assert "2 runs in all; 3 shards built, 1 reused\n" in shown
    assert ("FAILS" in shown, "Please report it." in shown) == (code == 1, code == 1)


def test_a_shard_that_does_not_exist_exits_with_2_and_nothing_is_run(cli: Cli, own: Mapping[str, str]) -> None:
    done = cli("drill", "--shard", "shard_07", env=own)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: No such shard: shard_07. The shards are shard_00 to shard_01.\n"


@pytest.mark.slow
def test_a_killed_run_recovers_and_nothing_of_the_users_is_touched(
    cli: Cli, own: Mapping[str, str], tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in (tmp_path / "sources").iterdir()}
    done = cli("drill", "--fault", "kill", env=own)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=3)[3] for line in done.stdout.splitlines() if line[:8].strip().endswith(" s")]
    assert "etl-assets run   with ETL_FAULT='shard.before_swap kill shard=shard_01 attempts=1'" in lines
    assert "killed by SIGKILL" in lines
    assert lines.count("merged_profiles succeeded") == 2
    assert "shard_01 attempt 1 succeeded" in lines
    assert done.stdout.count(" holds") == 9
    assert done.stdout.endswith("\nThe fault changed nothing.\n")
    assert {path: path.read_bytes() for path in (tmp_path / "sources").iterdir()} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sources"]
