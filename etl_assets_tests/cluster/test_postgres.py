"""Dagster's history in PostgreSQL: the commands use it, and outlive it."""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import dagster as dg
import psycopg2
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets_tests.cluster.deployed import dagster_home, ray_settings
from etl_assets_tests.cluster.postgres_server import PASSWORD, PostgresServer
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.factory import generate_sample, run_engine, site_at

_Etl = Callable[..., subprocess.Popen[str]]
# A busy machine takes minutes for what an idle one does in seconds.
_WAIT_S = 900


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


def test_a_database_that_is_away_in_the_middle_of_a_run_costs_this_run_at_most(
    etl: _Etl, expected: str, postgres: PostgresServer, database: dict[str, str]
) -> None:
    """Fails: a restart of the database loses shards, or leaves a person with a traceback."""
    running = etl("run", ETL_FAULT="shard.joined slow; staging.slices slow; event.shards slow")
    deadline_s = time.monotonic() + _WAIT_S
    while not _event_count(postgres, database):
        assert running.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    postgres.stop()
    # The outage itself, not a wait for something.
    time.sleep(10)
    postgres.start()
    code, out, err = _done(running)
    assert code in (0, 1), out + err
    assert (expected in out) if code == 0 else ("the run history cannot be written" in err), out + err
    assert "defect" not in err
    code, out, err = _done(etl("run"))
    assert (code, expected in out) == (0, True), out + err


def test_a_database_that_is_away_is_named_and_its_password_is_not(etl: _Etl, postgres: PostgresServer) -> None:
    """Fails: a person meets a traceback, and a log the password."""
    postgres.stop()
    try:
        code, out, err = _done(etl("run"))
    finally:
        postgres.start()
    assert code == 1, out + err
    assert "the run history cannot be written" in err
    assert str(postgres.port) in err
    assert "Traceback" not in err
    assert PASSWORD not in err + out


def _event_count(postgres: PostgresServer, database: dict[str, str]) -> int:
    """How many events the history has; none before its tables are made."""
    address = postgres.address(database["DAGSTER_PG_DATABASE"])
    with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('event_logs') IS NOT NULL")
        if cursor.fetchone() == (False,):
            return 0
        cursor.execute("SELECT count(*) FROM event_logs")
        (count,) = cursor.fetchone() or (0,)
    return int(count)
