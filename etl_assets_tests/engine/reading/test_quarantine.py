"""A rejected row keeps its source, file, physical line, raw text, customer and reason."""

import gzip
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import current_snapshot
from etl_assets.engine.reading import records
from etl_assets.engine.steps.stage import stage
from etl_assets.project.contract import Source
from etl_assets_tests.factory import (
    LIMITS,
    PROJECT,
    csv_line,
    read_quarantine,
    row,
    site_at,
    staging_request,
    write_csv,
)

PRODUCT = PROJECT.contract.source("product")
HEADER = ",".join(PRODUCT.required)


class Rejected(NamedTuple):
    """A rejected row of the quarantine, without its source."""

    file: str
    line_number: int
    customer_id: str | None
    raw_text: str
    reason: str


def rejected(sources: Path, home: Home, source: Source = PRODUCT) -> list[Rejected]:
    """Stage the files that lie there and read the quarantine."""
    snapshot, _ = stage(source, staging_request(sources, site_at(home)))
    rows = [found for found in read_quarantine(home, snapshot) if found["cell"] is None]
    assert {found["source"] for found in rows} <= {source.name}
    assert snapshot.rows_in == snapshot.rows_accepted + len(rows)
    return [Rejected(**{name: found[name] for name in Rejected._fields}) for found in rows]


