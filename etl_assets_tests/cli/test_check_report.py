"""What `etl-assets run` shows of the project's checks: how many rows fail, the first of them, and the exit code."""

import io
import shutil
from pathlib import Path

import pytest

from etl_assets.cli import check_report, terminal
from etl_assets.engine.published.preview import MASK
from etl_assets.pipeline.report import BrokenCheck
from etl_assets.project.severity import Severity
from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli

HOSTILE, SHOWN = "[/x] \x1b[31m", r"[/x] \x1b[31m"
WARNED = BrokenCheck("plans", Severity.WARN, 1_234, ("customer_id", "plan"), ((HOSTILE, None), ("b", MASK)))
FAILED = BrokenCheck("sums", Severity.ERROR, error="DuckDB refuses sql/checks/sums.sql (no).")
ENGINES = BrokenCheck("customers_unique")


@pytest.mark.parametrize(
    ("severity", "lines"),
    [
        (
            Severity.WARN,
            ["warning: check plans: 1,234 failing rows.", "customer_id plan", SHOWN, f"b {MASK}"],
        ),
        (Severity.ERROR, ["error: check sums: DuckDB refuses sql/checks/sums.sql (no)."]),
    ],
)
def test_rows_and_reasons_are_shown_as_they_are(severity: Severity, lines: list[str]) -> None:
    stream = io.StringIO()
    check_report.show(terminal.console(stream), [WARNED, FAILED, ENGINES], severity)
    assert [" ".join(line.split()) for line in stream.getvalue().splitlines()] == lines


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the tests' project with a check that no customer passes, and exports of three customers."""
    folder = tmp_path / "project"
    shutil.copytree(factory.PROJECT_FOLDER, folder)
    (folder / "sql" / "checks").mkdir()
    (folder / "sql" / "checks" / "mine.sql").write_text("SELECT customer_id, email FROM merged_profiles")
    factory.write_exports(tmp_path / "data" / "sources", crm=[factory.row(name) for name in "abc"])
    return folder


def declare(project: Path, rule: str) -> dict[str, str]:
    """Declare the check, and return the environment of a run."""
    contract = (factory.PROJECT_FOLDER / "etl_assets.yaml").read_text(encoding="utf-8")
    (project / "etl_assets.yaml").write_text(f"{contract}\nchecks:\n  mine: {rule}\n", encoding="utf-8")
    return {"ETL_PROJECT": str(project), "ETL_NUM_SHARDS": "2", "ETL_WORKERS": "2"}


def test_a_warning_is_shown_by_every_run_and_an_error_ends_it_with_1(cli: Cli, project: Path) -> None:
    """Fails: a run that has nothing to do forgets what the last one warned of."""
    env = declare(project, "{severity: warn}")
    for _ in range(2):
        done = cli("run", env=env)
        assert done.returncode == 0, done.stderr
        assert "warning: check mine: 3 failing rows." in done.stdout
        assert f"a {MASK}" in " ".join(done.stdout.split())
        assert factory.SOUND["email"] not in done.stdout + done.stderr
    done = cli("run", env=declare(project, "{}"))
    assert done.returncode == 1
    assert "error: Checks failed on the published warehouse: mine.\nerror: check mine: 3 failing rows." in done.stderr


def test_a_blocking_check_keeps_the_warehouse_and_ends_the_run_with_1(cli: Cli, project: Path, tmp_path: Path) -> None:
    done = cli("run", env=declare(project, "{blocking: true}"))
    assert done.returncode == 1
    assert f"mine: 3 failing rows, such as customer_id = a, email = {MASK}; see sql/checks/mine.sql" in done.stderr
    assert "Nothing is published yet." in done.stderr
    assert list(tmp_path.rglob("warehouse.duckdb")) == []
