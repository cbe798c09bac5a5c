"""`query` against texts that come from anywhere, a form or a chat: it reads the warehouse and nothing else."""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from etl_assets.cli import clock, query_command
from etl_assets.cli.query_command import Form, answer
from etl_assets.cli.statements import reading_statement
from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.errors import ConfigError, EtlError
from etl_assets.project.settings import load_settings
from etl_assets_tests import factory
from etl_assets_tests.cli import attacks
from etl_assets_tests.command_line import environment

_LIMIT_S = 0.25
# Lists are run in parts: a failure names one of them, and the time of each stays short.
_PARTS = 8


@dataclass(frozen=True)
class Target:
    """A small warehouse in `folder/home`, a secret beside it, and empty folders `here` and `tmp`."""

    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """The environment of a process at work on it; its home, current and temporary folders are here."""
        return {
            "ETL_HOME": str(self.folder / "home"),
            "ETL_MEMORY_LIMIT": "64MB",
            "ETL_WORKERS": "1",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder / "tmp"),
            "CANARY": attacks.CANARY,
        }

    def text(self, statement: str) -> str:
        """A statement of `attacks` with the folders of this target."""
        return statement.format(folder=self.folder, home=self.folder / "home")

    def stamps(self) -> dict[str, tuple[int, ...]]:
        """Every file and folder with what changes when it is written."""
        return {
            str(path): (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
            for path in sorted([self.folder, *self.folder.rglob("*")])
            if path.name != "tmp" and (found := path.lstat())
        }

    def leftovers(self) -> list[Path]:
        """What is left in the temporary folder."""
        return list((self.folder / "tmp").rglob("*"))


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    folder = tmp_path_factory.mktemp("attacked")
    customers = [factory.row(f"cust_{number}") for number in range(5)]
    factory.write_exports(folder / "sources", crm=customers, billing=customers, product=customers, support=customers)
    factory.run_engine(folder / "sources", factory.site_at(Home(folder / "home"), 1))
    for name in ("here", "tmp"):
        (folder / name).mkdir()
    (folder / "secret.csv").write_text(f"password\n{attacks.CANARY}\n", encoding="utf-8")
    (folder / "home/linked.csv").symlink_to(folder / "secret.csv")
    made = Target(folder)
    factory.alter(folder / "home/warehouse.duckdb", *(made.text(statement) for statement in attacks.PLANTED))
    return made


@pytest.fixture(autouse=True)
def of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound on memory is one for a process that answers one question; this one has run thousands of tests."""
    monkeypatch.setattr(query_command, "_bounded_memory", lambda _limit_mb: contextlib.nullcontext())


Ask = Callable[[str], str]


@pytest.fixture
def ask(target: Target, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Ask]:
    """Runs a statement in this process; returns what it showed, its error included. Afterwards nothing has changed."""
    for name, value in target.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(target.folder / "tmp"))
    monkeypatch.chdir(target.folder / "here")
    settings = load_settings()
    warehouse = target.folder / "home/warehouse.duckdb"
    before = target.stamps(), hashlib.sha256(warehouse.read_bytes()).hexdigest()

    def run(statement: str) -> str:
        capsys.readouterr()
        try:
            answer(settings, target.text(statement), Form("json"), 120)
            ending = ""
        except (EtlError, OSError) as error:
            ending = f"{type(error).__name__}: {error}"
        shown = capsys.readouterr()
        assert target.leftovers() == [], statement
        return f"{ending}{shown.out}{shown.err}"

    yield run
    assert (target.stamps(), hashlib.sha256(warehouse.read_bytes()).hexdigest()) == before


@pytest.mark.parametrize("part", range(_PARTS))
def test_no_statement_reads_anything_but_the_warehouse(ask: Ask, part: int) -> None:
    """Fails: a question from a chat shows the file with the passwords, or asks a server on the network."""
    for statement in attacks.READING[part::_PARTS]:
        shown = ask(statement)
        assert attacks.CANARY not in shown, statement
        assert "Failed to download" not in shown, statement
        assert "root:" not in shown, statement


def test_the_secret_would_be_seen_if_it_were_read(ask: Ask) -> None:
    """Fails: the attacks miss their aim, and the test above proves nothing."""
    assert attacks.CANARY in ask(f"SELECT '{attacks.CANARY}' AS password")
    assert "Permission Error" in ask("FROM read_text('{folder}/secret.csv')")
    assert "Permission Error" in ask("FROM planted_view")


@pytest.mark.parametrize("part", range(_PARTS))
def test_no_statement_writes_anything(ask: Ask, target: Target, part: int) -> None:
    """Fails: a question writes files until the disk is full, or changes what the next reader sees."""
    # Most are refused before anything else, so they can share a connection.
    with contextlib.closing(duck.connect(duck.Limits(64), None)) as connection:
        for statement in attacks.CHANGING[part::_PARTS]:
            if not _is_refused(connection, target.text(statement)):
                assert ask(statement).startswith("ConfigError: "), statement


def _is_refused(connection: duckdb.DuckDBPyConnection, text: str) -> bool:
    try:
        reading_statement(connection, text)
    except ConfigError:
        return True
    return False


_SECRETLY_WRITING = (
    "WITH a AS (COPY (SELECT 1) TO (current_setting('temp_directory') || '/x.csv')) FROM a",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO (current_setting('temp_directory') || '/x.csv')",
    "COPY (PIVOT merged_profiles ON churn_risk) TO (current_setting('temp_directory') || '/x.csv')",
    "CREATE TEMP TABLE t AS PIVOT merged_profiles ON churn_risk",
    "EXPLAIN ANALYZE CREATE TABLE memory.main.t AS SELECT 1",
    "EXPLAIN ANALYZE SET VARIABLE x = 1",
)


@pytest.mark.parametrize("statement", _SECRETLY_WRITING)
def test_a_statement_that_duckdb_takes_for_a_reading_one_is_refused_by_its_words(ask: Ask, statement: str) -> None:
    """Fails: DuckDB calls a COPY inside a WITH a SELECT, and it writes to the temporary folder."""
    assert ask(statement).startswith("ConfigError: The warehouse is read-only: a statement of type ")


_FILLING = """
import sys
from etl_assets.cli import query_command
from etl_assets.engine.published import warehouse
from etl_assets.errors import EtlError
from etl_assets.project.settings import load_settings

query_command.reading_statement = lambda found, sql: found.extract_statements(sql)[0]
warehouse.SPILL_FACTOR = 1
try:
    query_command.answer(load_settings(), sys.argv[1], query_command.Form(), 60)
except EtlError as error:
    sys.exit(str(error))
"""


def test_a_view_in_the_warehouse_cannot_fill_the_disk(target: Target) -> None:
    """The words of a view are not in the statement: what it writes is measured while it runs.

    In a child: a statement that does not obey its interrupt ends its process.
    """
    rows = "SELECT repeat('x', 1000) AS t FROM range(100_000_000)"
    copying = f"WITH a AS (COPY ({rows}) TO (current_setting('temp_directory') || '/x.csv')) FROM a"
    done = _child(_FILLING, target, copying)
    assert done.returncode == 1, done.stderr
    assert "it wrote more than 64 MB of temporary files" in done.stderr
    assert target.leftovers() == []


def _child(program: str, target: Target, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment(**target.env, PYTHONPATH=os.pathsep.join(sys.path)),
        cwd=target.folder / "here",
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


# Exhausting ones: in a child, because one that cannot be interrupted ends its process.

_CHILD = """
import sys
from etl_assets.cli import clock
from etl_assets.cli.query_command import Form, answer
from etl_assets.errors import EtlError
from etl_assets.project.settings import load_settings
from etl_assets_tests.cli.attacks import EXHAUSTING

clock._GRACE_S = 0.25
settings = load_settings()
for number in range(int(sys.argv[1]), len(EXHAUSTING)):
    print(number, file=sys.stderr, flush=True)
    try:
        answer(settings, EXHAUSTING[number].replace("{{", "{").replace("}}", "}"), Form("csv"), float(sys.argv[2]))
    except EtlError as error:
        print("refused", str(error)[:200].replace(chr(10), " "), file=sys.stderr, flush=True)
"""


@pytest.mark.slow
def test_no_statement_crashes_outlives_its_time_or_leaves_anything(target: Target) -> None:
    """Fails: one question keeps the machine busy, ends in a crash, or leaves gigabytes in the temporary folder."""
    first, started_s = 0, time.monotonic()
    while first < len(attacks.EXHAUSTING):
        done = _child(_CHILD, target, str(first), str(_LIMIT_S))
        numbers = [int(line) for line in done.stderr.splitlines() if line.isdecimal()]
        assert numbers, done.stderr
        statement = attacks.EXHAUSTING[numbers[-1]][:200]
        assert "Traceback" not in done.stderr, (statement, done.stderr)
        # 0: it went through the rest of the list; 1: it gave up a statement that could not be interrupted.
        assert done.returncode in (0, 1), (statement, done.returncode, done.stderr)
        assert target.leftovers() == [], statement
        first = len(attacks.EXHAUSTING) if done.returncode == 0 else numbers[-1] + 1
    assert time.monotonic() - started_s < 120


def test_the_grace_of_a_statement_is_short() -> None:
    """Fails: the test above proves its bound with another grace, and the real one is not seconds."""
    assert clock._GRACE_S <= 5


_FORMS = ("table", "csv", "json")


@pytest.mark.parametrize("form", _FORMS)
def test_every_type_of_duckdb_is_shown_in_every_form(
    target: Target, form: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fails: one exotic value is a traceback."""
    env: Mapping[str, str] = target.env
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    answer(load_settings(), "FROM test_all_types()", Form(form), 20)
    assert len(capsys.readouterr().out.splitlines()) >= 3


@pytest.mark.parametrize("form", _FORMS)
@pytest.mark.parametrize(
    "value",
    [
        "INTERVAL '100000000 years'",
        "[INTERVAL '100000000 years']",
        "INTERVAL '-3000000 years'",
        "{{'a': INTERVAL '999999999 months'}}",
    ],
)
def test_a_value_that_python_cannot_hold_is_an_error_with_advice(
    ask: Ask, target: Target, form: str, value: str
) -> None:
    with pytest.raises(ConfigError, match=r"out of the range that can be shown .*Cast it to VARCHAR"):
        answer(load_settings(), target.text(f"SELECT {value}"), Form(form), 20)
    shown = ask(f"SELECT ({value})::VARCHAR AS v")
    assert "years" in shown or "months" in shown
