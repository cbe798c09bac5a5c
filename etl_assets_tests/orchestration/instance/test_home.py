"""The folder of the Dagster instance: found, made, and never taken from the user."""

import os
from importlib import resources
from pathlib import Path

import pytest

from etl_assets.errors import ConfigError
from etl_assets.orchestration.instance.home import dagster_home

_SHIPPED = resources.files("etl_assets.orchestration.instance") / "dagster.yaml"


@pytest.fixture(autouse=True)
def _in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("environment", [{}, {"DAGSTER_HOME": ""}, {"DAGSTER_HOME": " "}])
def test_the_default_home_is_made_with_the_shipped_settings(tmp_path: Path, environment: dict[str, str]) -> None:
    home = dagster_home(environment)
    assert home == tmp_path / ".dagster"
    assert (home / "dagster.yaml").read_text() == _SHIPPED.read_text()
    assert (home / "dagster.yaml").is_symlink()
    assert dagster_home(environment) == home


def test_a_link_into_an_environment_that_is_gone_is_pointed_anew(tmp_path: Path) -> None:
    """Dagster would silently run with its defaults: retries, monitoring and the tuned queue gone."""
    (tmp_path / ".dagster").mkdir()
    (tmp_path / ".dagster/dagster.yaml").symlink_to(tmp_path / "old-venv/dagster.yaml")
    assert (dagster_home({}) / "dagster.yaml").read_text() == _SHIPPED.read_text()


def test_settings_of_the_users_own_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / ".dagster").mkdir()
    (tmp_path / ".dagster/dagster.yaml").write_text("telemetry: {enabled: true}\n")
    assert (dagster_home({}) / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"


def test_an_instance_that_has_run_without_settings_is_left_without(tmp_path: Path) -> None:
    """It may be the instance of other projects too."""
    (tmp_path / "shared/history").mkdir(parents=True)
    home = dagster_home({"DAGSTER_HOME": str(tmp_path / "shared")})
    assert [path.name for path in home.iterdir()] == ["history"]


def test_an_empty_home_gets_the_shipped_settings(tmp_path: Path) -> None:
    """Fails: who makes the folder first, as Dagster's own guide says, has an instance that heals no killed worker."""
    (tmp_path / "mine").mkdir()
    home = dagster_home({"DAGSTER_HOME": str(tmp_path / "mine")})
    assert (home / "dagster.yaml").read_text() == _SHIPPED.read_text()


def test_a_named_home_that_is_not_there_yet_is_made_with_the_shipped_settings(tmp_path: Path) -> None:
    home = dagster_home({"DAGSTER_HOME": "instances/mine"})
    assert home == tmp_path / "instances/mine"
    assert (home / "dagster.yaml").read_text() == _SHIPPED.read_text()


def test_a_home_that_cannot_be_made_is_refused_with_the_variable_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/home cannot be used: Not a directory. Set DAGSTER_HOME"):
        dagster_home({"DAGSTER_HOME": "file/home"})


def test_a_home_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.geteuid() == 0:
        # Root may write anywhere, and CI often is root: the system's answer to another user.
        monkeypatch.setattr(os, "access", lambda path, mode: (Path(path).stat().st_mode >> 6) & mode == mode)
    with pytest.raises(ConfigError, match="it is not writable"):
        dagster_home({"DAGSTER_HOME": "locked"})


def test_a_new_home_is_for_its_owner_alone_and_an_existing_one_keeps_its_mode(tmp_path: Path) -> None:
    """Dagster keeps previews with customers' data. Fails: other users read them; or a team is locked out."""
    (tmp_path / "shared").mkdir(mode=0o750)
    previous = os.umask(0o022)
    try:
        homes = [dagster_home({"DAGSTER_HOME": str(tmp_path / name)}) for name in ("shared", "parent/new")]
    finally:
        os.umask(previous)
    assert [home.stat().st_mode & 0o777 for home in [*homes, tmp_path / "parent"]] == [0o750, 0o700, 0o755]
