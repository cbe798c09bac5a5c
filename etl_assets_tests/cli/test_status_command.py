"""`etl-assets status` at every stage of a home, as a process and as JSON."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import attempts, warehouse
from etl_assets.engine.published.status import Status
from etl_assets.engine.site import Site
from etl_assets.engine.steps import merge
from etl_assets.engine.steps.shrinking import ShrinkLimit
from etl_assets.errors import ShrunkError
from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli

ROWS = [factory.row(f"cust_{number}") for number in range(30)]


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The environment of a published warehouse that a test may spoil."""
    factory.write_exports(tmp_path / "sources", crm=ROWS, billing=ROWS, product=ROWS)
    factory.run_engine(tmp_path / "sources", factory.site_at(Home(tmp_path / "home")))
    return {
        "ETL_SOURCES": str(tmp_path / "sources"),
        "ETL_HOME": str(tmp_path / "home"),
        "ETL_NUM_SHARDS": "3",
        "ETL_MAX_REJECT_RATIO": "1",
        # Tests replace thirty rows by one.
        "ETL_MIN_ROWS_RATIO": "0",
    }


def _home(env: Mapping[str, str]) -> Home:
    return Home(Path(env["ETL_HOME"]))


def _site(env: Mapping[str, str]) -> Site:
    return factory.site_at(_home(env))


def _facts(cli: Cli, env: Mapping[str, str]) -> dict[str, Any]:
    done = cli("status", "--json", env=env)
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    # What a person sees must be there at the same stage.
    shown = cli("status", env=env)
    assert shown.returncode == 0, shown.stderr
    assert all(f"{part['shard_id']}  {part['state']}" in shown.stdout for part in facts["shards"])
    assert f"\n{facts['warehouse']['state']}" in shown.stdout
    return facts


def _states(facts: Mapping[str, Any]) -> list[str]:
    return [part["state"] for part in facts["shards"]]


def _fail(home: Home, shard_id: str, status: Status, error: str) -> None:
    begun = attempts.start(home, shard_id, "a-run", 2)
    attempts.finish(home, begun, status, error=error)


def test_before_anything_is_there_the_sources_are_unavailable_and_all_is_missing(cli: Cli, tmp_path: Path) -> None:
    facts = _facts(cli, {"ETL_NUM_SHARDS": "2"})
    assert [source["state"] for source in facts["sources"]] == ["unavailable"] * 4
    assert facts["sources"][0]["reason"] == f"The folder of the exports, {tmp_path}/data/sources, does not exist."
    assert facts["sources"][0]["advice"][1] == {
        "action": "generate",
        "setting": None,
        "value": f"{tmp_path}/data/sources",
        "shards": [],
    }
    shown = cli("status", env={"ETL_NUM_SHARDS": "2"}).stdout
    # Once, not once a source.
    assert shown.count(f"etl-assets generate --rows 100000 --out {tmp_path}/data/sources\n") == 1
    assert _states(facts) == ["missing", "missing"]
    assert facts["warehouse"]["state"] == "missing"
    assert facts["next_command"] is None
    assert list(tmp_path.iterdir()) == []


def test_exports_that_were_never_read_are_not_staged(cli: Cli, sources: Path) -> None:
    factory.write_exports(sources)
    facts = _facts(cli, {"ETL_SOURCES": str(sources)})
    assert [source["state"] for source in facts["sources"]] == ["not_staged"] * 4
    assert facts["next_command"] == "etl-assets run"


def test_a_published_home_is_current_and_its_numbers_are_told(cli: Cli, own: Mapping[str, str]) -> None:
    facts = _facts(cli, own)
    crm = facts["sources"][0]
    assert (crm["state"], crm["rows_in"], crm["rows_accepted"], crm["rows_quarantined"]) == ("current", 30, 30, 0)
    assert _states(facts) == ["published"] * 3
    assert sum(part["record_count"] for part in facts["shards"]) == 30
    publication = warehouse.read_publication(_home(own))
    assert publication is not None
    assert facts["warehouse"]["state"] == "current"
    assert facts["warehouse"]["record_count"] == 30
    assert facts["warehouse"]["digest"] == publication.digest
    assert facts["next_command"] is None
    assert "Everything is up to date." in cli("status", env=own).stdout


