"""Where records begin and end: whatever the chunks, damage stays where it is and lines are the file's own."""

import csv
import io
from collections.abc import Iterable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.engine.reading import records


class Record(NamedTuple):
    """One scanned record, comparable."""

    line: int
    raw: bytes
    damaged: bool


def scanned(data: bytes, chunk_bytes: int = records.CHUNK_BYTES) -> list[Record]:
    return [
        Record(int(block.lines[index]), block.raw(index), bool(block.damaged[index]))
        for block in records.scan(io.BytesIO(data), chunk_bytes)
        for index in range(len(block.starts))
    ]


def sound_texts(data: bytes) -> list[bytes]:
    return [record.raw for record in scanned(data) if not record.damaged]


# Pieces that meet in the ways that matter: quotes that open, close, double and dangle, every kind of line end.
_PIECES = (
    '"',
    '""',
    ",",
    "\n",
    "\r\n",
    "\r",
    "\0",
    "a",
    "bc",
    " ",
    "é",
    '"x"',
    '"x,\ny"',
    ',"',
    '",',
    "\ufeff",
    "\n\n",
)
dirty_bytes = st.lists(st.sampled_from(_PIECES), max_size=40).map(lambda pieces: "".join(pieces).encode())


@settings(max_examples=300, deadline=None)
@given(dirty_bytes, st.integers(1, 12))
def test_the_size_of_the_chunks_changes_no_record(data: bytes, chunk_bytes: int) -> None:
    """Fails: the same file is counted and quarantined differently, depending on where a read happened to end."""
    assert scanned(data, chunk_bytes) == scanned(data)


@pytest.fixture
def small_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """Records of at most ten bytes, of which quarantine keeps six."""
    monkeypatch.setattr(records, "MAX_RECORD_BYTES", 10)
    monkeypatch.setattr(records, "MAX_RAW_BYTES", 6)
    return 10


class TestOverlongRecords:
    @pytest.fixture(autouse=True)
    def _limit(self, small_limit: int) -> None:
        pass

    @pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 11, 12, 13, 100])
    def test_a_line_too_long_is_damaged_alone_and_cut(self, chunk_bytes: int) -> None:
        found = scanned(b"ab\n" + b"x" * 30 + b"\ncd\n", chunk_bytes)
        assert found == [Record(1, b"ab", False), Record(2, b"xxxxxx", True), Record(3, b"cd", False)]

    @pytest.mark.parametrize("chunk_bytes", [1, 10, 11, 12, 100])
    @pytest.mark.parametrize("terminator", [b"\n", b"\r\n"])
    @pytest.mark.parametrize("text", [b"x" * 10, b'"' + b"x" * 8 + b'"'])
    def test_a_record_of_exactly_the_limit_is_sound(self, text: bytes, terminator: bytes, chunk_bytes: int) -> None:
        assert [record.damaged for record in scanned(text + terminator + b"a" + terminator, chunk_bytes)] == [False] * 2
        assert [record.damaged for record in scanned(b"x" + text + terminator, chunk_bytes)] == [True]

    @pytest.mark.parametrize("chunk_bytes", [1, 7, 16, 100])
    def test_a_quoted_value_longer_than_any_record_gives_its_lines_back(self, chunk_bytes: int) -> None:
        """Fails: one forgotten quote swallows every row up to the next quote of the file."""
        data = b'a\n"' + b"rows\n" * 4 + b'",z\nb\n'
        found = scanned(data, chunk_bytes)
        assert [record.line for record in found] == [1, 2, 3, 4, 5, 6, 7]
        assert [record.raw for record in found if record.damaged] == [b'"rows', b'",z']

    def test_the_last_line_may_be_too_long_and_unterminated(self) -> None:
        assert [(record.line, record.damaged) for record in scanned(b"ab\n" + b"x" * 50, 8)] == [(1, False), (2, True)]


@settings(max_examples=300, deadline=None)
@given(dirty_bytes, st.integers(1, 12), st.integers(0, 12))
def test_the_size_of_the_chunks_changes_no_record_near_the_limit(data: bytes, chunk_bytes: int, limit: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "MAX_RECORD_BYTES", limit)
        patch.setattr(records, "MAX_RAW_BYTES", limit)
        assert scanned(data, chunk_bytes) == scanned(data)


cells = st.text(st.sampled_from('ab",\n é;'), max_size=6)
tables = st.lists(st.lists(cells, min_size=2, max_size=3), max_size=12)


def written(table: Iterable[list[str]], terminator: str) -> bytes:
    stream = io.StringIO(newline="")
    csv.writer(stream, lineterminator=terminator).writerows(table)
    return stream.getvalue().encode()


@settings(max_examples=200, deadline=None)
@given(tables, st.sampled_from(["\n", "\r\n"]), st.integers(1, 20), st.booleans(), st.booleans())
def test_well_formed_files_are_read_as_the_csv_module_reads_them(
    table: list[list[str]], terminator: str, chunk_bytes: int, has_bom: bool, ends_open: bool
) -> None:
    data = written(table, terminator)
    if ends_open:
        data = data.removesuffix(terminator.encode())
    found = scanned(b"\xef\xbb\xbf" * has_bom + data, chunk_bytes)
    assert not any(record.damaged for record in found)
    reread = [row for record in found for row in csv.reader([record.raw.decode()])]
    assert reread == table


