"""Words for null, in cells and in ids: those that programs write by default, and what a project declares instead."""

from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import stage as stage_source
from etl_assets.project.contract import Contract, Source
from etl_assets.project.loading import Project
from etl_assets.project.null_words import DEFAULT_NULLS, SHEET_ERRORS
from etl_assets_tests.factory import read_quarantine, read_slices, staging_request

_COLUMNS: dict[str, Any] = {"name": {}, "visits": {"type": "int"}, "paid": {"type": "bool"}, "day": {"type": "date"}}


def site_of(root: Path, columns: dict[str, Any] | None = None, **source: Any) -> tuple[Site, Source]:
    declared = {"columns": columns or _COLUMNS, **source}
    contract = Contract.model_validate({"name": "p", "sources": {"crm": declared}})
    return Site(Project(contract, "SELECT 1"), Home(root / "home"), 1), contract.source("crm")


def staged(root: Path, *lines: str, columns: dict[str, Any] | None = None, **source: Any) -> tuple[dict[str, Any], Any]:
    """The accepted rows by key, and the entries of the quarantine as (reason, cell)."""
    site, declared = site_of(root, columns, **source)
    folder = root / "exports"
    folder.mkdir(exist_ok=True)
    header = ",".join(("customer_id", *(columns or _COLUMNS)))
    (folder / "crm.csv").write_text("\n".join((header, *lines, "")), encoding="utf-8")
    snapshot: Snapshot = stage_source(declared, staging_request(folder, site))[0]
    rows = {row["customer_id"]: row for part in read_slices(site.home, snapshot) for row in part}
    return rows, sorted((bad["reason"], bad["cell"] or "") for bad in read_quarantine(site.home, snapshot))


@pytest.mark.parametrize("word", [*DEFAULT_NULLS, "  NULL\t", "N/A" + " " * 30])
def test_a_word_for_null_is_null_in_every_column_and_no_id(tmp_path: Path, word: str) -> None:
    """Fails: `N/A` hides the good address of another source, and the id `NULL` makes one profile of strangers."""
    rows, bad = staged(tmp_path, f"a,{word},{word},{word},{word}", f"{word},Ada,1,yes,2026-05-01")
    assert list(rows) == ["a"]
    assert [rows["a"][name] for name in _COLUMNS] == [None] * 4
    assert bad == [("missing_customer_id", "")]


def test_case_counts_in_texts_only(tmp_path: Path) -> None:
    """Fails: a person called Null or Nan loses the name, or the id `None` is a customer in capitals."""
    rows, bad = staged(tmp_path, "a,Null,NULL,NONE,n/A", "b,NONE,1,no,", "c,Nan,1,no,", "nOnE,x,1,no,")
    assert [row["name"] for row in rows.values()] == ["Null", "NONE", "Nan"]
    assert [rows["a"][name] for name in ("visits", "paid", "day")] == [None] * 3
    assert bad == [("missing_customer_id", "")]


def test_namibia_and_other_values_are_no_words_for_null(tmp_path: Path) -> None:
    words = ["NA", "none", "unknown", "--", "0", "Nullmeier", "N/A-12"]
    rows, bad = staged(tmp_path, *(f"{word},{word},,," for word in words if word.lower() != "none"), "x,none,,,")
    assert {row["name"] for row in rows.values()} == set(words)
    assert not bad


def test_errors_of_a_spreadsheet_are_null_in_a_text_and_bad_in_a_number(tmp_path: Path) -> None:
    lines = [f"c{number},{word},{word},," for number, word in enumerate(SHEET_ERRORS)]
    rows, bad = staged(tmp_path, *lines)
    assert {row["name"] for row in rows.values()} == {None}
    assert bad == sorted(("invalid:visits", word) for word in SHEET_ERRORS)


@pytest.mark.parametrize("nulls", [[], [""]])
def test_no_word_is_null_where_the_project_says_so(tmp_path: Path, nulls: list[str]) -> None:
    rows, bad = staged(tmp_path, "None,None,N/A,,", csv={"nulls": nulls})
    assert rows["None"]["name"] == "None"
    assert bad == [("invalid:visits", "N/A")]


def test_declared_words_replace_the_default_ones_but_ids_refuse_both(tmp_path: Path) -> None:
    """Fails: who declares one word of their own gets customers called NULL."""
    lines = ["a,gone,gone,,", "b,NULL,NULL,,", "gone,x,,,", "NULL,x,,,"]
    rows, bad = staged(tmp_path, *lines, csv={"nulls": ["gone"]})
    assert {key: (row["name"], row["visits"]) for key, row in rows.items()} == {"a": (None, None), "b": ("NULL", None)}
    assert bad == [("invalid:visits", "NULL"), ("missing_customer_id", ""), ("missing_customer_id", "")]


