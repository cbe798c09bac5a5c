"""Properties of the whole engine, on small inputs that hypothesis makes up.

What must not matter does not: the order of rows, how many files and shards there are. What must hold always holds:
each customer once, the books closed, every field as the oracle says.
"""

import csv
import io
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.warehouse import Publication
from etl_assets.project.contract import Source
from etl_assets_tests import factory, oracle
from etl_assets_tests.factory import SOURCES

Row = Mapping[str, str]
Exports = Mapping[str, Sequence[Row]]

# Every example runs the engine on real files; hypothesis's clocks mean nothing there, and CI finds what you find.
_ENGINE = settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# Few ids, so that customers meet in several sources and stand in one more than once.
_IDS = st.sampled_from(["cust_1", " cust_1\t", "Zoë, 東京 🚀", 'o\'brien "x"', "two\nlines"])
_BAD_IDS = st.sampled_from(["", "  ", "x" * 129, "NULL", " n/a\t", "None", "1.23457E+12", "#REF!"])
_SOUND_CELLS: Mapping[str, st.SearchStrategy[str]] = {
    "text": st.text(st.sampled_from("ab, \t\n\"'\\é東🚀"), max_size=6)
    | st.sampled_from(["Past Due", "past-due", "active", "FAILED", "starter", "Enterprise", "null", " N/A ", "Null"]),
    "int": st.integers(0, 10).map(str) | st.just(""),
    "float": st.floats(1, 5, allow_nan=False).map(repr) | st.just(""),
    "money": st.decimals(-(10**16) + 1, 10**16 - 1, places=2).map("{:f}".format) | st.just(""),
    "date": st.dates().map(str) | st.just(""),
}
# Some of these break the contract, some only look as if they did.
_ODD_CELLS: Mapping[str, st.SearchStrategy[str]] = {
    "text": st.just("\n"),
    "int": st.sampled_from(["-1", "11", "101", " 7 ", "+3", "1.0", "1.5", "1e3", "n/a", "9" * 19, "²"]),
    "float": st.sampled_from(
        ["0.99", "5.01", "1e3", "-0.0", ".5", "4.", "nan", "inf", "#N/A", "#REF!", "1,5", "1e999", "0x1"]
    ),
    "money": st.sampled_from(["0.001", ".5", "4.", "+1.500", "-0.00", "1e3", "1,5", "nan", "1" + "0" * 16, "9" * 16]),
    "date": st.sampled_from(["2024-02-30", "2024-02-29T00:00:00", "2024-02-29 00:01", "1.2.2024", "0000-01-01"]),
}


def _rows(source: Source) -> st.SearchStrategy[list[Row]]:
    kinds = {name: kind for name, (kind, _, _) in oracle.CONTRACT[source.name].items()}
    sound = {name: _SOUND_CELLS[kind] for name, kind in kinds.items()}
    row: st.SearchStrategy[Row] = st.fixed_dictionaries({"customer_id": _IDS, **sound})
    odd_cells: list[st.SearchStrategy[Row]] = [
        st.fixed_dictionaries({name: _ODD_CELLS[kind]}) for name, kind in kinds.items()
    ]
    dirt = st.one_of(st.fixed_dictionaries({"customer_id": _BAD_IDS}), *odd_cells)
    dirty_row = st.builds(lambda row, cells: {**row, **cells}, row, dirt)
    return st.just([]) | st.lists(row | row | dirty_row, min_size=3, max_size=7)


def _exports() -> st.SearchStrategy[Exports]:
    return st.fixed_dictionaries({source.name: _rows(source) for source in SOURCES})


def _csv_text(columns: Sequence[str], rows: Sequence[Row], line_end: str = "\n") -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, lineterminator=line_end)
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


def _run(folder: Path, shard_count: int) -> tuple[Publication, Home]:
    home = Home(folder.parent / f"{folder.name}_home")
    return factory.run_engine(folder, factory.site_at(home, shard_count)).publication, home


