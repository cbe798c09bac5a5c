"""`etl-assets run` as a process: exit codes, messages, and that nothing is left half-written."""

import json
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import warehouse
from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli, command, environment


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The environment of exports that were never read: twenty customers, a quarantined row, two shards."""
    customers = [factory.row(f"cust_{number}") for number in range(20)]
    factory.write_exports(tmp_path / "sources", crm=[*customers, factory.row("")], billing=customers)
    return {
        "ETL_SOURCES": str(tmp_path / "sources"),
        "ETL_HOME": str(tmp_path / "home"),
        "ETL_NUM_SHARDS": "2",
        "ETL_WORKERS": "2",
    }


def _home(env: Mapping[str, str]) -> Home:
    return Home(Path(env["ETL_HOME"]))


def _digest(env: Mapping[str, str]) -> object:
    publication = warehouse.read_publication(_home(env))
    return publication and publication.digest


@pytest.mark.slow
def test_a_run_publishes_and_sums_up_and_a_second_one_reuses_everything(cli: Cli, own: Mapping[str, str]) -> None:
    done = cli("run", env=own)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert any(line.split()[:4] == ["crm", "21", "20", "1"] for line in lines)
    assert "2 shards: 2 published; 20 records" in lines
    assert f"digest {_digest(own)}" in done.stdout
    assert str(_home(own).warehouse) in done.stdout
    assert 'Try: etl-assets query "' in done.stdout
    again = cli("run", env=own)
    assert again.returncode == 0, again.stderr
    assert "2 shards: 2 reused; 20 records" in again.stdout
    assert f"digest {_digest(own)}" in again.stdout
    forced = cli("run", "--force", env=own)
    assert "2 shards: 2 published; 20 records" in forced.stdout


@pytest.mark.slow
def test_the_sample_query_that_is_offered_works(cli: Cli, own: Mapping[str, str]) -> None:
    done = cli("run", env=own)
    sql = done.stdout.rpartition('Try: etl-assets query "')[2].splitlines()[0].rstrip('"')
    assert cli("query", sql, env=own).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["home [prod]", "[/x]", "[red]\x1b[31m", "Zoë ✓"])
def test_a_folder_of_any_name_is_shown_as_it_is(cli: Cli, own: Mapping[str, str], tmp_path: Path, name: str) -> None:
    """Brackets were dropped, and [/x] ended in a traceback after the publication."""
    env = {**own, "ETL_HOME": str(tmp_path / name)}
    done = cli("run", env=env)
    assert done.returncode == 0, done.stderr
    shown = name.replace("\x1b", r"\x1b")
    assert f"\nto {tmp_path}/{shown}/warehouse.duckdb (" in done.stdout
    assert f"Warehouse  {tmp_path}/{shown}/warehouse.duckdb\n" in cli("status", env=env).stdout
    in_ascii = cli("run", env={**env, "PYTHONIOENCODING": "ascii"})
    assert (in_ascii.returncode, in_ascii.stderr) == (0, "")
    assert shown.encode("ascii", "backslashreplace").decode() in in_ascii.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "script",
    [
        '"$@" >&-; echo $? >exit',
        '"$@" 2>&-; echo $? >exit',
        '"$@" <&- >&- 2>&-; echo $? >exit',
        '"$@" >/dev/full; echo $? >exit',
        # The second run changes nothing and prints its report only.
        '"$@" >/dev/null; "$@" >/dev/full; echo $? >exit',
        '{ "$@"; echo $? >exit; } | head -1',
    ],
)
def test_the_exit_code_is_the_pipelines_whatever_happens_to_its_output(
    own: Mapping[str, str], tmp_path: Path, script: str
) -> None:
    """A closed stdout ended in a traceback after the publication; a reader that left made shards fail."""
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", *command("run")],
        env=environment(**own),
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (tmp_path / "exit").read_text() == "0\n", done.stderr
    lost = "warning: output is lost: No space left on device\n"
    assert done.stderr == (lost if "/dev/full" in script else "")
    assert _home(own).warehouse.is_file()


def _events(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_run_as_json_lines_has_every_event_and_the_result(cli: Cli, own: Mapping[str, str]) -> None:
    done = cli("run", "--events", "jsonl", env=own)
    assert (done.returncode, done.stderr) == (0, "")
    *events, report = _events(done)
    assert {event["event"] for event in events} == {"step"}
    finished = {event["shard_id"] or event["step"] for event in events if event["status"] == "succeeded"}
    assert finished == {*("crm", "billing", "product", "support"), "shard_00", "shard_01", "merged_profiles"}
    assert {event["shard_id"] for event in events if event["status"] == "running"} >= {"shard_00", "shard_01"}
    assert report["event"] == "report"
    assert report["exit_code"] == 0
    assert report["publication"]["record_count"] == 20
    assert report["publication"]["digest"] == _digest(own)
    assert report["recovery"] is None
    unchanged = _events(cli("run", "--events", "jsonl", env=own))
    assert [line["event"] for line in unchanged] == ["report"]
    assert unchanged[0]["is_unchanged"] is True
    assert unchanged[0]["publication"] == report["publication"]


@pytest.mark.slow
def test_a_failed_run_as_json_lines_names_the_shard_and_the_recovery(cli: Cli, own: Mapping[str, str]) -> None:
    done = cli("run", "--events", "jsonl", env={**own, "ETL_FAULT": "shard.begin raise shard=shard_01"})
    assert done.returncode == 1
    assert "error: shard_01 failed after 4 attempts" in done.stderr
    *events, report = _events(done)
    retried = [event["attempt"] for event in events if event["status"] == "retrying"]
    assert retried == [1, 2, 3]
    assert [event["shard_id"] for event in events if event["status"] == "failed"] == ["shard_01"]
    assert (report["exit_code"], report["failed_shards"]) == (1, ["shard_01"])
    assert (report["publication"], report["recovery"]) == (None, "etl-assets run --shards shard_01")


def _spoil(folder: Path, what: str) -> None:
    path = folder / "crm.csv"
    match what:
        case "folder":
            folder.rename(folder.with_name("gone"))
        case "file":
            path.unlink()
        case "column":
            crm = factory.PROJECT.contract.source("crm")
            columns = [name for name in crm.required if name != "industry"]
            factory.write_csv(path, crm, [factory.row("a")], columns)
        case "empty":
            path.write_bytes(b"")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("folder", "does not exist"),
        ("file", "No export of source 'crm'"),
        ("column", "lacks the column industry"),
        ("empty", "crm.csv of source 'crm' is empty"),
    ],
)
def test_unusable_exports_exit_with_2_and_nothing_is_written(
    cli: Cli, own: Mapping[str, str], tmp_path: Path, what: str, message: str
) -> None:
    _spoil(Path(own["ETL_SOURCES"]), what)
    before = sorted(tmp_path.rglob("*"))
    done = cli("run", env=own)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "changes", "message"),
    [
        (("--shards", "shard_07"), {}, "No such shard: shard_07. With ETL_NUM_SHARDS=2 the shards are shard_00 to"),
        (("--shards", ","), {}, "argument --shards: expected names of shards"),
        ((), {"ETL_HOME": "sources/crm.csv/home"}, "ETL_HOME"),
        ((), {"DAGSTER_HOME": "sources/crm.csv/home"}, "The Dagster home"),
        ((), {"ETL_MAX_REJECT_RATIO": "2"}, "ETL_MAX_REJECT_RATIO must be a share"),
        ((), {"ETL_MEMORY_LIMIT": "1"}, "ETL_MEMORY_LIMIT must be a size"),
        ((), {"ETL_WORKERS": "none"}, "ETL_WORKERS must be a whole number"),
    ],
)
def test_a_request_that_cannot_work_exits_with_2_and_nothing_is_published(
    cli: Cli, own: Mapping[str, str], arguments: tuple[str, ...], changes: Mapping[str, str], message: str
) -> None:
    done = cli("run", *arguments, env={**own, **changes})
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {message}")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not _home(own).staged.exists()
    assert not _home(own).warehouse.exists()


def test_a_warehouse_of_another_shard_count_is_kept_unless_forced(cli: Cli, own: Mapping[str, str]) -> None:
    factory.run_engine(Path(own["ETL_SOURCES"]), factory.site_at(_home(own)))
    before = _home(own).warehouse.read_bytes()
    done = cli("run", env=own)
    assert done.returncode == 2
    assert "was published from 3 shards, but ETL_NUM_SHARDS is 2" in done.stderr
    assert "\n  Try: export ETL_NUM_SHARDS=3\n" in done.stderr
    assert "\n  Rebuild it: etl-assets run --force\n" in done.stderr
    assert _home(own).warehouse.read_bytes() == before


@pytest.mark.slow
def test_too_many_rejects_exit_with_1_and_name_source_and_setting(cli: Cli, own: Mapping[str, str]) -> None:
    done = cli("run", env={**own, "ETL_MAX_REJECT_RATIO": "0.01"})
    assert done.returncode == 1
    assert "error: Source 'crm': 4.8% of 21 rows broke the contract" in done.stderr
    assert "Nothing is published yet." in done.stderr
    assert "Recover: fix the cause, then etl-assets run\n" in done.stderr
    assert not _home(own).warehouse.exists()


@pytest.mark.slow
def test_a_shard_that_fails_exits_with_1_and_the_recovery_recovers(cli: Cli, own: Mapping[str, str]) -> None:
    """A folder where the shard's file belongs is not the pipeline's to remove, so it is not tried again."""
    assert cli("run", env=own).returncode == 0
    before = _digest(own)
    obstacle = _home(own).shard_file("shard_01")
    obstacle.unlink()
    (obstacle / "in the way").mkdir(parents=True)
    done = cli("run", env=own)
    assert done.returncode == 1
    assert "2 shards: 1 reused, 1 failed" in done.stdout
    assert f"error: shard_01 failed: ConfigError: {obstacle} is a folder. Expected a file" in done.stderr
    assert "The published warehouse is unchanged." in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == "Recover: fix the cause, then etl-assets run --shards shard_01"
    assert _digest(own) == before
    (obstacle / "in the way").rmdir()
    obstacle.rmdir()
    recovered = cli("run", "--shards", "shard_01", env=own)
    assert recovered.returncode == 0, recovered.stderr
    assert "1 shard: 1 published" in recovered.stdout
    assert _digest(own) == before


@pytest.mark.slow
def test_profiles_that_break_a_promise_exit_with_1_and_name_the_file_to_change(
    cli: Cli, own: Mapping[str, str], tmp_path: Path
) -> None:
    """The record of an attempt says what is wrong with the profiles, and not where they come from."""
    project = shutil.copytree(factory.PROJECT_FOLDER, tmp_path / "project")
    contract = project / "etl_assets.yaml"
    promise = 'max: 100, required: true, meaning: "Health'
    assert promise in contract.read_text()
    contract.write_text(contract.read_text().replace(promise, promise.replace("100", "1")))
    done = cli("run", env={**own, "ETL_PROJECT": str(project)})
    assert done.returncode == 1
    *_, failed = [line for line in done.stderr.splitlines() if line.startswith("error: shard_0")]
    assert "health_score" in failed
    assert failed.endswith(" Nothing was published. Change sql/profiles.sql.")
    assert not _home(own).warehouse.exists()


def test_sql_that_cannot_be_run_exits_with_2_and_nothing_is_staged(
    cli: Cli, own: Mapping[str, str], tmp_path: Path
) -> None:
    """Fails: a misspelt column is found in every shard, after all exports were read."""
    project = shutil.copytree(factory.PROJECT_FOLDER, tmp_path / "project")
    profiles = project / "sql/profiles.sql"
    profiles.write_text(profiles.read_text().replace("billing.mrr,", "billing.mmr,"))
    done = cli("run", env={**own, "ETL_PROJECT": str(project)})
    assert done.returncode == 2
    assert "billing has no column mmr; did you mean billing.mrr?" in done.stderr
    assert "sql/profiles.sql, line " in done.stderr
    assert not list(_home(own).root.glob("staged/*"))


@pytest.mark.slow
def test_a_partial_result_is_published_only_on_request_and_says_so(cli: Cli, own: Mapping[str, str]) -> None:
    refused = cli("run", "--shards", "shard_00", env=own)
    assert refused.returncode == 1
    assert "shard_01: missing" in refused.stderr
    assert refused.stderr.splitlines()[-1] == "Recover: etl-assets run"
    assert not _home(own).warehouse.exists()
    partial = cli("run", "--shards", "shard_00", "--allow-partial", env=own)
    assert partial.returncode == 0, partial.stderr
    assert "PARTIAL: the profiles of shard_01 are missing from it" in partial.stdout
    publication = warehouse.read_publication(_home(own))
    assert publication is not None
    assert publication.is_partial is True


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_ctrl_c_and_the_stop_of_a_service_exit_with_their_code_and_keep_what_is_finished(
    own: Mapping[str, str], tmp_path: Path, number: signal.Signals, exit_code: int
) -> None:
    """Dagster would take the interrupt for a fault of the step and try the shard again.

    Fails also: a service that was stopped is told to fix the cause, or a closed terminal leaves half-written files.
    """
    obstacle = _home(own).shard_file("shard_01")
    (obstacle / "in the way").mkdir(parents=True)
    with subprocess.Popen(
        command("run"),
        # One worker: the good shard comes before the bad one.
        env=environment(**{**own, "ETL_WORKERS": "1"}),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=lambda: [
            signal.signal(one, signal.SIG_DFL) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        ],
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("shard_01: attempt 1 failed"):
                break
        process.send_signal(number)
        out, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    assert not list(_home(own).root.rglob(".tmp-*"))
    assert errors == "Finished work is kept. Go on with: etl-assets run\ninterrupted\n"
    assert "attempt 2" not in out
    assert "merged_profiles" not in out
    assert _home(own).shard_file("shard_00").is_file()
    assert not _home(own).warehouse.exists()
