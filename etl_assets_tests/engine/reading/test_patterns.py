"""The files of a source: those its patterns name, in the order of their numbers."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.reading.patterns import natural_order
from etl_assets.errors import InputError
from etl_assets.project.contract import Source


def source(*files: str) -> Source:
    return Source.model_validate({"name": "crm", "files": list(files), "columns": ["name"]})


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("customer_id,name\n1,a\n")


@pytest.mark.parametrize(
    "names",
    [
        ["billing-9.csv", "billing-10.csv"],
        ["billing.csv", "billing (1).csv", "billing (2).csv", "billing (10).csv"],
        ["2025-12.csv", "2026-1.csv", "2026-02.csv"],
        ["a/9.csv", "a/10.csv", "b/1.csv"],
        ["part-00001.csv", "part-00002.csv"],
        ["crm.9.csv", "crm.10.csv", "crm.11.csv.gz"],
        ["crm.csv", "crm.v2.csv", "crm.v10.csv"],
        ["crm.2025-12.eu.csv", "crm.2026-2.eu.csv", "crm.2026-11.eu.csv"],
        ["crm.d.9/1.csv", "crm.d.10/1.csv"],
    ],
)
def test_the_order_is_that_of_numbers(names: list[str]) -> None:
    """Fails: the export of October counts as older than that of September, and its rows are dropped as superseded."""
    assert natural_order(Path(name) for name in reversed(names)) == [Path(name) for name in names]


def test_files_in_a_folder_are_read_in_that_order(tmp_path: Path) -> None:
    put(tmp_path, "crm/x-10.csv", "crm/x-9.csv")
    names = [path.name for path in find_files(Source.model_validate({"name": "crm", "columns": ["name"]}), tmp_path)]
    assert names == ["x-9.csv", "x-10.csv"]


def test_patterns_name_files_in_any_folder(tmp_path: Path) -> None:
    put(tmp_path, "Accounts-2.csv", "Accounts-10.csv", "old/deep/Accounts-1.csv", "Orders.csv", ".Accounts-3.csv")
    names = [
        path.relative_to(tmp_path).as_posix() for path in find_files(source("Accounts-*.csv", "old/**/*.csv"), tmp_path)
    ]
    assert names == ["Accounts-2.csv", "Accounts-10.csv", "old/deep/Accounts-1.csv"]


def test_two_stars_at_the_end_name_every_file_below(tmp_path: Path) -> None:
    """Fails: the pattern names folders only, and the message lists the very folder that the files are in."""
    put(tmp_path, "crm/a.csv", "crm/old/deep/b.csv", "other.csv")
    names = [path.relative_to(tmp_path).as_posix() for path in find_files(source("crm/**"), tmp_path)]
    assert names == ["crm/a.csv", "crm/old/deep/b.csv"]
    assert len(find_files(source("**"), tmp_path)) == 3


def test_a_file_of_two_patterns_is_read_once(tmp_path: Path) -> None:
    put(tmp_path, "a-1.csv")
    assert len(find_files(source("a-*.csv", "*-1.csv"), tmp_path)) == 1


def test_a_pattern_that_names_nothing_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "Orders.csv")
    with pytest.raises(
        InputError, match=r"No file in .* matches 'Accounts-\*\.csv' of source 'crm'. Found: Orders\.csv"
    ):
        find_files(source("Accounts-*.csv"), tmp_path)


@pytest.mark.parametrize("pattern", ["/etc/*", "../*.csv", "a/../../b.csv", "~/x.csv"])
def test_a_pattern_stays_in_the_folder(pattern: str) -> None:
    with pytest.raises(ValidationError, match="below the folder of the exports"):
        source(pattern)


@pytest.mark.parametrize("pattern", ["a**", "**.csv", "crm/x**/*.csv", ".", "./", "a\0.csv"])
def test_a_pattern_that_can_name_no_file_is_refused(pattern: str) -> None:
    """Fails: a run ends in a traceback of the library that looks for files."""
    with pytest.raises(ValidationError, match="expected a pattern such as"):
        source(pattern)