def _shuffled(rows: Sequence[Row], order: Sequence[int]) -> list[Row]:
    """The rows in another order, those of one customer among themselves in the old one: the last of them counts."""
    mixed = [row for _, row in sorted(zip(order, rows, strict=False), key=lambda pair: pair[0])]
    waiting: dict[str, list[Row]] = {}
    for row in rows:
        waiting.setdefault(row["customer_id"].strip(), []).append(row)
    return [waiting[row["customer_id"].strip()].pop(0) for row in mixed]


@_ENGINE
@given(exports=_exports(), data=st.data())
def test_every_row_is_accounted_for_and_no_arrangement_of_rows_files_and_shards_changes_the_result(
    exports: Exports, data: st.DataObject
) -> None:
    """Who exports in another order, in more files, or runs with more shards must get the same result to the byte."""
    with tempfile.TemporaryDirectory() as name:
        plain, other = Path(name) / "plain", Path(name) / "other"
        factory.write_exports(plain, **exports)
        for source in SOURCES:
            _write_rearranged(other, source, exports[source.name], data)
        shard_count = data.draw(st.integers(1, 2), label="shards of the plain exports")
        one, home_of_one = _run(plain, shard_count)
        two, home_of_two = _run(other, data.draw(st.integers(1, 7), label="shards of the others"))

        _assert_as_expected(exports, oracle.expect(plain, shard_count), home_of_one)
        assert (one.digest, one.record_count) == (two.digest, two.record_count)
        columns = "SELECT * EXCLUDE (shard_id) FROM merged_profiles ORDER BY customer_id"
        assert factory.query(home_of_one.warehouse, columns) == factory.query(home_of_two.warehouse, columns)
        reasons = "SELECT source, reason, customer_id, count(*) FROM quarantine GROUP BY ALL ORDER BY ALL"
        assert factory.query(home_of_one.warehouse, reasons) == factory.query(home_of_two.warehouse, reasons)


def _write_rearranged(folder: Path, source: Source, rows: Sequence[Row], data: st.DataObject) -> None:
    """The same rows in another order, in two or three files, each with its own order of columns and line ends."""
    mixed = _shuffled(rows, data.draw(st.permutations(range(len(rows))), label=f"order of {source.name}"))
    cuts = sorted(
        data.draw(st.lists(st.integers(0, len(rows)), min_size=1, max_size=2), label=f"files of {source.name}")
    )
    for number, (start, end) in enumerate(zip([0, *cuts], [*cuts, len(rows)], strict=True)):
        columns = data.draw(st.permutations(source.required), label="columns")
        line_end = data.draw(st.sampled_from(["\n", "\r\n"]), label="line ends")
        path = folder / source.name / f"part_{number}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_csv_text(columns, mixed[start:end], line_end), encoding="utf-8", newline="")


def _assert_as_expected(exports: Exports, expected: oracle.Expected, home: Home) -> None:
    """Each customer once and right in every field, each other row in quarantine, the books closed."""
    columns = [row[0] for row in factory.query(home.warehouse, "DESCRIBE merged_profiles")]
    rows = factory.query(home.warehouse, "SELECT * FROM merged_profiles ORDER BY customer_id")
    assert [dict(zip(columns, row, strict=True)) for row in rows] == list(expected.profiles.values())
    names = ", ".join(oracle.Rejected._fields)
    quarantine = factory.query(home.warehouse, f"SELECT {names} FROM quarantine")
    assert sorted(oracle.Rejected(*row) for row in quarantine) == expected.quarantine
    accounts = factory.query(
        home.warehouse, "SELECT source, rows_in, rows_accepted, rows_quarantined FROM source_snapshots"
    )
    assert len(accounts) == len(SOURCES)
    for source, rows_in, accepted, quarantined in accounts:
        assert rows_in == len(exports[source]) == accepted + quarantined
        assert (accepted, quarantined) == expected.accounts[source][2:]
