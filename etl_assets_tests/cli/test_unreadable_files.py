"""Exports and warehouses that this user may not read, as another user meets them."""

import contextlib
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets.cli import main
from etl_assets.engine.files.layout import Home
from etl_assets_tests import factory

# Only root can become another user. The files of these tests are open to no one, so that everyone else is kept out of
# files of their own.
IS_ROOT = os.geteuid() == 0
STRANGER = 65_534 if IS_ROOT else os.geteuid()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter: pytest's own are for one user alone."""
    folder = Path(tempfile.mkdtemp(prefix="etl-assets-tests-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    for path in folder.rglob("*"):
        path.chmod(0o700)
    shutil.rmtree(folder)


@contextlib.contextmanager
def _as_stranger() -> Iterator[None]:
    """Another user, in this process: the interpreter's own files may not be open to one."""
    # What a command imports later could not be read.
    for name in ("run", "query", "status"):
        main.subcommand_named(name)
    if not IS_ROOT:
        yield
        return
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(STRANGER)
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def _name() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def environment(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a run in that folder."""
    monkeypatch.chdir(shared)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    for name, value in {
        "ETL_PROJECT": factory.PROJECT_FOLDER,
        "ETL_SOURCES": shared / "sources",
        "ETL_HOME": shared / "home",
        "DAGSTER_HOME": shared / "dagster",
        "ETL_NUM_SHARDS": 3,
    }.items():
        monkeypatch.setenv(name, str(value))


def test_an_export_that_may_not_be_read_is_named_with_owner_mode_and_user(
    shared: Path, environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fails: a file of another owner is reported as a full disk."""
    factory.write_exports(shared / "sources", crm=[factory.row("a")])
    crm = shared / "sources" / "crm.csv"
    crm.chmod(0)
    with _as_stranger():
        assert main.main(["run"]) == 2
    errors = capsys.readouterr().err
    assert f"{crm} may not be read by " in errors
    assert f"uid {STRANGER}" in errors
    assert f": it belongs to {_name()} (uid {os.geteuid()}), group " in errors
    assert "with mode ----------." in errors
    assert "disk" not in errors
    crm.chmod(0o644)
    (shared / "sources").chmod(0o700 if IS_ROOT else 0)
    with _as_stranger():
        assert main.main(["run"]) == 2
    assert f"{shared / 'sources'} may not be read by " in capsys.readouterr().err
    with _as_stranger():
        assert main.main(["status"]) == 0
    assert "may not be read by " in capsys.readouterr().out


def test_a_warehouse_that_may_not_be_read_is_not_called_damaged(
    shared: Path, environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Fails: whoever has no right to read the result is told to build it again."""
    factory.write_exports(shared / "sources", crm=[factory.row("a")])
    factory.run_engine(shared / "sources", factory.site_at(Home(shared / "home")))
    (shared / "home").chmod(0o755)
    warehouse = shared / "home" / "warehouse.duckdb"
    warehouse.chmod(0)
    with _as_stranger():
        assert main.main(["query", "SELECT 1"]) == 2
    errors = capsys.readouterr().err
    assert f"{warehouse} may not be read by " in errors
    assert f"{_name()} (uid {os.geteuid()})" in errors
    assert "--force" not in errors
    with _as_stranger():
        assert main.main(["status"]) == 0
    shown = capsys.readouterr().out
    assert f"\nunreadable: {warehouse} may not be read by " in shown
    assert "Next:" not in shown
    assert "damaged" not in shown