def test_the_structure_of_the_json_is_what_scripts_rely_on(cli: Cli, own: Mapping[str, str]) -> None:
    """A renamed field breaks the monitoring of whoever reads it."""
    attempts.start(_home(own), "shard_00", "a-run", 1)
    facts = _facts(cli, own)
    assert set(facts) == {
        *("sources_folder", "home", "shard_count", "sources", "shards", "warehouse", "next_step", "next_command"),
        *("overlap", "notices", "unread_files"),
    }
    assert set(facts["sources"][0]) == {
        *("source", "state", "reason", "snapshot", "files", "rows_in", "rows_accepted", "rows_quarantined"),
        "key_map",
        *("quarantine_reasons", "cell_reasons", "advice", "refusal", "read_files", "ignored_columns"),
    }
    assert set(facts["shards"][0]) == {
        *("shard_id", "state", "reason", "record_count", "elapsed_ms", "published_at", "attempt_count", "last_attempt")
    }
    assert set(facts["shards"][0]["last_attempt"]) == {
        *("run_id", "attempt", "status", "started_at", "ended_at", "elapsed_ms", "record_count", "error")
    }
    assert set(facts["warehouse"]) == {
        *("path", "state", "reason", "published_at", "record_count", "digest", "shard_count", "is_partial"),
        *("missing_shards", "restored_at", "refusal"),
    }


def test_changed_files_are_stale_while_shards_and_warehouse_still_fit_together(
    cli: Cli, own: Mapping[str, str]
) -> None:
    factory.write_csv(
        Path(own["ETL_SOURCES"]) / "crm.csv", factory.PROJECT.contract.source("crm"), [factory.row("new")]
    )
    facts = _facts(cli, own)
    assert [source["state"] for source in facts["sources"]] == ["stale", "current", "current", "current"]
    assert facts["sources"][0]["reason"] == "its files have changed since they were staged"
    assert _states(facts) == ["published"] * 3
    # They are newer than the result.
    assert (facts["warehouse"]["state"], facts["warehouse"]["reason"]) == ("outdated", "the exports of crm are newer")
    assert facts["next_command"] == "etl-assets run"


def test_a_source_that_a_run_refused_says_when_why_and_with_which_share(cli: Cli, own: Mapping[str, str]) -> None:
    """Fails: after a night's failed run, `status` calls the source merely changed, and the old result current."""
    crm = Path(own["ETL_SOURCES"]) / "crm.csv"
    factory.write_csv(crm, factory.PROJECT.contract.source("crm"), [factory.row(""), factory.row("new")])
    strict = {**own, "ETL_MAX_REJECT_RATIO": "0.1"}
    assert cli("run", env=strict).returncode == 1
    facts = _facts(cli, strict)
    refused = facts["sources"][0]
    assert refused["state"] == "refused"
    assert refused["refusal"].items() >= {"kind": "reject_ratio", "share": 0.5, "is_changed": False}.items()
    assert f" at {refused['refusal']['refused_at'][:19].replace('T', ' ')} UTC" in refused["reason"]
    assert (facts["warehouse"]["state"], facts["warehouse"]["reason"]) == ("outdated", "the exports of crm are newer")
    shown = cli("status", env=strict).stdout
    assert "Source 'crm': 50.0% of 2 rows broke the contract" in shown
    assert "etl-assets rejects crm" in shown
    assert "Next: fix the cause, then etl-assets run" in shown
    factory.write_csv(crm, factory.PROJECT.contract.source("crm"), [factory.row("new"), factory.row("newer")])
    assert _facts(cli, strict)["sources"][0]["refusal"]["is_changed"] is True
    assert "; its files have changed since" in cli("status", env=strict).stdout
    assert cli("run", env=strict).returncode == 0
    assert _facts(cli, strict)["sources"][0].items() >= {"state": "current", "refusal": None}.items()


def test_an_export_with_a_bad_header_is_refused_too(cli: Cli, own: Mapping[str, str]) -> None:
    """Fails: only rejects are remembered, and `status` does not say why the source was not taken."""
    (Path(own["ETL_SOURCES"]) / "crm.csv").write_text("a,b\n1,2\n")
    assert cli("run", env=own).returncode == 2
    refused = _facts(cli, own)["sources"][0]
    assert refused["state"] == "refused"
    assert refused["refusal"].items() >= {"kind": "input", "share": None}.items()
    assert "lacks the columns" in refused["reason"]
    assert refused["advice"] == []


def test_a_source_that_a_lower_limit_refused_is_not_called_current(cli: Cli, own: Mapping[str, str]) -> None:
    """Fails: every run fails at a source that `status` shows in green."""
    crm = Path(own["ETL_SOURCES"]) / "crm.csv"
    factory.write_csv(crm, factory.PROJECT.contract.source("crm"), [factory.row(""), factory.row("new")])
    assert cli("run", env=own).returncode == 0
    assert cli("run", env={**own, "ETL_MAX_REJECT_RATIO": "0.1"}).returncode == 1
    assert _facts(cli, own)["sources"][0]["state"] == "refused"


