"""A source whose files are written in several ways: each is read as its own entry says, all in one order."""

from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.errors import InputError
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets.project.version import source_version
from etl_assets_tests import factory
from etl_assets_tests.engine.steps.product_exports import write_parquet

COLUMNS = {"name": {}, "revenue": {"type": "decimal(12,2)"}, "since": {"type": "date"}}
GERMAN = {
    "files": ["accounts-*de.csv", "**/german/*"],
    "delimiter": ";",
    "encoding": "cp1252",
    "decimal": ",",
    "thousands": ".",
    "dates": ["%d.%m.%Y"],
}
PROFILES = "SELECT base.*, accounts.name, accounts.revenue, accounts.since FROM customers"


def _site(folder: Path, **source: Any) -> Site:
    accounts = {"files": "**", "columns": COLUMNS, "csv": {"thousands": ","}, **source}
    contract = Contract.model_validate({"name": "regions", "sources": {"accounts": accounts}})
    return Site(Project(contract, PROFILES), Home(folder / "home"), 2)


def _write(folder: Path, name: str, text: str, encoding: str = "utf-8") -> None:
    path = folder / "exports" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))


def _accepted(site: Site) -> list[tuple[Any, ...]]:
    return factory.query(
        site.home.warehouse, "SELECT customer_id, name, revenue, since FROM merged_profiles ORDER BY customer_id"
    )


def test_each_file_is_read_as_it_is_written_and_the_last_row_of_all_files_counts(tmp_path: Path) -> None:
    """Fails: `1.234` of one region is read as that of another, or one region's files come last whatever their names."""
    _write(tmp_path, "accounts-1-us.csv", 'customer_id,name,revenue,since\na,One,"1,234.50",2026-05-01\nb,Two,7,\n')
    german = "customer_id;name;revenue;since\nb;Zwölf;1.234,50;31.12.2025\nc;Drei;1.234;\n"
    _write(tmp_path, "accounts-2-de.csv", german, "cp1252")
    _write(tmp_path, "accounts-3-us.csv", 'customer_id,name,revenue,since\nc,Three,"1,234",\n')
    _write(tmp_path, "x/german/1.csv", "customer_id;name;revenue;since\nd;Vier;0,5;\ne;Fünf;31/12;\n", "cp1252")
    site = _site(tmp_path, csv_by_file=[GERMAN])
    factory.run_engine(tmp_path / "exports", site)
    assert [tuple(map(str, row)) for row in _accepted(site)] == [
        ("a", "One", "1234.50", "2026-05-01"),
        ("b", "Zwölf", "1234.50", "2025-12-31"),
        ("c", "Three", "1234.00", "None"),
        ("d", "Vier", "0.50", "None"),
        ("e", "Fünf", "None", "None"),
    ]
    rows = factory.query(site.home.warehouse, "SELECT file, line_number, reason, cell FROM quarantine ORDER BY ALL")
    assert rows == [
        ("accounts-1-us.csv", 3, "superseded", None),
        ("accounts-2-de.csv", 3, "superseded", None),
        ("x/german/1.csv", 3, "invalid:revenue", "31/12"),
    ]


def test_the_first_entry_that_names_a_file_counts_and_the_rest_is_as_csv_says(tmp_path: Path) -> None:
    _write(tmp_path, "accounts-x.csv", 'customer_id|name|revenue|since\na|One|"1,234"|\n')
    _write(tmp_path, "accounts-y.csv", "customer_id;name;revenue;since\nb;Two;7;\n")
    site = _site(tmp_path, csv_by_file=[{"files": "*-x.csv", "delimiter": "|"}, {"files": "*", "delimiter": ";"}])
    factory.run_engine(tmp_path / "exports", site)
    assert _accepted(site) == [("a", "One", Decimal("1234.00"), None), ("b", "Two", Decimal("7.00"), None)]


def test_how_a_file_is_written_is_no_part_of_its_records(tmp_path: Path) -> None:
    """Fails: another layout of the same data gives every customer another key."""
    _write(tmp_path, "accounts-1.csv", "customer_id,name,revenue,since\na,One,1234.50,2026-05-01\n")
    plain = factory.run_engine(tmp_path / "exports", _site(tmp_path)).publication.digest
    other = tmp_path / "other"
    _write(other, "accounts-de.csv", "customer_id;name;revenue;since\na;One;1.234,50;01.05.2026\n")
    assert factory.run_engine(other / "exports", _site(other, csv_by_file=[GERMAN])).publication.digest == plain


