"""The instance has the settings in its folder, whatever the folder is called."""

import logging
import threading
from pathlib import Path

import dagster as dg
import pytest

from etl_assets.errors import ConfigError
from etl_assets.orchestration.instance.history import synced_once
from etl_assets.orchestration.instance.home import dagster_home
from etl_assets.orchestration.instance.opening import open_instance


@dg.asset
def one() -> None:
    """An asset."""


@pytest.mark.parametrize("name", ["etl [prod] *", "#1 naïve 'quote\"s'"])
def test_an_instance_in_any_folder_has_its_settings_and_keeps_its_history(tmp_path: Path, name: str) -> None:
    """Fails: telemetry is on, no run is monitored, and no killed one is repeated."""
    home = dagster_home({"DAGSTER_HOME": str(tmp_path / name)})
    with synced_once(), open_instance(home) as instance:
        assert instance.get_settings("telemetry") == {"enabled": False}
        assert instance.run_retries_max_retries == 3
        assert dg.materialize([one], instance=instance).success
    with open_instance(home) as instance:
        assert instance.get_latest_materialization_event(one.key)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@dg.asset
def warned(context: dg.AssetExecutionContext) -> None:
    """An asset with a log line, in which the engine warns, here and on a thread, as of a file that it cannot remove."""
    context.log.info("shard_start")
    logger = logging.getLogger("etl_assets.engine.files.sweeping")
    logger.warning("warning: one cannot be removed")
    thread = threading.Thread(target=logger.warning, args=("warning: two cannot be removed",))
    thread.start()
    thread.join()


@pytest.mark.parametrize("is_in_ui", [True, False])
def test_warnings_of_the_engine_are_where_the_person_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, is_in_ui: bool
) -> None:
    """Fails: nobody sees the warning that a file could not be removed, and it may hold personal data."""
    # pytest's own handlers would take the warnings.
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    home = dagster_home({"DAGSTER_HOME": str(tmp_path / "dagster")})
    opened = dg.DagsterInstance.from_config(str(home)) if is_in_ui else open_instance(home)
    with synced_once(), opened as instance:
        run_id = dg.materialize([warned], instance=instance).run_id
        messages = [entry.user_message for entry in instance.all_logs(run_id)]
    told = [message for message in messages if "cannot be removed" in message]
    assert "shard_start" in messages
    expected = ["warning: one cannot be removed", "warning: two cannot be removed"]
    assert told == (expected if is_in_ui else [])
    assert is_in_ui or [line for line in capsys.readouterr().err.splitlines() if line in expected] == expected


@pytest.mark.parametrize(
    ("settings", "is_on"),
    [(None, False), ("", False), ("nux: {enabled: false}\n", False), ("telemetry: {enabled: true}\n", True)],
)
def test_telemetry_is_off_unless_the_settings_switch_it_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str | None, is_on: bool
) -> None:
    """Fails: a folder of one's own without dagster.yaml makes Dagster note what is run, and send it."""
    home, user = tmp_path / "dagster", tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("HOME", str(user))
    if settings is not None:
        (home / "dagster.yaml").write_text(settings)
    with open_instance(home) as instance:
        assert instance.telemetry_enabled is is_on
        assert dg.materialize([one], instance=instance).success
    assert [(home / "logs").exists(), (home / ".telemetry").exists(), user.exists()] == [is_on] * 3


@pytest.mark.parametrize("name", ["why?", "50%", "%20"])
def test_a_folder_that_dagster_cannot_use_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"The Dagster home .* cannot be used: .* Set DAGSTER_HOME to another folder"):
        dagster_home({"DAGSTER_HOME": str(tmp_path / name)})
    assert list(tmp_path.iterdir()) == []
