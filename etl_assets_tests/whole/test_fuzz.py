"""Random input against the contract's parser and the encoding of keys: `FUZZ_EXAMPLES=5000` for a long run."""

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_assets.engine import keys
from etl_assets.engine.files.layout import Home
from etl_assets.engine.steps.stage import stage
from etl_assets.errors import InputError
from etl_assets.project.contract import ColumnType
from etl_assets_tests import factory
from etl_assets_tests.factory import PROJECT, SOURCES

_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
_FUZZ = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)
_SUPPORT = PROJECT.contract.source("support")
_BASE = (
    "\n".join(
        [
            ",".join(_SUPPORT.required),
            factory.csv_line(_SUPPORT, "cust_1"),
            factory.csv_line(_SUPPORT, '"quoted, ""id"""'),
            factory.csv_line(_SUPPORT, "Zoë"),
            factory.csv_line(_SUPPORT, '"two\nlines"'),
            factory.csv_line(_SUPPORT, "cust_1"),
        ]
    )
    + "\n"
).encode()
_PIECES = st.sampled_from(
    [
        b'"',
        b'""',
        b",",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"'",
        b" ",
        b"\\",
        b"-",
        b"1e9",
    ]
) | st.binary(max_size=5)


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A sound file with some pieces inserted, overwritten, cut out or doubled."""
    data = _BASE
    # Half of them keep the header, or hardly any would get past it.
    first = data.index(b"\n") + 1 if draw(st.integers(0, 3)) else 0
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(min(first, len(data)), len(data)))
        stop = min(len(data), start + draw(st.integers(0, 40)))
        data = (
            draw(
                st.sampled_from([data[:start], data[:start] + data[start:stop]]),
            )
            + draw(_PIECES | st.just(data[start:stop]))
            + data[draw(st.sampled_from([start, stop])) :]
        )
    return data


@_FUZZ
@given(data=_mutated() | st.binary(max_size=300))
def test_any_bytes_are_refused_as_a_whole_or_every_row_is_accounted_for(data: bytes) -> None:
    """No export may crash the pipeline, and no row of it may vanish; damage is a message or a line in quarantine."""
    with tempfile.TemporaryDirectory() as name:
        folder, home = Path(name) / "sources", Home(Path(name) / "home")
        folder.mkdir()
        (folder / "support.csv").write_bytes(data)
        try:
            snapshot, _ = stage(_SUPPORT, factory.staging_request(folder, factory.site_at(home, 2)))
        except InputError:
            return
        accepted = [row for rows in factory.read_slices(home, snapshot) for row in rows]
        rejected = factory.read_quarantine(home, snapshot)
        assert snapshot.rows_in == len(accepted) + len(rejected)
        customers = [row["customer_id"] for row in accepted]
        assert len(set(customers)) == len(customers)
        assert all(customer and len(customer) <= 128 for customer in customers)
        # A line is rejected once, and is a line of the file.
        lines = [row["line_number"] for row in rejected]
        assert len(set(lines)) == len(lines)
        assert all(2 <= line <= data.count(b"\n") + 1 for line in lines)
        # Every non-blank physical line belongs to a record: as many rows at most, and none only when there is none.
        body = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")[1:]
        non_blank = sum(bool(line.removesuffix(b"\r")) for line in body)
        assert snapshot.rows_in <= non_blank or b'"' in data
        if b'"' not in data:
            assert snapshot.rows_in == non_blank


_TEXTS = (
    st.none()
    | st.sampled_from(["", "null", "v1", "crm", '"', "\\", ",", "\0", "\n", "é", "🚀"])
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
)
_VALUES: Mapping[ColumnType, st.SearchStrategy[object]] = {
    ColumnType.TEXT: _TEXTS,
    ColumnType.INT: st.none() | st.integers(-(2**63), 2**63 - 1),
    ColumnType.FLOAT: st.none() | st.floats(allow_nan=False, allow_infinity=False),
    ColumnType.DECIMAL: st.none() | st.decimals(-(10**16) + 1, 10**16 - 1, places=2),
    ColumnType.DATE: st.none() | st.dates(),
}
_Record = tuple[tuple[object, ...] | None, ...]
_RECORDS: st.SearchStrategy[_Record] = st.tuples(
    *(st.none() | st.tuples(*(_VALUES[column.type] for column in source.columns)) for source in SOURCES)
)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """One for all examples: making one takes longer than an encoding."""
    with contextlib.closing(duckdb.connect()) as made:
        yield made


def _encoded(connection: duckdb.DuckDBPyConnection, records: _Record) -> tuple[str, _Record]:
    """The encoding as the product's SQL makes it, and the values' text forms as DuckDB has them."""
    relations, parameters, texts = [], [], []
    for source, record in zip(SOURCES, records, strict=True):
        values = [None] * len(source.columns) if record is None else list(record)
        parameters += [None if record is None else source.name, *values]
        cells = ", ".join(f"?::{column.duckdb} AS {column.name}" for column in source.columns)
        relations.append(f"(SELECT ?::VARCHAR AS {keys.SOURCE_NAME}, {cells}) AS {source.name}")
        texts.append("[" + ", ".join(f"{source.name}.{column.name}::VARCHAR" for column in source.columns) + "]")
    row = connection.execute(
        f"SELECT {keys.encoding_sql(SOURCES)}, {', '.join(texts)} FROM {', '.join(relations)}", parameters
    ).fetchone()
    assert row is not None
    shown: list[tuple[object, ...] | None] = [
        None if record is None else tuple(cells) for record, cells in zip(records, row[1:], strict=True)
    ]
    return row[0], tuple(shown)


_SHORT = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


def _documented(texts: _Record) -> str:
    """The encoding as the docstring of engine/keys.py has it, written without a JSON library."""
    parts: list[str] = [_quoted("v1")]
    for source, record in zip(SOURCES, texts, strict=True):
        cells: Sequence[object] = [None] * len(source.columns) if record is None else record
        parts += ["null" if record is None else _quoted(source.name)]
        parts += ["null" if cell is None else _quoted(str(cell)) for cell in cells]
    return "[" + ",".join(parts) + "]"


def _quoted(text: str) -> str:
    escaped = (_SHORT.get(c) or (f"\\u{ord(c):04X}" if ord(c) < 0x20 else c) for c in text)
    return '"' + "".join(escaped) + '"'


@_FUZZ
@given(records=_RECORDS)
def test_the_encoding_is_the_documented_one_and_gives_its_records_back(
    connection: duckdb.DuckDBPyConnection, records: _Record
) -> None:
    """Fails: two customers' records can have one encoding, and with it one key."""
    encoded, texts = _encoded(connection, records)
    assert encoded == _documented(texts)
    version, *cells = json.loads(encoded)
    assert version == keys.ENCODING_VERSION
    decoded: list[tuple[object, ...] | None] = []
    for source in SOURCES:
        name, *values = cells[: len(source.columns) + 1]
        del cells[: len(source.columns) + 1]
        assert name in {None, source.name}
        decoded.append(None if name is None else tuple(values))
    assert cells == []
    assert tuple(decoded) == texts


@_FUZZ
@given(one=_RECORDS, data=st.data())
def test_two_different_sets_of_records_never_have_the_same_encoding(
    connection: duckdb.DuckDBPyConnection, one: _Record, data: st.DataObject
) -> None:
    """Fails: a change in one cell or one source, where two encodings are most alike, keeps the key."""
    place = data.draw(st.integers(0, len(SOURCES) - 1), label="source")
    record = one[place]
    other_record: tuple[object, ...] | None = None
    if record is None:
        other_record = tuple(None for _ in SOURCES[place].columns)
    elif data.draw(st.booleans(), label="change a cell"):
        cell = data.draw(st.integers(0, len(record) - 1), label="cell")
        value = data.draw(_VALUES[SOURCES[place].columns[cell].type], label="value")
        other_record = (*record[:cell], value, *record[cell + 1 :])
    other = (*one[:place], other_record, *one[place + 1 :])
    (encoded, texts), (other_encoded, other_texts) = _encoded(connection, one), _encoded(connection, other)
    assert (encoded == other_encoded) == (texts == other_texts)
