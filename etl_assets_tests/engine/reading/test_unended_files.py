"""Text files that end in the middle of a line, and exports that end where a sheet of Excel does."""

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from etl_assets.engine.published.notices import NoticeKind, source_notices
from etl_assets.engine.site import Site
from etl_assets_tests import factory
from etl_assets_tests.engine.reading.sheets import Cell, workbook
from etl_assets_tests.engine.steps.product_exports import HEADER, PRODUCT, stage

LINES = f"{HEADER}\n{factory.csv_line(PRODUCT, 'a')}\n{factory.csv_line(PRODUCT, 'b')}\n"


def _noted(sources: Path, site: Site, content: bytes, name: str = "product.csv") -> list[str]:
    (sources / name).write_bytes(content)
    snapshot = stage(sources, site)
    found = [notice.finding for notice in source_notices([snapshot]) if notice.kind == NoticeKind.UNENDED_FILE]
    assert len(found) == len(snapshot.unended_files)
    return found


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(LINES[:-1], id="without its last line break"),
        pytest.param(LINES[:-3], id="in the last cell"),
        pytest.param(LINES[:-30], id="cells are missing"),
        pytest.param(f'{LINES}"c', id="an open quote"),
        pytest.param(LINES.replace("\n", "\r\n")[:-2], id="CRLF"),
        pytest.param(f"{LINES}c,x", id="few cells"),
    ],
)
def test_a_file_that_may_be_cut_is_noted(sources: Path, site: Site, content: str) -> None:
    """Fails: `4.75` that was cut to `4` by an interrupted transfer becomes the customer's value without a word."""
    assert _noted(sources, site, content.encode()) == [
        "product.csv (product) ends without a line break: if it was cut, its last row is not whole."
    ]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(LINES, id="LF"),
        pytest.param(LINES.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(f"{LINES}\n\n", id="blank lines"),
        pytest.param(f"{HEADER}\n", id="a header"),
        pytest.param(
            f"{LINES}{factory.csv_line(PRODUCT, 'c', account_status=chr(34) + 'x' + chr(10) + 'y' + chr(34))}\n",
            id="quoted",
        ),
    ],
)
def test_a_file_with_its_last_line_break_is_not_noted(sources: Path, site: Site, content: str) -> None:
    assert _noted(sources, site, content.encode()) == []


def test_packed_files_count_by_what_they_hold(sources: Path, site: Site) -> None:
    """Fails: of packed files, the last byte of the archive decides."""
    assert _noted(sources, site, gzip.compress(LINES.encode()), "product.csv.gz") == []
    assert len(_noted(sources, site, gzip.compress(LINES[:-2].encode()), "product.csv.gz")) == 1


def test_a_large_file_is_judged_by_its_end(sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: the end of a chunk is taken for the end of the file."""
    monkeypatch.setattr("etl_assets.engine.reading.records.CHUNK_BYTES", 100)
    rows = "".join(f"{factory.csv_line(PRODUCT, f'c{number}')}\n" for number in range(200))
    assert _noted(sources, site, f"{HEADER}\n{rows}".encode()) == []
    assert len(_noted(sources, site, f"{HEADER}\n{rows}"[:-1].encode())) == 1


@pytest.mark.parametrize(("count", "is_noted"), [(65_534, False), (65_535, True), (65_536, False)])
def test_as_many_rows_as_a_sheet_holds_are_noted(sources: Path, site: Site, count: int, *, is_noted: bool) -> None:
    """Fails: an export that went through Excel ends at its last row, and the customers beyond are gone."""
    line = factory.csv_line(PRODUCT, "{}")
    (sources / "product.csv").write_text(f"{HEADER}\n" + "".join(f"{line.format(n)}\n" for n in range(count)))
    found = [notice.finding for notice in source_notices([stage(sources, site)])]
    assert any("exactly as many as fit on a sheet of Excel" in finding for finding in found) is is_noted


@pytest.mark.parametrize(("count", "is_noted"), [(1_048_574, False), (1_048_575, True), (1_048_576, False)])
@pytest.mark.parametrize("name", ["product.csv", "product.xlsx"])
def test_a_full_sheet_of_the_present_form_is_noted(
    sources: Path, site: Site, name: str, count: int, *, is_noted: bool
) -> None:
    """Fails: only the sheets of 2003 are known, and a million customers of more are published as all."""
    if name.endswith(".csv"):
        (sources / name).write_text(LINES)
    else:
        rows: list[list[Cell]] = [list(line.split(",")) for line in LINES.splitlines()]
        (sources / name).write_bytes(workbook({"Sheet1": rows}))
    snapshot = stage(sources, site)
    assert (snapshot.files, snapshot.file_rows) == ((name,), (2,))
    full = [one for one in source_notices([replace(snapshot, file_rows=(count,))]) if one.kind == NoticeKind.FULL_SHEET]
    assert [(one.is_warning, one.figures) for one in full] == [(True, {"row_count": count})] * is_noted