def test_a_file_that_was_only_copied_is_current(cli: Cli, own: Mapping[str, str]) -> None:
    """Restoring a backup changes every time stamp and nothing else."""
    path = Path(own["ETL_SOURCES"]) / "crm.csv"
    shutil.copyfile(path, path.with_name("copy"))
    path.with_name("copy").replace(path)
    assert _facts(cli, own)["sources"][0]["state"] == "current"


def test_shards_of_other_data_are_stale_and_the_reason_is_told(cli: Cli, own: Mapping[str, str]) -> None:
    factory.write_csv(
        Path(own["ETL_SOURCES"]) / "crm.csv", factory.PROJECT.contract.source("crm"), [factory.row("cust_1")]
    )
    factory.stage_all(factory.staging_request(Path(own["ETL_SOURCES"]), _site(own)))
    facts = _facts(cli, own)
    assert _states(facts) == ["stale"] * 3
    assert {part["reason"] for part in facts["shards"]} == {"built from other source data"}
    assert facts["warehouse"]["state"] == "outdated"
    assert facts["warehouse"]["reason"] == "3 of 3 shards are not current"


def test_missing_and_damaged_shards_are_told_apart(cli: Cli, own: Mapping[str, str]) -> None:
    _home(own).shard_file("shard_00").unlink()
    _home(own).shard_file("shard_01").write_bytes(b"not a database")
    facts = _facts(cli, own)
    assert _states(facts) == ["missing", "damaged", "published"]
    assert facts["shards"][0]["reason"] is None
    assert facts["shards"][1]["reason"].startswith("damaged (its file has 14 bytes, its manifest says ")


@pytest.mark.parametrize("status", [Status.FAILED, Status.KILLED, Status.CANCELLED])
def test_a_shard_without_a_current_file_whose_last_attempt_ended_badly_has_failed(
    cli: Cli, own: Mapping[str, str], status: Status
) -> None:
    _home(own).shard_file("shard_01").unlink()
    _fail(_home(own), "shard_01", status, "OSError: disk full\nand a stack")
    part = _facts(cli, own)["shards"][1]
    assert part["state"] == "failed"
    assert part["reason"] == f"attempt 2 {status}: OSError: disk full"
    assert part["attempt_count"] == 1
    assert part["last_attempt"]["error"] == "OSError: disk full"
    assert "shard_01: attempt 2" in cli("status", env=own).stdout


def test_a_current_shard_stays_published_when_a_later_attempt_failed_and_says_so(
    cli: Cli, own: Mapping[str, str]
) -> None:
    _fail(_home(own), "shard_01", Status.FAILED, "OSError: disk full")
    part = _facts(cli, own)["shards"][1]
    assert part["state"] == "published"
    assert part["reason"] == "attempt 2 failed: OSError: disk full"


def test_a_shard_that_is_being_built_is_running(cli: Cli, own: Mapping[str, str]) -> None:
    """The attempt is this process's, which lives."""
    attempts.start(_home(own), "shard_02", "a-run", 1)
    facts = _facts(cli, own)
    assert _states(facts) == ["published", "published", "running"]
    assert facts["next_command"] is None
    assert "A run is in progress." in cli("status", env=own).stdout


def test_a_warehouse_older_than_its_shards_is_outdated(cli: Cli, own: Mapping[str, str]) -> None:
    factory.build_shard(_site(own), factory.input_of(_site(own), "shard_00"), run_id="another")
    warehouse = _facts(cli, own)["warehouse"]
    assert (warehouse["state"], warehouse["reason"]) == ("outdated", "shards or sources were published since")


