"""What `check`, `run` and `status` say of a key map: its files, its mistakes, and the ids that stand for no key."""

import json
from pathlib import Path
from typing import Any

import pytest

from etl_assets_tests.command_line import Cli
from etl_assets_tests.engine.mapped_sources import IDS, PROFILES, exports

CONTRACT = """\
name: desk
entity: clients
key: {name: client}
sources:
  crm: {key: Account, columns: [name]}
  tickets:
    key: Requester
    key_map: {files: ids/*.csv, from: Desk ID, to: Client}
    rows: many
    columns: {number: {}, minutes: {type: int}}
  payments:
    key: Payer
    key_map: {files: crm.csv, from: Payer, to: Account}
    columns: [plan]
"""
LACKS = "The key_map of tickets (ids/desk.csv; 3 ids) lacks 2 ids of 3 rows, such as 8, 9"
ENV = {"ETL_PROJECT": "mine", "ETL_NUM_SHARDS": "2", "ETL_MAX_REJECT_RATIO": "0.5"}


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """The project in `mine` and its exports; three of six tickets have ids that the map lacks."""
    (tmp_path / "mine" / "sql").mkdir(parents=True)
    (tmp_path / "mine" / "etl_assets.yaml").write_text(CONTRACT)
    (tmp_path / "mine" / "sql" / "profiles.sql").write_text(PROFILES)
    tickets = "1,t1,1\n2,t2,1\n3,t3,1\n8,t4,1\n8,t5,1\n9,t6,1\n"
    return exports(tmp_path / "data" / "sources", tickets, payments="p1,gold\n")


def _json(cli: Cli, command: str) -> dict[str, Any]:
    done = cli(command, "--json", env=ENV)
    found: dict[str, Any] = json.loads(done.stdout)
    return {source["source"]: source for source in found["sources"]}


def test_files_and_ids_are_reported_before_during_and_after_a_run(cli: Cli, sources: Path) -> None:
    """Fails: half of a system's records are missing, and no report names the ids."""
    checked = cli("check", env=ENV)
    assert checked.returncode == 0, checked.stdout
    assert "tickets   tickets.csv; key_map: ids/desk.csv  reads it: it was never read" in checked.stdout
    assert "no source reads" not in checked.stdout
    done = cli("run", env=ENV)
    assert done.returncode == 0, done.stderr
    assert "quarantined: unmapped_client 3; see the table quarantine" in done.stdout
    assert LACKS in done.stdout.splitlines()
    assert LACKS in cli("status", env=ENV).stdout.splitlines()
    # Of the snapshot that is there.
    assert LACKS in cli("check", env=ENV).stdout.splitlines()
    facts = {
        "files": ["ids/desk.csv"],
        "rows_in": 3,
        "rows_ignored": 0,
        "id_count": 3,
        "unmatched": [
            {
                "reason": "unmapped_client",
                "is_ambiguous": False,
                "row_count": 3,
                "id_count": 2,
                "examples": ["8", "9"],
            }
        ],
    }
    status, check = _json(cli, "status"), _json(cli, "check")
    assert (status["tickets"]["key_map"], check["tickets"]["key_map"]) == (facts, facts)
    assert (status["tickets"]["files"], check["tickets"]["map_files"]) == (["tickets.csv"], ["ids/desk.csv"])
    assert (status["crm"]["key_map"], check["crm"]["key_map"], check["crm"]["map_files"]) == (None, None, [])
    (sources / "ids" / "desk.csv").write_text(f"{IDS}8,A1,\n9,A2,\n")
    reason = "the files of its key_map have changed"
    assert (_json(cli, "check")["tickets"]["reason"] or "").startswith(reason)
    status = _json(cli, "status")
    assert (status["tickets"]["state"], status["tickets"]["reason"]) == ("stale", f"{reason} since they were staged")
    assert [status[name]["state"] for name in ("crm", "payments")] == ["current", "current"]
    again = cli("run", env=ENV)
    assert again.returncode == 0, again.stderr
    assert "The key_map" not in again.stdout


def test_the_headers_of_a_map_are_checked_at_the_line_of_its_source(cli: Cli, sources: Path) -> None:
    (sources / "ids" / "desk.csv").write_text("Desk ID,Cliente\n")
    done = cli("check", env=ENV)
    assert done.returncode == 2
    assert (
        "etl_assets.yaml, line 6: ids/desk.csv of source 'tickets.key_map' lacks the column Client. Its header has: "
        "Desk ID, Cliente. Is Client the column 'Cliente'? Then write for it: to: \"Cliente\"."
    ) in done.stdout
    assert "reads it: it has mistakes" in done.stdout
    run = cli("run", env=ENV)
    assert run.returncode == 2
    assert "lacks the column Client" in run.stderr


def test_a_map_without_files_is_a_mistake(cli: Cli, sources: Path) -> None:
    (sources / "ids" / "desk.csv").unlink()
    done = cli("check", env=ENV)
    assert done.returncode == 2
    assert "etl_assets.yaml, line 6: No file in " in done.stdout
    assert "matches 'ids/*.csv' of source 'tickets.key_map'" in done.stdout
    assert "matches 'ids/*.csv' of source 'tickets.key_map'" in cli("status", env=ENV).stdout
