"""Workbooks: cells as texts, rows as lines, and files that are refused by name before they take all memory."""

import zipfile
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.reading import workbooks
from etl_assets.engine.reading.exports import open_exports
from etl_assets.engine.reading.header_checks import look_at
from etl_assets.engine.reading.verified import FileStat, stat_files
from etl_assets.engine.site import Site
from etl_assets.engine.stopping import Stop
from etl_assets.errors import AttemptTimeoutError, InputError, SourceChangedError
from etl_assets.project.contract import Source
from etl_assets_tests.engine.reading.sheets import Cell, Raw, workbook
from etl_assets_tests.engine.steps.product_exports import no_reading
from etl_assets_tests.engine.steps.test_stage_objects import source_of, staged

_COLUMNS: dict[str, Any] = {
    "name": None,
    "amount": {"type": "decimal(20,4)"},
    "day": {"type": "date"},
    "moment": {"type": "timestamp"},
    "is_paid": {"type": "bool"},
}
PEOPLE = source_of(_COLUMNS)
_HEADER: list[Cell] = ["customer_id", *_COLUMNS]
# A cell in the last corner of a sheet.
_FAR = '<row r="1"><c r="A1"><v>1</v></c></row><row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'


def write(sources: Path, *rows: list[Cell], name: str = "crm.xlsx") -> None:
    """Write a workbook of one sheet."""
    (sources / name).write_bytes(workbook({"Sheet1": rows}))


def open_stat(sources: Path) -> FileStat:
    """The stats of the export."""
    return stat_files([sources / "crm.xlsx"], sources)[0]


def refusal(sources: Path, source: Source = PEOPLE) -> str:
    """Why the export is refused."""
    with pytest.raises(InputError) as caught:
        open_exports(source, sources)
    return str(caught.value)


