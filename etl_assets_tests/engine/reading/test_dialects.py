"""Records of other dialects: found by our scan just as Python's csv module writes them, in any encoding."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.engine.reading.decoding import text_of
from etl_assets.engine.reading.marks import marks_of
from etl_assets.engine.reading.records import scan
from etl_assets.project.dialect import Dialect

_CELLS = st.text(st.sampled_from("ab ;,\t|'\"\\\n\r#éß"), max_size=5)
_DIALECTS = st.builds(
    lambda delimiter, quote, escape: Dialect(delimiter=delimiter, quote=quote, escape=escape or quote),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(['"', "'"]),
    st.sampled_from(["", "\\"]),
)


def _text(dialect: Dialect, rows: list[list[str]]) -> str:
    stream = io.StringIO()
    doubles = dialect.escape == dialect.quote
    writer = csv.writer(
        stream,
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        doublequote=doubles,
        escapechar=None if doubles else dialect.escape,
        lineterminator="\n",
        quoting=csv.QUOTE_ALL,
    )
    writer.writerows(rows)
    return stream.getvalue()


def _records(content: bytes, dialect: Dialect, chunk_bytes: int = 1 << 20) -> list[tuple[bytes, int, bool]]:
    """Text, line and damage of each record that is not blank."""
    stream = text_of(io.BytesIO(content), dialect)
    blocks = scan(stream, chunk_bytes, marks=marks_of(dialect), first_line=1 + dialect.skip_lines)
    return [
        (block.raw(index), int(block.lines[index]), bool(block.damaged[index]))
        for block in blocks
        for index in range(len(block.starts))
        if not block.blank[index]
    ]


@settings(max_examples=200, deadline=None)
@given(
    dialect=_DIALECTS,
    rows=st.lists(st.lists(_CELLS, min_size=2, max_size=3), min_size=1, max_size=5),
    chunk_bytes=st.integers(3, 50),
)
def test_records_are_cut_where_they_were_written(dialect: Dialect, rows: list[list[str]], chunk_bytes: int) -> None:
    text = _text(dialect, rows)
    found = _records(text.encode(), dialect, chunk_bytes)
    assert not any(damaged for *_, damaged in found)
    doubles = dialect.escape == dialect.quote
    read = [
        next(
            csv.reader(
                io.StringIO(raw.decode(), newline=""),
                delimiter=dialect.separator,
                quotechar=dialect.quote,
                doublequote=doubles,
                escapechar=None if doubles else dialect.escape,
            )
        )
        for raw, *_ in found
    ]
    assert read == rows


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1"])
def test_the_encoding_does_not_matter(encoding: str) -> None:
    text = 'id;name\n1;Müller\n2;"zwei\nZeilen"\n3;ß\n'
    dialect = Dialect(delimiter=";", encoding=encoding)
    assert _records(text.encode(encoding), dialect) == _records(text.encode(), Dialect(delimiter=";"))


def test_a_byte_that_the_encoding_lacks_damages_its_record_only() -> None:
    """Fails: a question mark stands for what was there, or the whole file is refused."""
    found = _records(b"id,name\n1,\x81\n2,\xe9\n", Dialect(encoding="cp1252"))
    assert [damaged for *_, damaged in found] == [False, True, False]
    assert found[2][0].decode() == "2,é"


def test_utf_16_cut_in_a_character_damages_the_last_record() -> None:
    content = "id,name\n1,a\n2,b".encode("utf-16")[:-1]
    assert [damaged for *_, damaged in _records(content, Dialect(encoding="utf-16"))] == [False, False, True]


def test_lines_around_the_records_are_left_out_and_counted() -> None:
    content = b'Report "Accounts"\n\nid,name\n1,a\n2,b\n\nTotal: 2\nGenerated\n'
    found = _records(content, Dialect(skip_lines=2, footer_lines=2))
    assert found == [(b"id,name", 3, False), (b"1,a", 4, False), (b"2,b", 5, False)]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
@pytest.mark.parametrize("footer_lines", [0, 1, 2, 9])
def test_any_footer_of_any_text(end: bytes, footer_lines: int) -> None:
    lines = [b"a,b", b"1,2", b"3,4", b"total"]
    content = (end or b"\n").join(lines) + end
    found = _records(content, Dialect(footer_lines=footer_lines))
    assert [raw for raw, *_ in found] == lines[: max(0, 4 - footer_lines)]


def test_comments_are_no_records_whatever_they_hold() -> None:
    content = b'# a "comment\nid,name\n# one\n1,"#a"\n#2,b\n3,c\n'
    found = _records(content, Dialect(comment="#"))
    assert found == [(b"id,name", 2, False), (b'1,"#a"', 4, False), (b"3,c", 6, False)]


def test_an_escaped_quote_ends_no_cell() -> None:
    found = _records(b'id,name\n1,"a \\" b\nc"\n2,"open\\"\n3,d\n', Dialect(escape="\\"))
    assert [(line, damaged) for _, line, damaged in found] == [(1, False), (2, False), (4, True), (5, False)]
