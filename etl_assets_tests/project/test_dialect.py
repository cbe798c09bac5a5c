"""Dialects: every word is checked where it is written."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from etl_assets.errors import ConfigError
from etl_assets.project.contract import Contract, Source
from etl_assets.project.dialect import Dialect
from etl_assets.project.loading import load_project
from etl_assets.project.version import project_version, source_version
from etl_assets_tests.project.conftest import write_project

CONTRACT = """\
name: shop
key: {name: customer_id}
sources:
  orders:
    files: "orders-*.csv"
    key: "Customer ID"
    csv: {delimiter: ";", encoding: cp1252, decimal: ",", thousands: "."}
    rows: many
    row_key: number
    columns:
      number: {from: "Order No."}
      total:  {type: "decimal(12,2)", min: 0}
      paid:   {type: bool, required: true}
"""


@pytest.mark.parametrize(
    ("words", "finding"),
    [
        ({"delimiter": ""}, "one character"),
        ({"delimiter": ";;"}, "one character"),
        ({"delimiter": "a"}, "no letter"),
        ({"delimiter": "\n"}, "no letter"),
        ({"delimiter": '"'}, "delimiter and quote are the same"),
        ({"escape": "/"}, "the quote itself"),
        ({"encoding": "cp9999"}, "name of a text encoding"),
        ({"encoding": "rot13"}, "name of a text encoding"),
        ({"encoding": "base64"}, "name of a text encoding"),
        ({"skip_lines": -1}, "greater than or equal"),
        ({"comment": " "}, "visible characters"),
        ({"decimal": "x"}, "expected one of"),
        ({"thousands": "x"}, "expected one of"),
        ({"decimal": ",", "thousands": ","}, "are the same"),
        ({"currency": ["1"]}, "signs or codes"),
        ({"currency": [""]}, "signs or codes"),
        ({"dates": ["DD.MM.YYYY"]}, "a form such as"),
        ({"dates": ["%H:%M"]}, "a form such as"),
        ({"dates": ["%Q.%d.%Y"]}, "a form such as"),
        ({"dates": ["%e.%m.%Y %d"]}, "a form such as"),
        ({"dates": ["%d.%m.%Y %-p"]}, "a form such as"),
        ({"dates": ["%d.%m.%Y %"]}, "a form such as"),
        ({"dates": ["%d.%m.%%Y"]}, "a form such as"),
        ({"true_words": ["Yes"], "false_words": ["yes"]}, "among true_words and false_words"),
        ({"delimeter": ";"}, "Extra inputs"),
    ],
)
def test_a_wrong_word_is_refused(words: dict[str, object], finding: str) -> None:
    with pytest.raises(ValidationError, match=finding):
        Dialect.model_validate(words)


@pytest.mark.parametrize("encoding", ["UTF8", "utf-8-sig", "UTF-16", "windows-1252", "latin-1", "iso8859-15", "cp437"])
def test_encodings_by_their_usual_names(encoding: str) -> None:
    assert Dialect(encoding=encoding).encoding


def test_everything_that_can_be_declared(tmp_path: Path) -> None:
    source = load_project(write_project(tmp_path, CONTRACT, profiles="SELECT 1")).contract.source("orders")
    assert (source.files, source.key_headers, source.row_key) == (("orders-*.csv",), ("Customer ID",), ("number",))
    assert source.has_many
    assert [column.headers for column in source.columns] == [("Order No.",), ("total",), ("paid",)]
    assert [column.duckdb for column in source.columns] == ["VARCHAR", "DECIMAL(12,2)", "BOOLEAN"]
    assert source.needed == {"number", "paid"}
    assert [source.nulls(column) for column in source.columns] == [False, True, False]


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        ('decimal: ","', 'decimal: ";"', r"line 7: sources\.orders\.csv\.decimal: expected one of"),
        (
            "encoding: cp1252",
            "encodign: cp1252",
            r"line 7: sources\.orders\.csv\.encodign: unknown word; did you mean 'encoding'",
        ),
        ('from: "Order No."', 'form: "Order No."', r"line 11: .*form: unknown word; did you mean 'from'"),
        ("decimal(12,2)", "decimal(12,14)", r"line 12: .*a decimal of 12 digits cannot have 14"),
        ("decimal(12,2)", "decimal(50,2)", r"line 12: .*at most 38"),
        (
            "decimal(12,2)",
            "money",
            r"line 12: .*expected 'text', 'int', 'float', 'decimal', 'bool', 'date' or 'timestamp'",
        ),
        ("rows: many", "rows: several", r"line 8: .*expected 'one' or 'many'"),
        ("rows: many", "rows: one", r"line 9: sources\.orders\.row_key: it needs rows: many"),
        ("row_key: number", "row_key: id", r"line 9: sources\.orders\.row_key: id is not among the columns"),
        ("row_key: number", "row_key: no", r"line 9: .*expected a text or a list of texts, found False; YAML reads"),
        ("row_key: number", "latest_by: total", r"line 9: .*with rows: many it needs row_key"),
        (
            "required: true",
            "required: true, on_invalid: set_null",
            r"line 13: .*a required column cannot be set to null",
        ),
        ("min: 0", 'pattern: "["', r"line 12: .*a pattern needs a column of type text"),
    ],
)
def test_a_wrong_declaration_is_named_with_its_line(tmp_path: Path, old: str, new: str, finding: str) -> None:
    assert CONTRACT.count(old) == 1, old
    with pytest.raises(ConfigError, match=finding):
        load_project(write_project(tmp_path, CONTRACT.replace(old, new), profiles="SELECT 1"))


def _contract(**source: object) -> Contract:
    spec = {"columns": {"name": {}}, **source}
    return Contract.model_validate({"name": "p", "sources": {"crm": spec}})


def _source(**source: object) -> Source:
    return _contract(**source).sources[0]


@pytest.mark.parametrize(
    "change",
    [{"csv": {"delimiter": ";"}}, {"key": "ID"}, {"columns": {"name": {"from": "Name of it"}}}, {"files": "c*"}],
)
def test_how_exports_are_read_changes_no_profile(change: dict[str, object]) -> None:
    """Fails: a renamed header gives every customer another key, or its shards another version."""
    assert project_version(_contract(**change), {}) == project_version(_contract(), {})
    assert source_version(_source(**change)) != source_version(_source())


def test_a_word_that_says_the_default_changes_nothing() -> None:
    """Fails: a new version of the package, with one more word, makes every shard of everybody stale."""
    spelled = {"csv": {"quote": '"', "decimal": "."}, "rows": "one", "columns": {"name": {"type": "text"}}}
    assert source_version(_source(**spelled)) == source_version(_source())
    assert project_version(_contract(**spelled), {}) == project_version(_contract(), {})


def test_a_declared_comma_is_another_reading_than_none() -> None:
    """Fails: a .tsv with commas stays refused after its delimiter is declared, for its snapshot is current."""
    assert source_version(_source(csv={"delimiter": ","})) != source_version(_source())


@pytest.mark.parametrize("change", [{"rows": "many"}, {"columns": {"name": {"type": "int"}}}])
def test_what_a_record_is_changes_profiles(change: dict[str, object]) -> None:
    assert project_version(_contract(**change), {}) != project_version(_contract(), {})