def test_a_merge_that_was_refused_says_when_why_and_what_helps(cli: Cli, own: Mapping[str, str]) -> None:
    """Fails: the warehouse is called outdated, and why no run makes it current stands in a log of last night only."""
    site = _site(own)
    rows = [{**row, "company_name": ""} for row in ROWS]
    factory.write_exports(Path(own["ETL_SOURCES"]), crm=rows, billing=ROWS, product=ROWS)
    with pytest.raises(ShrunkError) as caught:
        factory.run_engine(Path(own["ETL_SOURCES"]), site, shrink=ShrinkLimit(0.5))
    facts = _facts(cli, own)
    refusal = facts["warehouse"]["refusal"]
    assert facts["warehouse"]["state"] == "outdated"
    assert (refusal["kind"], refusal["finding"]) == ("shrunk", caught.value.finding)
    assert [one["action"] for one in refusal["advice"]] == ["export_again", "accept_shrunk"]
    shown = cli("status", env=own).stdout
    when = refusal["refused_at"][:19].replace("T", " ")
    flat = " ".join(shown.split())
    assert f"The last merge was refused at {when} UTC: Columns have lost all of their values: company_name" in flat
    assert "If it is right, accept it this once: etl-assets run --accept-shrunk" in flat
    assert "Next: fix the cause, then etl-assets run" in shown
    factory.run_engine(Path(own["ETL_SOURCES"]), site)
    assert _facts(cli, own)["warehouse"]["refusal"] is None


def test_a_partial_warehouse_names_what_is_missing(cli: Cli, own: Mapping[str, str]) -> None:
    _home(own).shard_file("shard_01").unlink()
    merge.merge_shards(_site(own), factory.LIMITS, run_id="partial", allow_partial=True)
    warehouse = _facts(cli, own)["warehouse"]
    assert (warehouse["state"], warehouse["missing_shards"]) == ("partial", ["shard_01"])
    assert "partial: without shard_01" in cli("status", env=own).stdout


def test_a_damaged_warehouse_is_told_from_a_missing_one(cli: Cli, own: Mapping[str, str]) -> None:
    _home(own).warehouse.write_bytes(b"not a database")
    assert _facts(cli, own)["warehouse"]["state"] == "damaged"


def test_another_number_of_shards_is_told_with_the_command_that_rebuilds(cli: Cli, own: Mapping[str, str]) -> None:
    facts = _facts(cli, {**own, "ETL_NUM_SHARDS": "4"})
    assert facts["sources"][0]["reason"] == "staged for 3 shards, not 4"
    assert _states(facts) == ["stale", "stale", "stale", "missing"]
    assert facts["warehouse"]["reason"] == "published from 3 shards, ETL_NUM_SHARDS is 4"
    assert facts["next_command"] == "etl-assets run --force"


def test_looking_changes_nothing(cli: Cli, own: Mapping[str, str]) -> None:
    def stamps() -> list[tuple[str, int]]:
        return sorted((str(path), path.stat().st_mtime_ns) for path in _home(own).root.rglob("*"))

    before = stamps()
    _facts(cli, own)
    assert stamps() == before


def test_attempts_are_those_of_the_last_run(cli: Cli, own: Mapping[str, str]) -> None:
    """A count since ever grows with every run and says nothing about this one."""
    for run_id, number in (("first", 1), ("first", 2), ("first", 3), ("second", 1), ("second", 2)):
        begun = attempts.start(_home(own), "shard_01", run_id, number)
        attempts.finish(_home(own), begun, Status.SUCCEEDED, record_count=1)
    lines = cli("status", env=own).stdout.splitlines()
    header = next(line for line in lines if line.startswith("shard "))
    row = next(line for line in lines if line.startswith("shard_01"))
    end = header.index("attempts (last run)") + len("attempts (last run)")
    assert row[:end].endswith(" 2")


def test_the_json_is_valid_on_a_terminal_without_unicode(cli: Cli, own: Mapping[str, str], tmp_path: Path) -> None:
    home = tmp_path / "Zoë"
    done = cli("status", "--json", env={**own, "ETL_HOME": str(home), "PYTHONIOENCODING": "ascii"})
    assert json.loads(done.stdout)["home"] == str(home)


def test_folders_and_errors_are_shown_as_they_are(cli: Cli, own: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "[/x]\x1b[31m").mkdir(parents=True)
    _fail(_home(own), "shard_01", Status.FAILED, "OSError: [/x][red] \x1b[31m")
    shown = cli("status", env={**own, "ETL_SOURCES": str(tmp_path / "[/x]\x1b[31m")}).stdout
    assert f"Sources  {tmp_path}/[/x]\\x1b[31m\n" in shown
    assert r"attempt 2 failed: OSError: [/x][red] \x1b[31m" in shown
    assert "\x1b" not in shown


def test_a_home_below_a_file_is_seen_as_empty(cli: Cli, own: Mapping[str, str], tmp_path: Path) -> None:
    """A mistyped ETL_HOME ended in an error about a file called current.json."""
    (tmp_path / "file").write_text("mine")
    facts = _facts(cli, {**own, "ETL_HOME": str(tmp_path / "file" / "home")})
    assert _states(facts) == ["missing"] * 3
    assert facts["warehouse"]["state"] == "missing"