def write_lines(path: Path, *lines: str | bytes, end: str = "\n") -> Path:
    """A CSV of a header and these lines; a gzip file when its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = end.encode().join(line.encode() if isinstance(line, str) else line for line in (HEADER, *lines, b""))
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return path


def line(customer_id: str, **changes: str) -> str:
    return csv_line(PRODUCT, customer_id, **changes)


@pytest.mark.parametrize(
    ("text", "customer_id", "reason"),
    [
        (line(""), None, "missing_customer_id"),
        (line("  \t"), None, "missing_customer_id"),
        (line('""'), None, "missing_customer_id"),
        (line('" \r\n "'), None, "missing_customer_id"),
        (line("x" * 129), "x" * 129, "invalid:customer_id"),
        (line("é" * 129), "é" * 129, "invalid:customer_id"),
        (line("c", signup_date="2025-02-30"), "c", "invalid:signup_date"),
        (line("c", last_active="yesterday"), "c", "invalid:last_active"),
        (line("c", total_sessions="1e+3"), "c", "invalid:total_sessions"),
        (line("c", features_used="7.5"), "c", "invalid:features_used"),
        (line("c", usage_pct="101"), "c", "invalid:usage_pct"),
        (line("c", usage_pct="-1"), "c", "invalid:usage_pct"),
        (line(" c\t", usage_pct="n.a."), "c", "invalid:usage_pct"),
        (line("", usage_pct="n.a."), None, "missing_customer_id"),  # the first broken rule is the reason
        (line("c", signup_date="x", usage_pct="y"), "c", "invalid:signup_date"),
        ("c,too,few", None, "malformed_row"),
        ("c", None, "malformed_row"),
        (line("c") + ",too,many", None, "malformed_row"),
        (line("c", email='"open'), None, "malformed_row"),
        (line("c", email='"closed" early'), None, "malformed_row"),
        (line("c", email="lone\rcr"), None, "malformed_row"),
        (line("c", email="nul\0"), None, "malformed_row"),
    ],
)
def test_a_row_that_breaks_the_contract_is_kept_as_it_stands_with_its_reason(
    sources: Path, home: Home, text: str, customer_id: str | None, reason: str
) -> None:
    write_lines(sources / "product.csv", line("a"), text, line("b"))
    assert rejected(sources, home) == [Rejected("product.csv", 3, customer_id, text, reason)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"nps_score": "11"}, "invalid:nps_score"),
        ({"nps_score": "-1"}, "invalid:nps_score"),
        ({"csat_score": "0.99"}, "invalid:csat_score"),
        ({"csat_score": "5.01"}, "invalid:csat_score"),
        ({"csat_score": "-nan"}, "invalid:csat_score"),
        ({"avg_resolution_hrs": "inf"}, "invalid:avg_resolution_hrs"),
        ({"last_ticket_date": "never"}, "invalid:last_ticket_date"),
    ],
)
def test_support_rows_out_of_range_are_rejected(
    sources: Path, home: Home, changes: dict[str, str], reason: str
) -> None:
    support = PROJECT.contract.source("support")
    write_csv(sources / "support.csv", support, [row("a"), row("b", **changes), row("c", last_ticket_date="")])
    (found,) = rejected(sources, home, support)
    assert (found.line_number, found.customer_id, found.reason) == (3, "b", reason)


def test_bytes_that_are_not_utf8_are_kept_readable(sources: Path, home: Home) -> None:
    write_lines(sources / "product.csv", line("a"), line("b", email="X").encode().replace(b"X", b"caf\xe9"), line("c"))
    text = line("b", email="caf\\xe9")
    assert rejected(sources, home) == [Rejected("product.csv", 3, None, text, "not_utf8")]


def test_the_reason_reaches_the_accounting(sources: Path, home: Home) -> None:
    write_lines(sources / "product.csv", line(""), line("a", usage_pct="x"), line("b"), line("b"), line(""), "short")
    snapshot, _ = stage(PRODUCT, staging_request(sources, site_at(home)))
    assert snapshot.reasons == {
        "invalid:usage_pct": 1,
        "malformed_row": 1,
        "missing_customer_id": 2,
        "superseded": 1,
    }
    assert (snapshot.rows_in, snapshot.rows_accepted, snapshot.rows_quarantined) == (6, 1, 5)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    "before",
    [
        [line("a", email='"two\nlines"')],
        [line("a", email='"two\r\nlines"'), line("b", email='"\n\n\n"')],
        ["", line("a"), "", ""],
        [line("a", email='"open'), line("b")],
        ["short", line("a"), line("b") + ",x"],
        [line("a", email='"open'), "", "short", line("b", email='"a\n\nb"'), line("c", email="nul\0")],
    ],
)
def test_the_line_number_is_the_physical_one_after_anything(
    sources: Path, home: Home, before: list[str], end: str
) -> None:
    """Fails: the user opens the export at the line that was named and sees a sound row."""
    path = write_lines(sources / "product.csv", *before, line("", email="wanted"), line("z"), end=end)
    expected = path.read_bytes().split(b"wanted")[0].count(b"\n") + 1
    wanted = [found for found in rejected(sources, home) if "wanted" in found.raw_text]
    assert wanted == [
        Rejected("product.csv", expected, None, line("", email="wanted"), "missing_customer_id"),
    ]


def test_mixed_line_ends_leave_the_line_numbers_alone(sources: Path, home: Home) -> None:
    text = "\r\n".join([HEADER, line("a"), line("b") + "\n" + line(""), line("c")]) + "\n" + line("", email="last")
    (sources / "product.csv").write_bytes(text.encode())
    found = rejected(sources, home)
    assert [(bad.line_number, bad.raw_text) for bad in found] == [(4, line("")), (6, line("", email="last"))]


def test_an_unterminated_quote_takes_no_neighbour_with_it(sources: Path, home: Home) -> None:
    """Fails: one forgotten quote loses every customer after it."""
    write_lines(sources / "product.csv", line("a"), line("b", email='"open'), line("c"), line("d", email='"x"'))
    snapshot, _ = stage(PRODUCT, staging_request(sources, site_at(home)))
    assert snapshot.reasons == {"malformed_row": 1}
    assert snapshot.rows_accepted == 3


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_each_file_of_a_folder_has_lines_of_its_own(sources: Path, home: Home, suffix: str) -> None:
    folder = sources / "product"
    write_lines(folder / f"a{suffix}", line("1"), line(""), line("2"))
    write_lines(folder / "b.csv", line("3"))
    write_lines(folder / f"c{suffix}", line("4", email='"two\nlines"'), "short", line("2"), line("5", usage_pct="x"))
    assert rejected(sources, home) == [
        Rejected(f"product/a{suffix}", 3, None, line(""), "missing_customer_id"),
        Rejected(f"product/a{suffix}", 4, "2", line("2"), "superseded"),
        Rejected(f"product/c{suffix}", 4, None, "short", "malformed_row"),
        Rejected(f"product/c{suffix}", 6, "5", line("5", usage_pct="x"), "invalid:usage_pct"),
    ]


@pytest.mark.parametrize(
    "name", ["it's.csv", 'two "words".csv', "100%.csv", "[a]*.csv", "größe.csv", "x;y.csv", "{0}.csv"]
)
def test_any_file_name_is_kept(sources: Path, home: Home, name: str) -> None:
    write_lines(sources / "product" / name, line("a"), line(""))
    assert rejected(sources, home) == [Rejected(f"product/{name}", 3, None, line(""), "missing_customer_id")]


@pytest.mark.parametrize("text", ["'; DROP TABLE rejected; --", '" OR ""1""=""1"', "=cmd|' /C calc'!A0", "\\x00", "%s"])
def test_text_that_looks_like_code_is_text(sources: Path, home: Home, text: str) -> None:
    write_lines(sources / "product.csv", line("a"), line("b", email=text, usage_pct="x"))
    (found,) = rejected(sources, home)
    assert found == Rejected("product.csv", 3, "b", line("b", email=text, usage_pct="x"), "invalid:usage_pct")


def test_a_record_too_long_is_rejected_and_cut(sources: Path, home: Home) -> None:
    """Fails: a binary file among the exports takes the memory, or the quarantine, with it."""
    huge = line("a", email="y" * (records.MAX_RECORD_BYTES + 1))
    write_lines(sources / "product.csv", line("b"), huge, line(""))
    first, second = rejected(sources, home)
    assert first == Rejected("product.csv", 3, None, huge[: records.MAX_RAW_BYTES], "malformed_row")
    assert (second.line_number, second.reason) == (4, "missing_customer_id")


def test_a_parquet_row_is_kept_as_json_with_its_number(sources: Path, home: Home) -> None:
    """Fails: the row that broke the contract cannot be looked up, because its raw text is not what the file holds."""
    cells = "'2025-01-01' AS signup_date, '2025-01-01' AS last_active, 1 AS total_sessions, 2 AS features_used"
    with duckdb.connect() as connection:
        connection.execute(
            f"""COPY (SELECT nullif('c' || i, 'c1') AS customer_id, 'it''s "x"' AS email, {cells}, 50 + i * 30 AS
            usage_pct, 'active' AS account_status, 5 AS "row", 'q' AS reason, {{'a': [i]}} AS "Odd Name"
            FROM range(3) t(i)) TO '{sources / "product.parquet"}' (FORMAT parquet)"""
        )
    shared = '"email":"it\'s \\"x\\"","signup_date":"2025-01-01","last_active":"2025-01-01",'
    shared += '"total_sessions":1,"features_used":2'
    tail = '"account_status":"active","row":5,"reason":"q","Odd Name"'
    assert rejected(sources, home) == [
        Rejected(
            "product.parquet",
            number,
            customer_id,
            f'{{"customer_id":{shown},{shared},"usage_pct":{usage},{tail}:{{"a":[{number - 1}]}}}}',
            reason,
        )
        for number, customer_id, shown, usage, reason in [
            (2, None, "null", 80, "missing_customer_id"),
            (3, "c2", '"c2"', 110, "invalid:usage_pct"),
        ]
    ]


def test_lines_are_right_far_into_a_large_file_read_by_many_threads(sources: Path, home: Home) -> None:
    """Fails: row numbers follow the threads, and the wrong rows are superseded and quarantined."""
    count = 150_000
    lines = [line(f"c{number:07d}") for number in range(count)]
    bad = [50_000, 100_000, 149_990]
    for number in bad:
        lines[number] = line("")
        lines[number + 1] = "short"
        lines[number + 2] = line("c0000007")
    write_lines(sources / "product.csv", *lines)
    request = replace(staging_request(sources, site_at(home)), limits=replace(LIMITS, threads=4))
    snapshot, _ = stage(PRODUCT, request)
    found = [(bad["line_number"], bad["reason"]) for bad in read_quarantine(home, snapshot)]
    expected = [(9, "superseded")]
    for number in bad:
        expected += [(number + 2, "missing_customer_id"), (number + 3, "malformed_row"), (number + 4, "superseded")]
    assert found == expected[:-1]


@dataclass(frozen=True)
class Row:
    """A line as it is written, and what the contract says of it, written down a second time."""

    text: str
    customer_id: str | None
    reason: str | None


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n\r') else text


def _is_day(text: str) -> bool:
    try:
        return not text.strip() or bool(date.fromisoformat(text.strip()))
    except ValueError:
        return False


def _is_whole(text: str, low: int, high: int) -> bool:
    stripped = text.strip().removesuffix(".0")
    return not stripped or (stripped.lstrip("+-").isdigit() and low <= int(stripped) <= high)


_CELLS: dict[str, Any] = {
    "customer_id": st.sampled_from(["c1", "c2", " c2 ", "c,3", 'c"4', "c\n5", "", " ", "'--", "Ünal", "x" * 129]),
    "email": st.sampled_from(["a@b", "", "two\nlines", "two\r\nlines", 'q"q', "a,b", '"']),
    "signup_date": st.sampled_from(["2025-01-01", "", "2025-02-29", "x"]),
    "total_sessions": st.sampled_from(["5", "", " 7 ", "12.0", "+3", "1.5"]),
    "usage_pct": st.sampled_from(["0", "100", "101", "", "-1"]),
}
_DAMAGED = ["short", "a,b", 'c1,"open', "nul\0,", 'c1,"a"b,', "lone\rcr"]


@st.composite
def rows_of_product(draw: st.DrawFn) -> Row:
    if draw(st.integers(0, 6)) == 0:
        return Row(draw(st.sampled_from(_DAMAGED)), None, "malformed_row")
    cells = {name: draw(strategy) for name, strategy in _CELLS.items()}
    customer_id = cells["customer_id"].strip() or None
    reason = None
    if customer_id is None:
        reason = "missing_customer_id"
    elif len(customer_id) > 128:
        reason = "invalid:customer_id"
    elif not _is_day(cells["signup_date"]):
        reason = "invalid:signup_date"
    elif not _is_whole(cells["total_sessions"], -(2**63), 2**63 - 1):
        reason = "invalid:total_sessions"
    elif not _is_whole(cells["usage_pct"], 0, 100):
        reason = "invalid:usage_pct"
    return Row(csv_line(PRODUCT, **{name: _quoted(cell) for name, cell in cells.items()}), customer_id, reason)


line_ends = st.sampled_from(["\n", "\r\n", "\n\n", "\r\n\r\n"])
files = st.lists(st.lists(st.tuples(rows_of_product(), line_ends), max_size=8), min_size=1, max_size=2)


@settings(max_examples=40, deadline=None)
@given(files, st.sampled_from([".csv", ".csv.gz"]), st.sampled_from(["\n", "\r\n"]), st.integers(0, 3))
def test_every_row_is_accepted_or_quarantined_as_the_contract_says(
    tmp_path_factory: pytest.TempPathFactory,
    contents: list[list[tuple[Row, str]]],
    suffix: str,
    header_end: str,
    blank_lines: int,
) -> None:
    """The contract once more, as a few lines of Python: which row, on which line, for which reason."""
    folder = tmp_path_factory.mktemp("model")
    expected: list[Rejected] = []
    last: dict[str, Rejected] = {}
    for number, content in enumerate(contents):
        name = f"product/{number}{suffix}"
        text = HEADER + header_end + "\n" * blank_lines
        for entry, end in content:
            found = Rejected(name, text.count("\n") + 1, entry.customer_id, entry.text, entry.reason or "superseded")
            if entry.reason:
                expected.append(found)
            else:
                assert entry.customer_id is not None
                expected += [last[entry.customer_id]] if entry.customer_id in last else []
                last[entry.customer_id] = found
            text += entry.text + end
        path = folder / "sources" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if suffix == ".csv.gz" else text.encode())
    found_rows = rejected(folder / "sources", Home(folder / "home"))
    assert sorted(map(str, found_rows)) == sorted(map(str, expected))
    snapshot = current_snapshot(Home(folder / "home"), PRODUCT.name)
    assert snapshot is not None
    assert (snapshot.rows_in, snapshot.rows_accepted) == (sum(map(len, contents)), len(last))
