"""A source whose files are written in several ways: each is read as its own entry says, all in one order."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets_tests import factory

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
    site = _site(tmp_path, csv_by_file=[{"files": "*-x.csv", "delimiter": "|"}, {"files": "*", "delimiter": ";"}])
    factory.run_engine(tmp_path / "exports", site)
    assert _accepted(site) == [("a", "One", Decimal("1234.00"), None)]


def test_how_a_file_is_written_is_no_part_of_its_records(tmp_path: Path) -> None:
    """Fails: another layout of the same data gives every customer another key."""
    _write(tmp_path, "accounts-1.csv", "customer_id,name,revenue,since\na,One,1234.50,2026-05-01\n")
    plain = factory.run_engine(tmp_path / "exports", _site(tmp_path)).publication.digest
    other = tmp_path / "other"
    _write(other, "accounts-de.csv", "customer_id;name;revenue;since\na;One;1.234,50;01.05.2026\n")
    assert factory.run_engine(other / "exports", _site(other, csv_by_file=[GERMAN])).publication.digest == plain


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ({"files": "x.csv", "decimal": ","}, "together with csv: "),
        ({"files": "/etc/x.csv"}, "a pattern below the folder of the exports is expected"),
        ({"delimiter": ";"}, "files"),
        ({"files": [], "delimiter": ";"}, "files"),
        ({"files": "x.csv", "delimeter": ";"}, "delimeter"),
    ],
)
def test_entries_that_cannot_be_are_refused(tmp_path: Path, entry: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _site(tmp_path, csv_by_file=[entry])
