"""Exports and warehouses that this user may not read, as another user's process meets them."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets_tests import factory
from etl_assets_tests.command_line import command, environment

# Whoever owns the files of these tests, it is not this one.
STRANGER = 65_534

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that every user may enter: pytest's own are for one user alone."""
    folder = Path(tempfile.mkdtemp(prefix="etl-assets-tests-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def _as_stranger(folder: Path, *arguments: str, env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**{"HOME": str(folder), "DAGSTER_HOME": str(folder / "dagster"), "TMPDIR": "/tmp", **env}),
        capture_output=True,
        encoding="utf-8",
        user=STRANGER,
        group=STRANGER,
        extra_groups=[],
        timeout=120,
        check=False,
    )


def test_an_export_that_may_not_be_read_is_named_with_owner_mode_and_user(shared: Path) -> None:
    """Fails: a file of another owner is reported as a full disk."""
    factory.write_exports(shared / "sources", crm=[factory.row("a")])
    crm = shared / "sources" / "crm.csv"
    crm.chmod(0o600)
    env = {"ETL_SOURCES": str(shared / "sources"), "ETL_HOME": str(shared / "home")}
    done = _as_stranger(shared, "run", env=env)
    assert done.returncode == 2, done.stderr
    assert f"{crm} may not be read by " in done.stderr
    assert f"(uid {STRANGER}): it belongs to root (uid 0), group root (gid 0), with mode -rw-------." in done.stderr
    assert "disk" not in done.stderr
    shown = _as_stranger(shared, "status", env=env)
    assert (shown.returncode, "may not be read by" in shown.stdout) == (0, True)
    crm.chmod(0o644)
    (shared / "sources").chmod(0o700)
    entered = _as_stranger(shared, "run", env=env)
    assert entered.returncode == 2, entered.stderr
    assert f"{shared / 'sources'} may not be entered by " in entered.stderr


def test_a_warehouse_that_may_not_be_read_is_not_called_damaged(shared: Path) -> None:
    """Fails: whoever has no right to read the result is told to build it again."""
    factory.write_exports(shared / "sources", crm=[factory.row("a")])
    factory.run_engine(shared / "sources", factory.site_at(Home(shared / "home")))
    (shared / "home").chmod(0o755)
    warehouse = shared / "home" / "warehouse.duckdb"
    warehouse.chmod(0o600)
    done = _as_stranger(shared, "query", "SELECT 1", env={"ETL_HOME": str(shared / "home")})
    assert done.returncode == 2, done.stderr
    assert f"{warehouse} may not be read by " in done.stderr
    assert "root (uid 0)" in done.stderr
    assert "--force" not in done.stderr
