"""A failed limit of rejects shows a row: file, line, column and cell, and the line that reads it."""

from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import stage
from etl_assets.errors import RejectRatioError
from etl_assets.project.contract import Contract
from etl_assets_tests.factory import staging_request

HEADER = "customer_id,email,name,amount"


def finding(sources: Path, site: Site, content: str | bytes, **words: Any) -> str:
    """What staging a file of this source says; `words` are those of its columns."""
    columns = {"email": None, "name": None, "amount": {"type": "float"}} | words
    contract = Contract.model_validate({"name": "any", "sources": {"crm": {"columns": columns}}})
    (sources / "crm.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(RejectRatioError) as caught:
        stage(contract.source("crm"), staging_request(sources, site, max_reject_ratio=0.05))
    return caught.value.finding


def rows(*lines: str) -> str:
    return "\n".join([HEADER, *lines, ""])


def test_the_first_bad_cell_is_shown_with_the_line_that_reads_it(sources: Path, site: Site) -> None:
    """Fails: the message has counts and a path of sixteen digits, and the first look at a row costs an hour."""
    text = finding(sources, site, rows("1,a@x,Ann,5", "2,b@x,Bob,$99.5", "3,c@x,Cid,$7"))
    assert "For example: crm.csv:3 amount '$99.5'." in text
    assert 'Write for crm in etl_assets.yaml: csv: {currency: ["$"]}.' in text


def test_personal_cells_and_rows_are_not_shown(sources: Path, site: Site) -> None:
    """Fails: an address is in the log of a failed run."""
    masked = finding(sources, site, rows("1,a@x,Ann,secret1", "short"), amount={"type": "float", "pii": True})
    assert "crm.csv:2 amount '•••'" in masked
    assert "crm.csv:3 malformed_row." in masked
    assert "secret1" not in masked
    assert "short" not in masked
    assert "crm.csv:3 malformed_row 'short'" in finding(sources, site, rows("1,a@x,Ann,5", "short"))


def test_cells_cannot_write_lines_of_their_own_into_the_message(sources: Path, site: Site) -> None:
    assert finding(sources, site, rows('1,a,b,"x\nPublished 1,000 \x1b[0m"')).isprintable()


def test_text_of_another_encoding_has_a_reason_of_its_own(sources: Path, site: Site) -> None:
    """Fails: the customers with accents are called malformed, and the word encoding is nowhere."""
    text = finding(sources, site, rows("1,a@x,Ann,5", "2,b@x,Müller,5", "3,c@x,Zoë,7").encode("cp1252"))
    assert "(not_utf8 2)" in text
    assert "Not UTF-8: crm.csv, line 3, byte 0xFC; looks like cp1252." in text
    assert "csv: {encoding: cp1252}." in text


def test_a_delimiter_at_the_end_of_every_row_is_told(sources: Path, site: Site) -> None:
    text = finding(sources, site, rows("1,a@x,Ann,5,", "2,b@x,Bob,5,"))
    assert "csv: {surplus_cell: true}." in text


def test_a_footer_is_told(sources: Path, site: Site) -> None:
    text = finding(
        sources, site, rows(*(f"{n},a@x,Ann,5" for n in range(20)), "", "Report", "Copyright (c)", "By: Ann")
    )
    assert "crm.csv:23 malformed_row 'Report'" in text
    assert "csv: {footer_lines: 3}." in text
