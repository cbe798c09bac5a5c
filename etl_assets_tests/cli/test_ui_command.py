"""`etl-assets ui`: what it starts Dagster with, and that it ends."""

import argparse
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NoReturn, cast

import pytest

from etl_assets.cli import ui_command as ui
from etl_assets.orchestration.instance.guard import HOSTS_VARIABLE
from etl_assets_tests.command_line import Cli, command, environment


class _Started(Exception):  # noqa: N818
    """Stands for the moment at which the process becomes Dagster."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, object]:
    """What the process would become; filled by `_become`."""
    seen: dict[str, object] = {}

    def become(path: str, arguments: list[str], env: dict[str, str]) -> NoReturn:
        seen.update(path=path, arguments=arguments, env=env)
        raise _Started

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "execve", become)
    # The command sets them for Dagster; the test process keeps its own.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for name in ("ETL_NUM_SHARDS", "DAGSTER_HOME", "PYTHONWARNINGS", "PYTHONPATH", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    return seen


def _become(
    *, port: int | None = None, host: str = "127.0.0.1", read_only: bool = False, allow_host: Sequence[str] = ()
) -> None:
    options = {"port": port or _free_port(), "host": host, "read_only": read_only, "allow_host": allow_host}
    with pytest.raises(_Started):
        ui.command(argparse.Namespace(**options))


def _environment(started: dict[str, object]) -> dict[str, str]:
    return cast("dict[str, str]", started["env"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_becomes_dagster_dev_on_this_machine_only_with_the_projects_instance(
    started: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = _free_port()
    _become(port=port)
    assert started["arguments"] == [
        *(
            sys.executable,
            "-m",
            "etl_assets.orchestration.instance.dev",
            "dev",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ),
        *("-w", str(resources.files("etl_assets.orchestration.instance") / "workspace.yaml")),
    ]
    env = _environment(started)
    assert env["DAGSTER_HOME"] == str(tmp_path / ".dagster")
    assert env["PYTHONWARNINGS"] == "ignore:Function `dev_command` is superseded"
    # Else a backfill fails for good when it is looked at while the code server is being replaced.
    assert env["DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR"] == "1"
    assert capsys.readouterr().out.startswith(f"Dagster UI: http://127.0.0.1:{port} ")


def test_it_says_which_exports_and_results_it_shows_and_where_these_folders_come_from(
    started: dict[str, object], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Relative folders start where the command does. Fails: another, empty home is shown, and nothing says so."""
    monkeypatch.setenv("ETL_HOME", "results")
    monkeypatch.delenv("ETL_SOURCES", raising=False)
    _become()
    shown = capsys.readouterr().out
    assert f"Results: {tmp_path / 'results'} (ETL_HOME)\n" in shown
    assert f"Exports: {tmp_path / 'data/sources'} (the default)\n" in shown


