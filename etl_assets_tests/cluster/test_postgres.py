"""Dagster's history in PostgreSQL: the commands use it, and outlive it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets_tests.cluster.deployed import dagster_home, ray_settings
from etl_assets_tests.cluster.postgres_server import PostgresServer
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.factory import generate_sample, run_engine, site_at

_Etl = Callable[..., subprocess.Popen[str]]
_WAIT_S = 240


@pytest.fixture
def exports(tmp_path: Path) -> Path:
    generate_sample(tmp_path / "sources", rows=300, seed=6, dirty=0.03)
    return tmp_path / "sources"


@pytest.fixture
def database(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An empty database, whose variables this process and its children have."""
    variables = postgres.new_database()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return variables


@pytest.fixture
def instance_home(tmp_path: Path, database: dict[str, str]) -> Path:
    """The shipped settings for a cluster, with the launcher of one machine."""
    settings = {name: part for name, part in ray_settings().items() if name != "run_launcher"}
    return dagster_home(tmp_path / "dagster", settings)


@pytest.fixture
def etl(exports: Path, tmp_path: Path, instance_home: Path, database: dict[str, str]) -> _Etl:
    """Starts a command on this instance."""

    def start(*arguments: str, **changes: str) -> subprocess.Popen[str]:
        places = {"ETL_SOURCES": exports, "ETL_HOME": tmp_path / "home", "DAGSTER_HOME": instance_home}
        variables = {name: str(path) for name, path in places.items()} | database
        return subprocess.Popen(
            command(*arguments),
            env=environment(**variables, ETL_NUM_SHARDS="3", ETL_MIN_ROWS_RATIO="0", **changes),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def _done(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=_WAIT_S)
    return process.returncode, out, err


@pytest.fixture
def expected(exports: Path, tmp_path: Path) -> str:
    """The digest that the engine alone gives."""
    return run_engine(exports, site_at(Home(tmp_path / "local"))).publication.digest


def test_the_commands_keep_their_history_in_postgres(etl: _Etl, expected: str, instance_home: Path) -> None:
    """Fails: a team that shares its instance gets no history of `etl-assets run`, or a file of SQLite beside it."""
    code, out, err = _done(etl("run"))
    assert (code, expected in out) == (0, True), out + err
    assert "Unchanged" in _done(etl("run"))[1]
    code, out, err = _done(etl("status", "--json"))
    assert (code, json.loads(out)["warehouse"]["digest"]) == (0, expected)
    with open_instance(instance_home) as instance:
        runs = instance.get_runs()
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        assert len(runs) == 3
    assert not list(instance_home.rglob("*.db"))
