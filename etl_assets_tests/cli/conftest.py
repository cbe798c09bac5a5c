"""Fixtures for tests of the command."""

import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli, command, environment


@pytest.fixture(autouse=True)
def _own_signals() -> Iterator[None]:
    """As a terminal starts programs: `nohup` ignores SIGHUP, and Dagster in this process handles SIGTERM as Ctrl-C."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGHUP, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run `etl-assets` in an empty folder; `env` adds variables, `stdin` is what it reads."""

    def run(*arguments: str, env: Mapping[str, str] | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment(**(env or {})),
            input=stdin,
            capture_output=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a small published warehouse (three shards, five customers, one rejected row)."""
    folder = tmp_path_factory.mktemp("published")
    customers = [factory.row(f"cust_{number}") for number in range(5)]
    customers[1]["company_name"] = 'Says "hi", twice\nand \x1b[31mred'
    customers[2]["deal_value"] = ""
    factory.write_exports(
        folder / "sources", crm=[*customers, factory.row("")], billing=customers, product=customers, support=customers
    )
    factory.run_engine(folder / "sources", factory.site_at(Home(folder / "home")))
    return {
        "ETL_SOURCES": str(folder / "sources"),
        "ETL_HOME": str(folder / "home"),
        "ETL_NUM_SHARDS": "3",
        "ETL_MAX_REJECT_RATIO": "1",
    }
