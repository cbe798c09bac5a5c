"""What may be declared of a key map, and what a change of it makes stale."""

import pytest

from etl_assets.project.version import project_version, source_version
from etl_assets_tests.engine.mapped_sources import MAP, contract
from etl_assets_tests.project.conftest import CONTRACT, Finding


def _mapped(words: str) -> str:
    return f"{CONTRACT}    key: Own ID\n    key_map: {words}\n"


@pytest.mark.parametrize(
    ("words", "findings"),
    [
        ("{files: ids.csv, from: A}", ["line 7: sources.crm.key_map: 'to' is missing"]),
        ("{to: A, from: B}", ["line 7: sources.crm.key_map: 'files' is missing"]),
        ("{files: ids.csv}", ["line 7: sources.crm.key_map: 'from' is missing", "… 'to' is missing"]),
        (
            "{file: ids.csv, from: A, to: B, files: x.csv}",
            ["line 7: sources.crm.key_map.file: unknown word; did you …"],
        ),
        (
            "{files: ids.csv, from: A, to: B, csv: {delimeter: ;}}",
            ["line 7: sources.crm.key_map.csv.delimeter: unknown word; did you mean 'delimiter'?"],
        ),
        ("{files: ../ids.csv, from: A, to: B}", ["line 7: sources.crm.key_map.files: a pattern below the folder …"]),
        ("{files: ids.csv, from: 5, to: B}", ["line 7: sources.crm.key_map.from: expected a text or a list of …"]),
        ("{files: ids.csv, from: A, to: []}", ["line 7: sources.crm.key_map.to: expected at least one entry"]),
        ("ids.csv", ["line 7: sources.crm.key_map: expected words with values, found 'ids.csv'"]),
        (
            "{files: ids.csv, from: Own ID, to: ' own id'}",
            ["line 7: sources.crm.key_map: from and to both name the column  own id; expected the column that has …"],
        ),
        (
            "{files: ids.csv, from: Own ID, to: [own_id, B]}",
            ["line 7: sources.crm.key_map: from and to both name the column own_id; expected the column that has …"],
        ),
        (
            "{files: ids.csv, from: A, to: B, csv_by_file: [{files: x.csv, decimal: ',', thousands: ','}]}",
            ["line 7: sources.crm.key_map: csv_by_file: together with csv: decimal and thousands are the same, …"],
        ),
        (
            "{files: ids.csv, from: A, to: B, csv_by_file: [{files: x.csv, delimeter: ;}]}",
            ["line 7: sources.crm.key_map.csv_by_file.0.delimeter: unknown word; did you mean 'delimiter'?"],
        ),
    ],
)
def test_a_wrong_map_is_refused_at_its_line(findings_in: Finding, words: str, findings: list[str]) -> None:
    """Three dots stand for the rest of a finding."""
    found = findings_in(_mapped(words))
    assert len(found) == len(findings)
    for text, wanted in zip(found, findings, strict=True):
        start, dots, end = wanted.partition("…")
        assert text == wanted if not dots else text.startswith(start) and text.endswith(end)


def test_a_map_changes_the_version_of_its_source_only() -> None:
    """Fails: a renamed map builds every shard again, or a map of another column leaves old keys staged."""
    before, after = contract(), contract({"key_map": {**MAP, "from": "Other ID"}})
    changed = [
        source_version(one) != source_version(other) for one, other in zip(before.sources, after.sources, strict=True)
    ]
    assert changed == [False, True, False]
    assert project_version(before, {}) == project_version(after, {}) == project_version(contract({"key_map": None}), {})


def test_whether_ids_are_personal_changes_no_version() -> None:
    before, after = contract().sources[1], contract({"key_map": {**MAP, "pii": True}}).sources[1]
    assert source_version(before) == source_version(after)
    assert (before.has_personal_ids, after.has_personal_ids) == (False, True)


def test_ids_are_personal_where_a_column_of_the_same_header_is() -> None:
    """Fails: addresses are shown because the contract spells their header in two ways."""
    columns: dict[str, object] = {"columns": {"desk_id": {"pii": True}}, "key": "Desk ID"}
    assert contract(columns).sources[1].has_personal_ids
