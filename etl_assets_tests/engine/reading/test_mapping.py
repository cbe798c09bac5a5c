"""Key maps are found, opened and checked as exports are, by the same reading room."""

from pathlib import Path

import pytest

from etl_assets.engine.reading.header_checks import look_at, shared_files, unread_files
from etl_assets.engine.reading.mapping import find_inputs, map_source
from etl_assets.engine.steps.stage import open_inputs
from etl_assets.errors import InputError
from etl_assets_tests.engine.mapped_sources import contract, exports

CONTRACT = contract()
CRM, TICKETS, PAYMENTS = CONTRACT.sources


def test_the_files_of_the_map_come_after_the_exports(tmp_path: Path) -> None:
    found = find_inputs(TICKETS, exports(tmp_path))
    assert [stat.name for stat in found.exports] == ["tickets.csv"]
    assert [stat.name for stat in found.maps] == ["ids/desk.csv"]
    assert [stat.name for stat in found.all] == ["tickets.csv", "ids/desk.csv"]
    assert find_inputs(CRM, tmp_path).maps == ()
    assert map_source(CRM) is None


@pytest.mark.parametrize("header", ["desk id,CLIENT", "Desk-ID, client ", "x,Client,desk_id"])
def test_headers_of_a_map_are_found_as_those_of_exports(tmp_path: Path, header: str) -> None:
    exports(tmp_path, ids=f"{header}\n")
    _, (mapped,) = open_inputs(TICKETS, tmp_path, find_inputs(TICKETS, tmp_path))
    assert mapped.key_columns[0].strip().lower().replace(" ", "_").replace("-", "_") == "desk_id"
    assert mapped.found["to_0"].strip().lower() == "client"


def test_a_column_that_the_map_lacks_is_named_with_the_nearest_header_and_the_word_to_change(tmp_path: Path) -> None:
    """Fails: a person looks for the mistake in the export, or changes `from` where it is `to`."""
    exports(tmp_path, ids="Desk IDs,Cliente\n")
    with pytest.raises(InputError) as caught:
        open_inputs(TICKETS, tmp_path, find_inputs(TICKETS, tmp_path))
    text = caught.value.finding
    assert text.startswith("ids/desk.csv of source 'tickets.key_map' lacks the columns Desk ID, Client.")
    assert "Is Desk ID the column 'Desk IDs'? Then write for it: from: \"Desk IDs\"." in text
    assert "Is Client the column 'Cliente'? Then write for it: to: \"Cliente\"." in text


def test_a_key_that_is_missing_from_an_export_is_named_with_its_own_word(tmp_path: Path) -> None:
    (exports(tmp_path) / "crm.csv").write_text("Acount,name\n")
    with pytest.raises(InputError, match='Then write for it: key: "Acount"'):
        open_inputs(CRM, tmp_path, find_inputs(CRM, tmp_path))


def test_a_map_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (exports(tmp_path) / "ids" / "desk.csv").unlink()
    with pytest.raises(InputError, match=r"matches 'ids/\*\.csv' of source 'tickets\.key_map'"):
        find_inputs(TICKETS, tmp_path)


def test_a_look_finds_the_mistakes_of_export_and_map_at_once(tmp_path: Path) -> None:
    exports(tmp_path, ids="")
    (tmp_path / "tickets.csv").write_text("Requester,number\n")
    found = look_at(TICKETS, tmp_path)
    assert [error.finding.split(" ")[0] for error in found.errors] == ["tickets.csv", "ids/desk.csv"]
    assert [path.name for path in found.map_files] == ["desk.csv"]


def test_an_export_may_be_the_map_of_another_source(tmp_path: Path) -> None:
    """Fails: the accounts, which are the natural map, must be copied to be read twice."""
    exports(tmp_path)
    looked = {source.name: look_at(source, tmp_path) for source in CONTRACT.sources}
    assert [found.errors for found in looked.values()] == [(), (), ()]
    assert [path.name for path in looked["payments"].map_files] == ["crm.csv"]
    assert shared_files({name: found.files for name, found in looked.items()}) == {}
    assert unread_files(looked.values(), tmp_path) == []


def test_a_file_that_only_looks_like_an_export_and_a_map_lacks_the_columns_of_one(tmp_path: Path) -> None:
    """Fails: a pattern that takes in the map reads its rows as records."""
    wide = contract(tickets={"files": ["tickets.csv", "ids/*.csv"]}).source("tickets")
    found = look_at(wide, exports(tmp_path))
    assert ["ids/desk.csv of source 'tickets' lacks" in error.finding for error in found.errors] == [True]
