"""Files and headers compared with the contract: everything that is wrong, at once."""

from pathlib import Path

import pytest

from etl_assets.engine.reading.header_checks import look_at, refuse_shared_files, shared_files, unread_files
from etl_assets.errors import InputError
from etl_assets.project.contract import Contract, Source


def source(**words: object) -> Source:
    contract = Contract.model_validate({"name": "p", "sources": {"crm": {"columns": ["email", "plan"], **words}}})
    return contract.sources[0]


def test_every_file_with_a_mistake_is_named(tmp_path: Path) -> None:
    """Fails: a person with twelve files mends them one run after another."""
    (tmp_path / "crm").mkdir()
    (tmp_path / "crm" / "1.csv").write_text("customer_id,email,plan,x\n")
    (tmp_path / "crm" / "2.csv").write_text("customer_id,mail,plan\n")
    (tmp_path / "crm" / "3.csv").write_text("")
    found = look_at(source(), tmp_path)
    assert [path.name for path in found.files] == ["1.csv", "2.csv", "3.csv"]
    assert found.extra_columns == ("x",)
    assert [error.finding.split(" of source")[0] for error in found.errors] == ["crm/2.csv", "crm/3.csv"]
    assert "lacks the column email" in found.errors[0].finding


def test_a_pattern_that_matches_nothing_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("customer_id,email,plan\n")
    found = look_at(source(files=["b-*.csv", "a.csv", "c-*.csv"]), tmp_path)
    assert [path.name for path in found.files] == ["a.csv"]
    assert ["'b-*.csv'" in found.errors[0].finding, "'c-*.csv'" in found.errors[1].finding] == [True, True]


def test_a_file_of_two_sources_is_refused_by_name(tmp_path: Path) -> None:
    """Fails: the same rows count for two systems."""
    files = {"crm": [tmp_path / "a.csv", tmp_path / "b.csv"], "billing": [tmp_path / "b.csv"]}
    assert shared_files(files) == {tmp_path / "b.csv": ["crm", "billing"]}
    with pytest.raises(InputError, match=r"b\.csv belongs to the sources crm and billing"):
        refuse_shared_files(files, tmp_path)
    refuse_shared_files({"crm": [tmp_path / "a.csv"], "billing": [tmp_path / "b.csv"]}, tmp_path)


def test_files_that_no_source_reads_are_listed_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("crm.csv", "old/crm.csv", ".x/y.csv", ".z.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("customer_id,email,plan\n")
    assert unread_files([look_at(source(), tmp_path)], tmp_path) == ["old/crm.csv"]
