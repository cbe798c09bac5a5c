"""`etl-assets rejects` as a process: whose rows it shows, in which order and form."""

import csv
import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from etl_assets_tests import factory
from etl_assets_tests.command_line import Cli, on_terminal


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """The environment of exports of which nothing was read yet; one in two rows of `crm` is broken."""
    sound = [factory.row(f"c{number}") for number in range(4)]
    broken = [factory.row("", email="ada@x.example"), factory.row("c8", deal_value="$99"), factory.row("c9"), sound[0]]
    factory.write_exports(tmp_path / "sources", crm=broken, billing=sound, product=sound, support=sound)
    return {
        "ETL_SOURCES": str(tmp_path / "sources"),
        "ETL_HOME": str(tmp_path / "home"),
        "DAGSTER_HOME": str(tmp_path / "dagster"),
        "ETL_NUM_SHARDS": "3",
        "ETL_MAX_REJECT_RATIO": "0.1",
    }


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _write_crm(env: Mapping[str, str], *rows: Mapping[str, str]) -> None:
    factory.write_csv(Path(env["ETL_SOURCES"]) / "crm.csv", factory.PROJECT.contract.source("crm"), rows)


def test_rows_of_a_source_that_failed_are_shown_before_there_is_a_warehouse(cli: Cli, own: Mapping[str, str]) -> None:
    """Fails: whoever meets the reject limit first has a path and a number, and no row to mend."""
    failed = cli("run", env=own)
    assert failed.returncode == 1
    assert "Look at the rejected rows: etl-assets rejects crm" in failed.stderr
    assert not (Path(own["ETL_HOME"]) / "warehouse.duckdb").exists()
    done = cli("rejects", "crm", env=own)
    assert done.returncode == 0, done.stderr
    assert "crm: rows of the exports that were refused " in done.stdout
    counts, _, sample = done.stdout.partition("place")
    assert counts.index("invalid:deal_value") < counts.index("missing_customer_id")
    assert "crm.csv:3" in sample
    assert "$99" in sample
    assert "ada@x.example" in sample


def test_csv_and_json_have_every_row_and_say_which_exports_they_are_of(cli: Cli, own: Mapping[str, str]) -> None:
    cli("run", env=own)
    done = cli("rejects", "--format", "csv", env=own)
    assert [
        (one["source"], one["origin"], one["reason"], one["file"], one["line_number"]) for one in _rows(done.stdout)
    ] == [
        ("crm", "refused", "invalid:deal_value", "crm.csv", "3"),
        ("crm", "refused", "missing_customer_id", "crm.csv", "2"),
    ]
    assert _rows(done.stdout)[0].items() >= {"column": "deal_value", "cell": "", "customer_id": "c8"}.items()
    assert done.stderr.startswith("crm: rows of the exports that were refused ")
    found = json.loads(cli("rejects", "--format", "json", env=own).stdout)
    assert [one["line_number"] for one in found] == [3, 2]


def test_a_reason_or_its_kind_and_a_number_of_rows_can_be_asked_for(cli: Cli, own: Mapping[str, str]) -> None:
    _write_crm(own, *[factory.row("")] * 9, *[factory.row(f"c{n}", deal_value="?", mrr="?") for n in range(9)])
    cli("run", env=own)
    for reason in ("invalid", "invalid:deal_value"):
        done = cli("rejects", "--reason", reason, "--sample", "2", "--format", "csv", env=own)
        assert [(one["reason"], one["line_number"]) for one in _rows(done.stdout)] == [
            ("invalid:deal_value", "11"),
            ("invalid:deal_value", "12"),
        ]
    shown = cli("rejects", env=own).stdout
    # Five of each, and the counts of all.
    assert shown.count("crm.csv:") == 10
    assert cli("rejects", "--sample", "0", env=own).stdout.count("crm.csv:") == 18
    nothing = cli("rejects", "--reason", "invalid:mrr", env=own)
    assert (nothing.returncode, "No rejected rows." in nothing.stdout) == (0, True)


def test_accepted_rejects_are_shown_and_those_of_the_warehouse_when_nothing_is_staged(
    cli: Cli, own: Mapping[str, str]
) -> None:
    """Fails: the rows are gone for this command as soon as the source is accepted, or `staged` was removed."""
    lenient = {**own, "ETL_MAX_REJECT_RATIO": "1"}
    assert cli("run", env=lenient).returncode == 0
    staged = cli("rejects", "crm", "--format", "csv", env=lenient)
    assert {one["origin"] for one in _rows(staged.stdout)} == {"staged"}
    assert staged.stderr == ""
    shutil.rmtree(Path(own["ETL_HOME"]) / "staged")
    kept = cli("rejects", "crm", "--format", "csv", env=lenient)
    assert {one["origin"] for one in _rows(kept.stdout)} == {"warehouse"}
    assert kept.stdout.replace(",warehouse,", ",staged,") == staged.stdout


def test_exports_refused_before_they_were_read_are_named_and_older_rows_said_to_be_older(
    cli: Cli, own: Mapping[str, str]
) -> None:
    """Fails: rows of last week pass for those of the file that failed today."""
    lenient = {**own, "ETL_MAX_REJECT_RATIO": "1"}
    assert cli("run", env=lenient).returncode == 0
    (Path(own["ETL_SOURCES"]) / "crm.csv").write_text("a,b\n1,2\n")
    assert cli("run", env=lenient).returncode == 2
    shown = cli("rejects", "crm", env=lenient).stdout
    assert " before its rows were read: crm.csv of source 'crm' lacks the columns" in shown
    assert "of the exports that were accepted before" in shown


def test_before_anything_was_read_and_for_an_unknown_source_it_says_so(cli: Cli, own: Mapping[str, str]) -> None:
    done = cli("rejects", env=own)
    assert (done.returncode, "nothing was read yet" in done.stdout) == (0, True)
    unknown = cli("rejects", "cmr", env=own)
    assert unknown.returncode == 2
    assert "There is no source 'cmr'. The sources are crm, billing, product, support." in unknown.stderr


def test_what_a_terminal_would_obey_is_shown_as_an_escape(cli: Cli, own: Mapping[str, str]) -> None:
    """Fails: a cell of an export moves the cursor or colours the terminal of whoever looks at it."""
    _write_crm(own, factory.row("c1", deal_value="\x1b[31m?"))
    cli("run", env=own)
    assert "\\x1b[31m?" in cli("rejects", env=own).stdout
    assert "\x1b[31m?" not in on_terminal(200, "rejects", "--format", "csv", env=own)