class TestCells:
    def test_values_are_those_of_the_sheet(self, sources: Path, site: Site) -> None:
        """Fails: an id gets an exponent or `.0`, a date is a count of days, an error passes for an empty cell."""
        write(
            sources,
            _HEADER,
            [1.23457e12, 'say "hi",\nAda', 0.1, date(2026, 5, 1), datetime(2026, 5, 1, 14, 22, 33), True],
            [1234567890123, 12.0, 1234.5, datetime(2026, 5, 2), date(2026, 5, 2), False],
            ["b", Raw('t="e"><v>#N/A</v>'), None, None, None, None],
            ["c", " padded ", "12.5", "2026-05-03", "2026-05-03T10:00:00Z", "yes"],
        )
        found, bad = staged(sources, site, PEOPLE)
        assert not bad
        assert list(found["1234570000000"].values())[1:6] == [
            'say "hi",\nAda',
            Decimal("0.1000"),
            date(2026, 5, 1),
            datetime(2026, 5, 1, 14, 22, 33),
            True,
        ]
        assert found["1234567890123"]["name"] == "12"
        assert found["1234567890123"]["is_paid"] is False
        assert found["b"]["name"] is None
        assert [found["c"][name] for name in ("amount", "day", "is_paid")] == [Decimal("12.5"), date(2026, 5, 3), True]

    def test_numbers_of_cells_are_no_texts_of_the_dialect(self, sources: Path, site: Site) -> None:
        """Fails: 1.234 is a thousand because the texts of the sheet write 1.234,5."""
        words = {"decimal": ",", "thousands": ".", "true_words": ["ja"], "false_words": ["nein"], "nulls": ["#N/A"]}
        write(sources, _HEADER, ["a", None, 1.234, None, None, True], ["b", Raw('t="e"><v>#N/A</v>'), "1.234,5"])
        found, bad = staged(sources, site, source_of(_COLUMNS, csv=words))
        assert not bad
        assert [found[key]["amount"] for key in "ab"] == [Decimal("1.234"), Decimal("1234.5")]
        assert (found["a"]["is_paid"], found["b"]["name"]) == (True, None)

    def test_quarantine_has_the_row_of_the_sheet_and_its_text(self, sources: Path, site: Site) -> None:
        """Fails: a person looks for a mistake in another row."""
        write(
            sources,
            ["Report of May"],
            [],
            _HEADER,
            ["a", "two\nlines", 1],
            [],
            ["b", "x", "many", date(2026, 5, 1)],
            [None, "nobody"],
            ["c", "x", 1, None, None, True, "a note"],
            ["a", "later", 2],
            ["Total", None, 4],
        )
        source = source_of(_COLUMNS, csv={"skip_lines": 2, "footer_lines": 1})
        found, bad = staged(sources, site, source)
        assert {key: row["name"] for key, row in found.items()} == {"a": "later", "b": "x"}
        assert [(one["line_number"], one["reason"], one["raw_text"], one["cell"]) for one in bad] == [
            (4, "superseded", 'a,"two\nlines",1,,,', None),
            (6, "invalid:amount", "b,x,many,2026-05-01,,", "many"),
            (7, "missing_customer_id", ",nobody,,,,", None),
            (8, "malformed_row", "c,x,1,,,true,a note", None),
        ]

    def test_the_sheet_may_be_named(self, sources: Path, site: Site) -> None:
        (sources / "crm.xlsx").write_bytes(workbook({"Notes": [["x"]], "People & co": [_HEADER, ["a"]]}))
        assert list(staged(sources, site, source_of(_COLUMNS, sheet="People & co"))[0]) == ["a"]
        assert "lacks the columns" in refusal(sources)
        text = refusal(sources, source_of(_COLUMNS, sheet="People"))
        assert text == "crm.xlsx has no sheet 'People'. Its sheets: Notes, People & co."

    def test_it_may_be_beside_other_formats_and_is_looked_at_as_they_are(self, sources: Path, site: Site) -> None:
        (sources / "crm").mkdir()
        write(sources, [*_HEADER, "note"], ["a", "x"], name="crm/1.XLSX")
        (sources / "crm" / "2.csv").write_text(f"{','.join(map(str, _HEADER))}\nb,y,,,,\n")
        assert sorted(staged(sources, site, PEOPLE)[0]) == ["a", "b"]
        assert look_at(PEOPLE, sources).extra_columns == ("note",)


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "content", "finding"),
        [
            ("crm.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "crm.xlsx is encrypted, or a workbook"),
            ("crm.xls", b"\xd0\xcf\x11\xe0", "crm.xls is a workbook of the format .xls. Save it as .xlsx"),
            ("crm.ods", b"PK", "crm.ods is a workbook of the format .ods. Save it as .xlsx"),
            ("crm.xlsx.gz", b"x", "crm.xlsx.gz is a workbook in an archive"),
            ("crm.xlsx", b"customer_id\na\n", "is text, not what its name says. Rename it to crm.csv."),
            ("crm.xlsx", workbook({"S": [_HEADER]})[:-30], "crm.xlsx is not a readable workbook"),
            ("crm.xlsx", workbook({}), "has no sheet ''. Its sheets: none."),
            ("crm.xlsx", workbook({"S": "<row><"}), "crm.xlsx is not a readable workbook"),
            ("crm.xlsx", workbook({"S": []}), "starts with an empty line"),
            ("crm.xlsx", workbook({"S": [[], _HEADER]}), "has its header in row 2; expected the header in row 1."),
            ("crm.xlsx", workbook({"S": _FAR}), "A cell far from the others may be the cause. Save the sheet as .csv."),
        ],
    )  # fmt: skip
    def test_what_cannot_be_read_is_named(self, sources: Path, name: str, content: bytes, finding: str) -> None:
        """Fails: a workbook takes all memory, or ends the process of the run."""
        (sources / name).write_bytes(content)
        assert finding in refusal(sources, PEOPLE.with_files((name,)))

    def test_a_declared_size_beyond_the_limit_is_refused_before_it_is_opened(
        self, sources: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: a few KB unpack to more than the memory."""
        write(sources, *[_HEADER] * 20_000)
        form, target = workbooks.reading_of(PEOPLE, PEOPLE.csv), sources / "x"
        monkeypatch.setattr("subprocess.Popen", no_reading)
        with pytest.raises(InputError, match=r"crm\.xlsx .* unpacks to more than the 1 MB"):
            workbooks.write_sheet(sources, open_stat(sources), form, Stop(), 1 << 20, target)

    def test_reading_it_can_be_stopped(self, sources: Path) -> None:
        """Fails: a large workbook holds up a run that was cancelled, or that is over its time limit."""
        write(sources, _HEADER, ["a"])
        stop = Stop()
        stop.request(AttemptTimeoutError("too long"))
        form = workbooks.reading_of(PEOPLE, PEOPLE.csv)
        with pytest.raises(AttemptTimeoutError), workbooks.opened(sources, open_stat(sources), form, stop) as stream:
            stream.read(1)

    def test_another_file_in_its_place_is_noticed(self, sources: Path) -> None:
        write(sources, _HEADER, ["a"])
        stat = open_stat(sources)
        write(sources, _HEADER, ["b"])
        with pytest.raises(SourceChangedError):
            workbooks.opened(sources, stat, workbooks.reading_of(PEOPLE, PEOPLE.csv), Stop()).__enter__()

    def test_a_cell_that_holds_what_looks_like_an_error_is_kept(self, sources: Path, site: Site) -> None:
        write(sources, _HEADER, ["a", '<c t="e">', Raw("t='e'><v>#DIV/0!</v>")])
        found, bad = staged(sources, site, PEOPLE)
        assert found["a"]["name"] == '<c t="e">'
        assert [(one["reason"], one["cell"]) for one in bad] == [("invalid:amount", "#DIV/0!")]

    @pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    def test_how_it_is_packed_does_not_matter(self, sources: Path, site: Site, method: int) -> None:
        (sources / "crm.xlsx").write_bytes(workbook({"S": [_HEADER, ["a"]]}, method))
        assert list(staged(sources, site, PEOPLE)[0]) == ["a"]