@settings(max_examples=200, deadline=None)
@given(tables, st.sampled_from(["\n", "\r\n"]))
def test_a_line_number_is_the_physical_line_the_record_starts_on(table: list[list[str]], terminator: str) -> None:
    """Fails: quarantine sends the user to a line of the file where something else stands."""
    data = written(table, terminator)
    lines = data.split(b"\n")
    for record in scanned(data, 16):
        first_line = record.raw.split(b"\n")[0].removesuffix(b"\r")
        assert lines[record.line - 1].removesuffix(b"\r") == first_line
    assert len(scanned(data)) == len(table)


@settings(max_examples=200, deadline=None)
@given(dirty_bytes)
def test_every_byte_belongs_to_a_record_or_a_line_end(data: bytes) -> None:
    """Fails: a part of the file is neither accepted nor quarantined, and the accounting cannot know."""
    text = data.removeprefix(b"\xef\xbb\xbf")
    position = 0
    for record in scanned(data):
        assert text.startswith(record.raw, position)
        position += len(record.raw)
        for terminator in (b"\r\n", b"\n"):
            if text.startswith(terminator, position):
                position += len(terminator)
                break
    assert position == len(text)


@pytest.mark.parametrize("chunk_bytes", [1, 4, 64, 4096])
@pytest.mark.parametrize("lines_after", [1, 3])
def test_an_unterminated_quote_costs_its_own_line_only(chunk_bytes: int, lines_after: int) -> None:
    data = b'a,b\nx,"open\n' + b"c,d\n" * lines_after + b'e,"f\ng"\nh,i\n'
    found = scanned(data, chunk_bytes)
    damaged = [record for record in found if record.damaged]
    # The open quote pairs with the next one and leaves its line damaged; the row it met is damaged by its own rest.
    assert Record(2, b'x,"open', True) in damaged
    assert [record.raw for record in found if record.raw == b"c,d" and not record.damaged] == [b"c,d"] * lines_after
    assert found[-1] == Record(lines_after + 5, b"h,i", False)


def test_an_unterminated_quote_at_the_very_end_costs_its_own_line_only() -> None:
    found = scanned(b'a,b\n1,2\n3,"4\n5,6\n')
    assert found == [
        Record(1, b"a,b", False),
        Record(2, b"1,2", False),
        Record(3, b'3,"4', True),
        Record(4, b"5,6", False),
    ]


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        (b'"a""b",c', False),
        (b'"",""', False),
        (b'a"b,c', False),  # a quote inside an unquoted value is text
        (b'"a"b,c', True),
        (b'"a" ,c', True),
        (b'a,"b', True),
        (b"a\0,b", True),
        (b'"a\0",b', True),
        (b"a\rb,c", True),
        (b'"a\rb",c', False),  # a lone CR inside quotes is text
        (b'"a\r\nb",c', False),
    ],
)
def test_damage_is_what_no_reader_could_trust(line: bytes, damaged: bool) -> None:
    found = scanned(b"h,h\n" + line + b"\nz,z\n")
    assert [record.raw for record in found] == [b"h,h", line, b"z,z"]
    assert [record.damaged for record in found] == [False, damaged, False]


def test_blank_lines_are_records_that_count_as_lines() -> None:
    blocks = list(records.scan(io.BytesIO(b"a\n\n\r\nb\n\n")))
    assert [bool(blank) for block in blocks for blank in block.blank] == [False, True, True, False, True]
    assert [record.line for record in scanned(b"a\n\n\r\nb\n\n")] == [1, 2, 3, 4, 5]


def test_a_byte_order_mark_is_dropped_at_the_start_only() -> None:
    mark = b"\xef\xbb\xbf"
    assert sound_texts(mark + b"a\n" + mark + b"b\n") == [b"a", mark + b"b"]
    assert scanned(mark) == []


def test_an_empty_stream_has_no_records() -> None:
    assert scanned(b"") == []


@pytest.mark.parametrize(
    ("data", "uniform_lf", "uniform_crlf"),
    [
        (b"a\nb\n", True, False),
        (b"a\r\nb\r\n", False, True),
        (b"a\r\nb", False, True),
        (b"a\r\nb\n", False, False),
        (b"a\nb\r\n", False, False),
    ],
)
def test_blocks_say_which_line_ends_they_have(data: bytes, uniform_lf: bool, uniform_crlf: bool) -> None:
    """Fails: a file of mixed line ends reaches DuckDB as it is, which refuses or misreads it."""
    blocks = list(records.scan(io.BytesIO(data)))
    assert all(block.uniform_lf for block in blocks) == uniform_lf
    assert all(block.uniform_crlf for block in blocks) == uniform_crlf


def test_a_large_file_is_never_held_whole() -> None:
    """Fails: memory follows the size of the export."""
    data = b"0123456789,abc\n" * 20_000
    blocks = list(records.scan(io.BytesIO(data), chunk_bytes=4096))
    assert max(len(block.data) for block in blocks) < 2 * 4096
    assert sum(len(block.starts) for block in blocks) == 20_000