def test_a_workspace_of_the_current_folder_is_used(started: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    _become()
    assert isinstance(started["arguments"], list)
    assert started["arguments"][-2:] == ["-w", "workspace.yaml"]


def test_read_only_starts_the_web_server_without_the_daemon(started: dict[str, object]) -> None:
    _become(read_only=True)
    assert isinstance(started["arguments"], list)
    assert started["arguments"][1:4] == ["-m", "etl_assets.orchestration.instance.webserver", "--read-only"]


@pytest.mark.parametrize(
    ("host", "allowed", "hosts"),
    [
        ("127.0.0.1", [], "127.0.0.1"),
        ("192.0.2.7", ["profiles.example.com", "dagster.lan"], "192.0.2.7,profiles.example.com,dagster.lan"),
        ("0.0.0.0", ["dagster.lan"], "*,dagster.lan"),
        ("::", [], "*"),
    ],
)
def test_the_webserver_is_told_to_which_names_it_answers(
    started: dict[str, object], monkeypatch: pytest.MonkeyPatch, host: str, allowed: list[str], hosts: str
) -> None:
    """Whatever an earlier one has left in the environment. That the webserver obeys is tested over HTTP."""
    monkeypatch.setenv(HOSTS_VARIABLE, "evil.example")
    monkeypatch.setattr(ui, "_check_port", lambda *_: None)
    _become(host=host, allow_host=allowed)
    assert _environment(started)[HOSTS_VARIABLE] == hosts


@pytest.mark.parametrize("name", ["http://profiles.example.com", "profiles.example.com:8443", "*", ""])
def test_a_host_that_is_no_name_exits_with_2(cli: Cli, name: str) -> None:
    done = cli("ui", "--allow-host", name)
    assert done.returncode == 2
    assert "expected a name or an address without scheme and port" in done.stderr


def test_dagster_takes_no_module_from_the_current_folder_and_all_from_the_users_own(
    started: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dagster leaves the first entry of the path out while it loads definitions: that one must not be the user's."""
    _become()
    assert _environment(started)["PYTHONSAFEPATH"] == "1"
    assert "PYTHONPATH" not in _environment(started)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["/mine", "/other"]))
    _become()
    assert _environment(started)["PYTHONPATH"] == os.pathsep.join([os.devnull, "/mine", "/other"])


def test_the_code_server_takes_the_current_folder_for_a_workspace_of_the_users_only(
    started: dict[str, object], tmp_path: Path
) -> None:
    """An etl_assets.py or duckdb.py there would be run in place of the installed one."""
    _become()
    assert _environment(started)["DAGSTER_EMPTY_WORKING_DIRECTORY"] == "1"
    (tmp_path / "workspace.yaml").write_text("load_from: []\n")
    _become()
    assert "DAGSTER_EMPTY_WORKING_DIRECTORY" not in _environment(started)


def test_what_a_folder_without_settings_holds_of_telemetry_is_not_sent(
    started: dict[str, object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own settings decide where there are some."""
    home = tmp_path / "mine"
    home.mkdir()
    (home / "history").touch()
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    _become()
    assert _environment(started)["DAGSTER_DISABLE_TELEMETRY"] == "yes"
    (home / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    _become()
    assert "DAGSTER_DISABLE_TELEMETRY" not in _environment(started)


def test_other_machines_are_let_in_with_a_warning_only(
    started: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    _become(host="0.0.0.0")
    assert "warning: anyone who can reach 0.0.0.0" in capsys.readouterr().err
    _become()
    assert "warning" not in capsys.readouterr().err


def test_a_port_in_use_exits_with_2_and_names_another(cli: Cli, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = cli("ui", "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: Port {port} of 127.0.0.1 is in use")
    assert "etl-assets ui --port" in done.stderr
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("--port", "0"), ("--port", "x"), ("--port", "70000"), ("--host", "no.invalid")])
def test_an_address_that_cannot_be_listened_on_exits_with_2(cli: Cli, arguments: tuple[str, str]) -> None:
    done = cli("ui", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def _answers(url: str) -> bool:
    """Whether the server answers within half a minute: it says that it serves a moment before it does."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(url, timeout=30) as answer:
            return bool(answer.status == 200)
    return False


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_serves_and_ends_with_all_its_processes(tmp_path: Path, stop: signal.Signals) -> None:
    """Started as a shell starts a background job, which ignores SIGINT: it must end all the same."""
    port = _free_port()
    process = subprocess.Popen(
        command("ui", "--port", str(port)),
        env=environment(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )
    assert process.stdout is not None
    try:
        log = ""
        for line in process.stdout:
            log += line
            if re.search(r"Serving dagster-webserver", line):
                break
        assert _answers(f"http://127.0.0.1:{port}/server_info")
        process.send_signal(stop)
        # All its processes hold the other end: it ends when the last of them is gone.
        log += process.stdout.read()
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert "superseded" not in log
    assert "Traceback" not in log