def test_a_column_may_keep_every_word_and_declared_values_are_values(tmp_path: Path) -> None:
    """Fails: the last name None is lost, or an allowed value is never there."""
    columns = {"name": {}, "last_name": {"nulls": []}, "tier": {"values": ["None", "Gold"]}}
    rows, bad = staged(tmp_path, "a,None,None,None", "b,x,N/A,N/A", columns=columns)
    assert [(row["name"], row["last_name"], row["tier"]) for row in rows.values()] == [
        (None, "None", "None"),
        ("x", "N/A", None),
    ]
    assert not bad


def test_files_of_one_source_may_differ_in_their_words(tmp_path: Path) -> None:
    site, source = site_of(tmp_path, files=["*.csv"], csv_by_file=[{"files": "b.csv", "nulls": []}])
    folder = tmp_path / "exports"
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.csv").write_text(f"customer_id,name,visits,paid,day\n{name},NULL,n/a,,\nNULL,x,,,\n")
    snapshot = stage_source(source, staging_request(folder, site))[0]
    rows = {row["customer_id"]: row["name"] for part in read_slices(site.home, snapshot) for row in part}
    assert rows == {"a": None, "b": "NULL", "NULL": "x"}
    assert (snapshot.reasons, snapshot.cell_reasons) == ({"missing_customer_id": 1}, {"invalid:visits": 1})


def test_a_required_column_with_a_word_for_null_is_missing(tmp_path: Path) -> None:
    columns = {"name": {"required": True}, "visits": {"type": "int", "required": True}}
    _, bad = staged(tmp_path, "a,N/A,1", "b,x,NULL", columns=columns)
    assert bad == [("missing:name", ""), ("missing:visits", "")]


def test_all_bad_cells_of_a_rejected_row_are_reported(tmp_path: Path) -> None:
    """Fails: who repairs the first cell of a row meets the next one only after the next run."""
    columns = {
        "visits": {"type": "int", "required": True},
        "day": {"type": "date", "on_invalid": "reject_row"},
        "score": {"type": "int", "max": 5},
        "name": {"required": True},
    }
    _, bad = staged(tmp_path, "a,x,never,9,", ",1,,7,Ada", columns=columns)
    assert bad == [
        *(("invalid:day", "never"), ("invalid:score", "7"), ("invalid:score", "9"), ("invalid:visits", "")),
        *(("missing:name", ""), ("missing_customer_id", "")),
    ]


@pytest.mark.parametrize(
    "text",
    ["1.23457E+12", "1,23457E+12", "1.2e5", "1E+15", "-1.5E-05", "#REF!", "#NAME?", "#DIV/0!", "#¡VALOR!", "#####"],
)
def test_an_id_that_a_spreadsheet_damaged_is_rejected(tmp_path: Path, text: str) -> None:
    """Fails: a hundred customers become one, and the run says that all is well."""
    rows, bad = staged(tmp_path, f'"{text}",Ada,,,', "b,x,,,")
    assert list(rows) == ["b"]
    assert bad == [("invalid:customer_id", "")]


@pytest.mark.parametrize("text", ["4e12", "12e45", "1.2.3", "E+12", "#12", "a1.5e+3", "12E", "2024.5", "1e5f"])
def test_hashes_versions_and_numbers_are_no_damaged_ids(tmp_path: Path, text: str) -> None:
    """Fails: a customer whose hexadecimal id looks like a number is rejected."""
    rows, bad = staged(tmp_path, f"{text},Ada,,,")
    assert (list(rows), bad) == ([text], [])


def test_a_key_may_keep_damaged_ids(tmp_path: Path) -> None:
    contract = Contract.model_validate(
        {"name": "p", "key": {"damaged": "keep"}, "sources": {"crm": {"columns": {"name": {}}}}}
    )
    (tmp_path / "exports").mkdir()
    (tmp_path / "exports" / "crm.csv").write_text("customer_id,name\n1.5E+3,x\n")
    site = Site(Project(contract, "SELECT 1"), Home(tmp_path / "home"), 1)
    assert stage_source(contract.source("crm"), staging_request(tmp_path / "exports", site))[0].rows_accepted == 1
