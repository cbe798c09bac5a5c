"""Rows of empty cells are blank lines: a spreadsheet exports those below its table, too."""

import io
from pathlib import Path

import pytest

from etl_assets.engine.reading.marks import PLAIN, Marks
from etl_assets.engine.reading.records import scan
from etl_assets.engine.site import Site
from etl_assets.errors import RejectRatioError
from etl_assets_tests.engine.steps.product_exports import HEADER, PRODUCT, accepted, stage
from etl_assets_tests.factory import csv_line, read_quarantine

SEMICOLONS = Marks(delimiter=b";", quote=b"'", escape=b"'")


def empty_count(record: bytes, marks: Marks = PLAIN) -> int:
    blocks = list(scan(io.BytesIO(b"h,h\n" + record + b"\nx,y\n"), column_count=9, marks=marks))
    assert sum(int(block.blank.sum()) for block in blocks) == sum(block.empty_row_count for block in blocks)
    return sum(block.empty_row_count for block in blocks)


@pytest.mark.parametrize("record", [b",", b",,,,,,,,", b' , "" ,\t', b'"",""', b'" ","\r\n "', b"   ", b",,,,,,,,,,,,"])
def test_cells_without_anything_are_an_empty_row(record: bytes) -> None:
    assert empty_count(record) == 1


@pytest.mark.parametrize("record", [b",0", b'",",,', b'"""",', b",,x", b'"","a"', b";;", b"-,", b'",,,', b'"" "",'])
def test_a_cell_with_anything_in_it_makes_a_row(record: bytes) -> None:
    """Fails: a row is left out, and nothing tells of it."""
    assert empty_count(record) == 0


def test_the_marks_are_those_of_the_dialect() -> None:
    assert (empty_count(b";'';", SEMICOLONS), empty_count(b",;", SEMICOLONS), empty_count(b"\t\t", Marks(b"\t"))) == (
        1,
        0,
        1,
    )


def test_rows_of_empty_cells_are_left_out_and_counted(sources: Path, site: Site) -> None:
    """Fails: thirty rows that a spreadsheet left make a sound export fail the limit of rejects."""
    empty = "," * HEADER.count(",")
    lines = [HEADER, csv_line(PRODUCT, "a"), *[empty] * 30, csv_line(PRODUCT, "b"), csv_line(PRODUCT, "")]
    (sources / "product.csv").write_text("\n".join(lines))
    with pytest.raises(RejectRatioError):
        stage(sources, site, max_reject_ratio=0.3)
    snapshot = stage(sources, site)
    assert (snapshot.rows_in, snapshot.rows_accepted, snapshot.rows_empty) == (3, 2, 30)
    assert set(accepted(site, snapshot)) == {"a", "b"}
    assert [(bad["line_number"], bad["reason"]) for bad in read_quarantine(site.home, snapshot)] == [
        (34, "missing_customer_id")
    ]