def test_numbers_and_truth_values_of_other_formats_are_not_read_as_texts(tmp_path: Path) -> None:
    """Fails: 1.234 in Parquet is a thousand because the texts beside it write 1.234,5, or its truth values are lost."""
    german = {"decimal": ",", "thousands": ".", "true_words": ["ja"], "false_words": ["nein"]}
    _write(tmp_path, "1.csv", 'customer_id,amount,paid,moment\na,"1.234,5",ja,\n')
    _write(tmp_path, "2.jsonl", '{"customer_id": "b", "amount": 1.234, "paid": true, "moment": 45000.5}\n')
    values = "('c', 1.234, false, 45000.5), ('d', NULL, NULL, NULL)"
    names = "t(customer_id, amount, paid, moment)"
    write_parquet(
        tmp_path / "exports" / "3.parquet",
        f"SELECT customer_id, amount::DOUBLE AS amount, paid, moment::DOUBLE AS moment FROM (VALUES {values}) {names}",
    )
    columns = {"amount": {"type": "float"}, "paid": {"type": "bool"}, "moment": {"type": "timestamp"}}
    csv = {**german, "dates": ["excel"]}
    sources = {"facts": {"files": "*", "columns": columns, "csv": csv}}
    contract = Contract.model_validate({"name": "facts", "sources": sources})
    site = Site(Project(contract, "SELECT base.*, facts.* FROM customers"), Home(tmp_path / "home"), 1)
    factory.run_engine(tmp_path / "exports", site)
    rows = factory.query(site.home.warehouse, "SELECT amount, paid, moment FROM merged_profiles ORDER BY customer_id")
    noon = datetime(2023, 3, 15, 12)
    assert rows == [(1234.5, True, None), (1.234, True, noon), (1.234, False, noon), (None, None, None)]
    assert factory.query(site.home.warehouse, "FROM quarantine") == []


def test_entries_need_to_fit_to_csv_only(tmp_path: Path) -> None:
    """Fails: a word is refused beside a default that the source does not have."""
    fitting: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"decimal": ","}, {"thousands": "."}),
        ({"quote": "'", "escape": "'"}, {"escape": "'"}),
        ({"true_words": ["0"], "false_words": ["1"]}, {"true_words": ["0", "ok"]}),
    ]
    for csv, entry in fitting:
        _site(tmp_path, csv=csv, csv_by_file=[{"files": "x.csv", **entry}])


def test_a_word_that_is_as_by_default_changes_the_version(tmp_path: Path) -> None:
    """Fails: rows that were read with another delimiter stay staged after the contract was corrected."""

    def version(csv: dict[str, Any], entry: dict[str, Any]) -> str:
        site = _site(tmp_path, csv=csv, csv_by_file=[{"files": "x.csv", **entry}])
        return source_version(site.project.contract.sources[0])

    assert version({"delimiter": ";"}, {}) != version({"delimiter": ";"}, {"delimiter": ","})
    assert version({"decimal": ","}, {}) != version({"decimal": ","}, {"decimal": "."})
    # Of a .tsv file, which has tabs where nothing is said.
    assert version({}, {}) != version({}, {"delimiter": ","})
    assert version({}, {}) == version({}, {"decimal": "."})


def test_an_entry_that_names_no_file_is_refused(tmp_path: Path) -> None:
    """Fails: a misspelt pattern, and a file is read with another meaning, without an error."""
    _write(tmp_path, "accounts-1.csv", "customer_id,name,revenue,since\na,One,1.234,\n")
    for entries in ([GERMAN], [{"files": "*", "thousands": ","}, {"files": "accounts-1.csv", "delimiter": ";"}]):
        site = _site(tmp_path, csv_by_file=entries)
        with pytest.raises(InputError, match=r"is read as csv_by_file says of .* The files are: accounts-1\.csv\."):
            factory.run_engine(tmp_path / "exports", site)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"files": "x.csv", "decimal": ","}, "together with csv: "),
        ({"files": "/etc/x.csv"}, "a pattern below the folder of the exports is expected"),
        ({"delimiter": ";"}, r"csv_by_file\.0\.files\n  Field required"),
        ({"files": [], "delimiter": ";"}, "at least 1 item"),
        ({"files": "x.csv", "delimeter": ";"}, "delimeter"),
    ],
)
def test_entries_that_cannot_be_are_refused(tmp_path: Path, entry: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _site(tmp_path, csv_by_file=[entry])
