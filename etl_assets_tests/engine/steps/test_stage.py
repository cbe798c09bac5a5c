"""From export to snapshot: what is accepted, where it goes, what is done again and what is not."""

import gzip
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from etl_assets.engine import routing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.reading import exports
from etl_assets.engine.steps import stage as staging
from etl_assets.engine.steps.stage import Snapshot
from etl_assets.errors import AccountingError, ConfigError, InputError, RejectRatioError, SourceChangedError
from etl_assets.project.contract import SOURCES, source_named
from etl_assets_tests.factory import (
    csv_line,
    read_quarantine,
    read_slices,
    row,
    stage_all,
    staging_request,
    write_csv,
    write_exports,
)

PRODUCT = source_named("product")
SUPPORT = source_named("support")
HEADER = ",".join(PRODUCT.required)


def stage(sources: Path, home: Home, **changes: Any) -> Snapshot:
    """Stage the product export that lies there."""
    return staging.stage(PRODUCT, replace(staging_request(sources, home), **changes))[0]


def accepted(home: Home, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """The accepted rows by customer."""
    rows = [found for part in read_slices(home, snapshot) for found in part]
    assert len({found["customer_id"] for found in rows}) == len(rows) == snapshot.rows_accepted
    return {found["customer_id"]: found for found in rows}


def write(sources: Path, *rows: dict[str, str], name: str = "product.csv") -> Path:
    return write_csv(sources / name, PRODUCT, rows)


def write_parquet(path: Path, select: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet)")


@pytest.fixture
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let an hour pass: files that were just written are then settled."""
    clock = {"offset_s": 0}
    real_ns, real_s = time.time_ns, time.time
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() + clock["offset_s"] * 10**9)
    monkeypatch.setattr(time, "time", lambda: real_s() + clock["offset_s"])

    def pass_it() -> None:
        clock["offset_s"] += 3601

    return pass_it


def no_reading(*_: object) -> NoReturn:
    pytest.fail("the export was read again")


class TestAcceptedRows:
    def test_every_row_keeps_its_values_typed(self, sources: Path, home: Home) -> None:
        write(sources, row("a", usage_pct="100"), row("b", email="", signup_date="", usage_pct=" ", account_status=""))
        found = accepted(home, stage(sources, home))
        columns = PRODUCT.required[1:]
        assert [found["a"][column] for column in columns] == [
            "ada@alpine.example",
            date(2025, 1, 1),
            date(2026, 6, 1),
            40,
            7,
            100,
            "active",
        ]
        assert [found["b"][column] for column in columns] == [None, None, date(2026, 6, 1), 40, 7, None, None]

    def test_numbers_keep_their_type(self, sources: Path, home: Home) -> None:
        write_csv(
            sources / "support.csv", SUPPORT, [row("a", csat_score="5", avg_resolution_hrs="-0.0", nps_score="0")]
        )
        snapshot, _ = staging.stage(SUPPORT, staging_request(sources, home))
        found = accepted(home, snapshot)["a"]
        assert (found["csat_score"], found["nps_score"], str(found["avg_resolution_hrs"])) == (5.0, 0, "0.0")
        assert isinstance(found["csat_score"], float)

    @pytest.mark.parametrize(
        ("cell", "value"), [("12.0", 12), ("+5", 5), (" 7 ", 7), ("007", 7), ("0", 0), ("100", 100), ("", None)]
    )
    def test_whole_numbers_are_read_as_people_write_them(
        self, sources: Path, home: Home, cell: str, value: int | None
    ) -> None:
        write(sources, row("a", usage_pct=cell))
        assert accepted(home, stage(sources, home))["a"]["usage_pct"] == value

    @pytest.mark.parametrize("cell", ["1e3", "12.5", "0x10", "1_0", "ten", "nan", "9223372036854775808"])
    def test_what_is_no_whole_number_is_not_guessed(self, sources: Path, home: Home, cell: str) -> None:
        write(sources, row("a", total_sessions=cell))
        assert stage(sources, home).reasons == {"invalid:total_sessions": 1}

    def test_a_column_that_changes_its_look_half_way_is_read_to_the_end(self, sources: Path, home: Home) -> None:
        """Fails: the type is guessed from the first rows, and the rest of the file is wrong or gone."""
        early = [row(f"a{number}", total_sessions=str(number), account_status="1") for number in range(3000)]
        late = [row(f"b{number}", total_sessions="12.0", account_status="eins") for number in range(100)]
        write(sources, *early, *late, row("c", total_sessions="many"))
        snapshot = stage(sources, home)
        found = accepted(home, snapshot)
        assert (found["a2999"]["total_sessions"], found["a2999"]["account_status"]) == (2999, "1")
        assert (found["b99"]["total_sessions"], found["b99"]["account_status"]) == (12, "eins")
        assert snapshot.reasons == {"invalid:total_sessions": 1}

    @pytest.mark.parametrize(
        "customer_id",
        [
            *("cust_00000042", "'; DROP TABLE rejected; --", 'say "hi"', "a,b", "two\nlines", "x" * 128, "é" * 128),
            *("Ünal Ωmega 客户", "🙂", "0", "-1", "NULL", "null", "%s{}\\", "\u00a0", "../../etc", "=1+1"),
        ],
    )
    def test_any_short_text_is_a_customer_id(self, sources: Path, home: Home, customer_id: str) -> None:
        """Fails: a customer with an unusual id is lost, or their id runs as code."""
        write(sources, row(customer_id), row("other"))
        found = accepted(home, stage(sources, home))
        assert set(found) == {customer_id, "other"}

    def test_a_customer_id_is_trimmed_before_it_counts(self, sources: Path, home: Home) -> None:
        write(sources, row(" \ta\r\n", usage_pct="1"), row("a", usage_pct="2"), row("  " + "x" * 128 + "  "))
        snapshot = stage(sources, home)
        assert accepted(home, snapshot)["a"]["usage_pct"] == 2
        assert set(accepted(home, snapshot)) == {"a", "x" * 128}
        assert snapshot.reasons == {"superseded": 1}

    def test_columns_may_stand_in_any_order_and_more_may_be_there(self, sources: Path, home: Home) -> None:
        columns = ["note", *reversed(PRODUCT.required), "segment"]
        rows = [row("a", note="x,y", segment="s", usage_pct="3"), row("", note="n", segment="s")]
        write_csv(sources / "product.csv", PRODUCT, rows, columns)
        snapshot = stage(sources, home)
        assert accepted(home, snapshot)["a"]["usage_pct"] == 3
        assert snapshot.extra_columns == ("note", "segment")
        assert snapshot.reasons == {"missing_customer_id": 1}

    def test_files_of_one_source_may_order_their_columns_differently(self, sources: Path, home: Home) -> None:
        write_csv(sources / "product" / "a.csv", PRODUCT, [row("a", usage_pct="1")])
        write_csv(
            sources / "product" / "b.csv", PRODUCT, [row("b", usage_pct="2")], [*reversed(PRODUCT.required), "note"]
        )
        snapshot = stage(sources, home)
        found = accepted(home, snapshot)
        assert {key: value["usage_pct"] for key, value in found.items()} == {"a": 1, "b": 2}
        assert (snapshot.files, snapshot.extra_columns) == (("product/a.csv", "product/b.csv"), ("note",))

    def test_a_packed_file_holds_the_same_rows(self, sources: Path, home: Home, tmp_path: Path) -> None:
        path = write(sources, row("a"), row("b", email='q"q\n'), row(""))
        plain = stage(sources, home)
        (tmp_path / "packed").mkdir()
        # In two members, as appending exporters write them.
        data = path.read_bytes()
        (tmp_path / "packed" / "product.csv.gz").write_bytes(gzip.compress(data[:100]) + gzip.compress(data[100:]))
        packed = stage(tmp_path / "packed", home)
        assert packed.slices == plain.slices
        assert packed.reasons == plain.reasons == {"missing_customer_id": 1}
        assert packed.data_hash != plain.data_hash

    @pytest.mark.parametrize("folder", ["exports [2026]", "it's", "a*b?", "plan=pro", "größe", "100%"])
    def test_the_folders_may_have_any_name(self, tmp_path: Path, folder: str) -> None:
        home = Home(tmp_path / f"home {folder}")
        write(tmp_path / folder, row("a"), row("a"), row(""))
        snapshot = stage(tmp_path / folder, home)
        assert set(accepted(home, snapshot)) == {"a"}
        assert snapshot.reasons == {"missing_customer_id": 1, "superseded": 1}


class TestSuperseded:
    def test_the_last_row_in_file_order_wins(self, sources: Path, home: Home) -> None:
        """Fails: a customer's profile is made of yesterday's row."""
        write(sources, *(row("a", usage_pct=str(number)) for number in (3, 9, 5)), row("b", usage_pct="1"))
        snapshot = stage(sources, home)
        assert {key: found["usage_pct"] for key, found in accepted(home, snapshot).items()} == {"a": 5, "b": 1}
        assert [found["line_number"] for found in read_quarantine(home, snapshot)] == [2, 3]

    def test_the_last_file_in_name_order_wins(self, sources: Path, home: Home) -> None:
        for name, usage in (("b.csv", "20"), ("c.csv", "30"), ("a.csv", "10")):
            write(sources, row("x"), row("a", usage_pct=usage), row("y"), name=f"product/{name}")
        snapshot = stage(sources, home)
        assert accepted(home, snapshot)["a"]["usage_pct"] == 30
        superseded = [(found["file"], found["customer_id"]) for found in read_quarantine(home, snapshot)]
        assert superseded == [(f"product/{name}.csv", customer) for name in "ab" for customer in ("x", "a", "y")]

    def test_a_rejected_row_supersedes_nothing(self, sources: Path, home: Home) -> None:
        """Fails: a broken last row costs the customer the sound one before it."""
        write(sources, row("a", usage_pct="1"), row("a", usage_pct="x"))
        snapshot = stage(sources, home)
        assert accepted(home, snapshot)["a"]["usage_pct"] == 1
        assert snapshot.reasons == {"invalid:usage_pct": 1}

    def test_a_parquet_file_takes_its_place_in_name_order(self, sources: Path, home: Home) -> None:
        write(sources, row("a", usage_pct="1"), row("b", usage_pct="1"), name="product/1.csv")
        cells = ", ".join(f"'{cell}' AS {name}" for name, cell in row("x", usage_pct="2").items() if name in HEADER)
        write_parquet(sources / "product" / "2.parquet", f"SELECT * REPLACE ('a' AS customer_id) FROM (SELECT {cells})")
        write(sources, row("b", usage_pct="3"), name="product/3.csv")
        found = accepted(home, stage(sources, home))
        assert {key: value["usage_pct"] for key, value in found.items()} == {"a": 2, "b": 3}

    def test_superseded_rows_are_no_reason_to_fail(self, sources: Path, home: Home) -> None:
        write(sources, *(row("a") for _ in range(100)))
        snapshot = stage(sources, home, max_reject_ratio=0.0)
        assert snapshot.reasons == {"superseded": 99}
        assert snapshot.reject_ratio == 0.0


class TestSlices:
    @pytest.mark.parametrize("shard_count", [1, 7, 101])
    def test_every_row_lies_in_the_slice_of_its_customer(self, sources: Path, home: Home, shard_count: int) -> None:
        """Fails: a customer is built in one shard from one source and in another from the next."""
        write(sources, *(row(f"cust_{number}") for number in range(300)), row("ü 客"))
        snapshot = stage(sources, home, shard_count=shard_count)
        parts = read_slices(home, snapshot)
        assert [part.shard_id for part in snapshot.slices] == routing.shard_keys(shard_count)
        for number, part in enumerate(parts):
            assert {routing.route(found["customer_id"], shard_count) for found in part} <= {number}
        assert [part.record_count for part in snapshot.slices] == [len(part) for part in parts]
        assert sum(map(len, parts)) == 301

    def test_a_source_without_rows_has_empty_slices(self, sources: Path, home: Home) -> None:
        write_exports(sources)
        for snapshot in stage_all(staging_request(sources, home)).values():
            assert (snapshot.rows_in, snapshot.rows_accepted, snapshot.rows_quarantined) == (0, 0, 0)
            assert read_slices(home, snapshot) == [[], [], []]
            assert read_quarantine(home, snapshot) == []
            assert snapshot.reject_ratio == 0.0

    def test_empty_slices_have_the_columns_of_full_ones(self, sources: Path, home: Home) -> None:
        write(sources, row("a"), row("a"))
        snapshot = stage(sources, home, shard_count=5)
        folder = home.snapshot("product", snapshot.snapshot)
        with duckdb.connect() as connection:
            shapes = {
                str(connection.execute(f"DESCRIBE SELECT * FROM '{folder}/{part.shard_id}.parquet'").fetchall())
                for part in snapshot.slices
            }
        assert len(shapes) == 1
        for column in PRODUCT.columns:
            assert f"('{column.name}', '{column.type.value}'" in next(iter(shapes))

    def test_the_order_of_rows_does_not_change_a_content_hash(self, sources: Path, home: Home) -> None:
        """Fails: an export in another order makes every shard stale."""
        rows = [row(f"c{number}", usage_pct=str(number)) for number in range(20)]
        write(sources, *rows)
        before = stage(sources, home)
        write(sources, *reversed(rows))
        after = stage(sources, home)
        assert before.snapshot != after.snapshot
        assert before.slices == after.slices

    def test_any_changed_value_changes_the_content_hash_of_its_slice_alone(self, sources: Path, home: Home) -> None:
        rows = [row(f"c{number}") for number in range(20)]
        write(sources, *rows)
        before = stage(sources, home)
        for change in ({"usage_pct": "66"}, {"usage_pct": ""}, {"email": ""}, {"last_active": "2026-06-02"}):
            write(sources, *rows[:-1], {**rows[-1], **change})
            after = stage(sources, home)
            changed = [old.shard_id for old, new in zip(before.slices, after.slices, strict=True) if old != new]
            assert changed == [routing.shard_key(routing.route("c19", 3), 3)]


class TestParquet:
    def test_values_of_other_types_are_read_by_their_text(self, sources: Path, home: Home) -> None:
        write_parquet(
            sources / "product.parquet",
            """
            SELECT 40 + i AS customer_id, 'x' AS email, TIMESTAMP '2025-01-01 00:00:00' AS signup_date,
                '2026-06-01' AS last_active, '12' AS total_sessions, 7.0::DOUBLE AS features_used,
                65::UTINYINT AS usage_pct, true AS account_status
            FROM range(2) t(i)""",
        )
        found = accepted(home, stage(sources, home))
        assert set(found) == {"40", "41"}
        values = [found["40"][column] for column in PRODUCT.required[1:]]
        assert values == ["x", date(2025, 1, 1), date(2026, 6, 1), 12, 7, 65, "true"]

    def test_nulls_are_nulls_and_a_null_id_is_missing(self, sources: Path, home: Home) -> None:
        nulls = ", ".join(f"NULL AS {column}" for column in PRODUCT.required[1:])
        write_parquet(
            sources / "product.parquet", f"SELECT nullif('c' || i, 'c1') AS customer_id, {nulls} FROM range(3) t(i)"
        )
        snapshot = stage(sources, home)
        found = accepted(home, snapshot)
        assert set(found) == {"c0", "c2"}
        assert {found["c0"][column] for column in PRODUCT.required[1:]} == {None}
        assert snapshot.reasons == {"missing_customer_id": 1}

    def test_values_out_of_contract_are_rejected_as_in_a_csv_file(self, sources: Path, home: Home) -> None:
        write_parquet(
            sources / "product.parquet",
            """
            SELECT 'c' || i AS customer_id, 'x' AS email, TIMESTAMP '2025-01-01 00:00:00' + to_hours(i) AS signup_date,
                DATE '2026-06-01' AS last_active, 0.5 * i AS total_sessions, 'nan'::DOUBLE AS features_used,
                65 AS usage_pct, 'a' AS account_status
            FROM range(2) t(i)""",
        )
        assert stage(sources, home).reasons == {"invalid:features_used": 1, "invalid:signup_date": 1}

    def test_headers_may_differ_in_case_and_order_and_more_columns_may_be_there(
        self, sources: Path, home: Home
    ) -> None:
        cells = ", ".join(f"'{row('a')[column]}' AS \" {column.upper()} \"" for column in reversed(PRODUCT.required))
        write_parquet(sources / "product.parquet", f'SELECT 1 AS source_row, {cells}, 2 AS "it\'s"')
        snapshot = stage(sources, home)
        assert accepted(home, snapshot)["a"]["usage_pct"] == 65
        assert snapshot.extra_columns == ("it's", "source_row")

    def test_a_file_without_rows_is_an_empty_source(self, sources: Path, home: Home) -> None:
        cells = ", ".join(f"'x' AS {column}" for column in PRODUCT.required)
        write_parquet(sources / "product.parquet", f"SELECT {cells} WHERE false")
        assert stage(sources, home).rows_in == 0


class TestRejectRatio:
    def test_too_many_bad_rows_fail_the_source_with_counts_by_reason(self, sources: Path, home: Home) -> None:
        """Fails: half a broken export becomes the new truth."""
        write(sources, row(""), row("a", usage_pct="x"), row("b", usage_pct="y"), row("c"), row("c"))
        with pytest.raises(RejectRatioError) as caught:
            stage(sources, home, max_reject_ratio=0.5)
        text = str(caught.value)
        assert "Source 'product': 60.0% of 5 rows broke the contract, at most 50.0% are allowed" in text
        assert "(invalid:usage_pct 2, missing_customer_id 1, superseded 1)" in text
        assert "ETL_MAX_REJECT_RATIO" in text
        assert staging.current_snapshot(PRODUCT, home) is None

    def test_the_rejected_rows_can_be_looked_up_where_the_message_says(self, sources: Path, home: Home) -> None:
        write(sources, row(""))
        with pytest.raises(RejectRatioError) as caught:
            stage(sources, home, max_reject_ratio=0.5)
        (path,) = (home.staged / "product").glob("*/quarantine.parquet")
        assert str(path) in str(caught.value)

    def test_exactly_the_allowed_share_passes(self, sources: Path, home: Home) -> None:
        write(sources, row(""), row("a"), row("b"), row("b"))
        assert stage(sources, home, max_reject_ratio=0.25).reject_ratio == 0.25

    def test_the_snapshot_before_stays_the_current_one(self, sources: Path, home: Home) -> None:
        write(sources, row("a"))
        good = stage(sources, home)
        write(sources, row(""), row(""))
        with pytest.raises(RejectRatioError):
            stage(sources, home, max_reject_ratio=0.5)
        assert staging.current_snapshot(PRODUCT, home) == good

    def test_allowing_more_takes_the_snapshot_that_is_there(
        self, sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(sources, row(""), row("a"))
        with pytest.raises(RejectRatioError):
            stage(sources, home, max_reject_ratio=0.1)
        monkeypatch.setattr(exports, "survey", no_reading)
        snapshot = stage(sources, home, max_reject_ratio=0.5)
        assert staging.current_snapshot(PRODUCT, home) == snapshot

    def test_allowing_less_fails_an_unchanged_source(
        self, sources: Path, home: Home, an_hour_later: Callable[[], None]
    ) -> None:
        write(sources, row(""), row("a"))
        an_hour_later()
        stage(sources, home, max_reject_ratio=0.5)
        with pytest.raises(RejectRatioError):
            stage(sources, home, max_reject_ratio=0.1)


class TestReuse:
    @pytest.fixture(autouse=True)
    def _settled(self, an_hour_later: Callable[[], None]) -> None:
        self.an_hour_later = an_hour_later

    def test_an_unchanged_export_is_not_read_again(
        self, sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: every run reads all of the data again."""
        write(sources, row("a"), row(""))
        self.an_hour_later()
        request = staging_request(sources, home)
        assert not staging.is_current(PRODUCT, request)
        first, reused = staging.stage(PRODUCT, request)
        assert not reused
        for reading in ("hash_files", "open_exports", "survey"):
            monkeypatch.setattr(exports, reading, no_reading)
        assert staging.stage(PRODUCT, request) == (first, True)
        assert staging.is_current(PRODUCT, request)

    def test_a_changed_export_is_read_again(self, sources: Path, home: Home) -> None:
        path = write(sources, row("a", usage_pct="11"))
        self.an_hour_later()
        first = stage(sources, home)
        path.write_bytes(path.read_bytes().replace(b",11,", b",12,"))
        assert not staging.is_current(PRODUCT, staging_request(sources, home))
        second = stage(sources, home)
        assert second.data_hash != first.data_hash
        assert accepted(home, second)["a"]["usage_pct"] == 12
        assert staging.current_snapshot(PRODUCT, home) == second

    def test_a_file_just_written_is_not_trusted_by_its_stamps(self, sources: Path, home: Home) -> None:
        """Fails: two exports within one tick of the clock are taken for one."""
        path = write(sources, row("a", usage_pct="11"))
        stage(sources, home)
        assert not staging.is_current(PRODUCT, staging_request(sources, home))
        path.write_bytes(path.read_bytes().replace(b",11,", b",12,"))
        assert accepted(home, stage(sources, home))["a"]["usage_pct"] == 12

    def test_an_added_or_removed_file_is_a_change(self, sources: Path, home: Home) -> None:
        write(sources, row("a"), name="product/1.csv")
        self.an_hour_later()
        stage(sources, home)
        added = write(sources, row("b"), name="product/2.csv")
        self.an_hour_later()
        assert set(accepted(home, stage(sources, home))) == {"a", "b"}
        added.unlink()
        assert set(accepted(home, stage(sources, home))) == {"a"}

    def test_a_renamed_file_is_a_change(self, sources: Path, home: Home) -> None:
        """Fails: quarantine and the order of files name files that are gone."""
        path = write(sources, row(""), name="product/1.csv")
        self.an_hour_later()
        stage(sources, home)
        path.rename(path.with_name("2.csv"))
        snapshot = stage(sources, home)
        assert snapshot.files == ("product/2.csv",)
        assert [found["file"] for found in read_quarantine(home, snapshot)] == ["product/2.csv"]

    def test_a_touched_file_of_the_same_bytes_keeps_its_snapshot(
        self, sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(sources, row("a"))
        self.an_hour_later()
        first = stage(sources, home)
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
        self.an_hour_later()
        with monkeypatch.context() as patch:
            patch.setattr(exports, "survey", no_reading)
            assert staging.stage(PRODUCT, staging_request(sources, home)) == (first, True)
        assert staging.is_current(PRODUCT, staging_request(sources, home))

    def test_force_builds_the_snapshot_anew(self, sources: Path, home: Home) -> None:
        """Fails: a slice that was damaged on the disk cannot be mended."""
        write(sources, row("a"))
        self.an_hour_later()
        first = stage(sources, home)
        for path in home.snapshot("product", first.snapshot).glob("shard_*.parquet"):
            path.write_bytes(b"damaged")
        again, reused = staging.stage(PRODUCT, staging_request(sources, home), force=True)
        assert (again, reused) == (first, False)
        assert set(accepted(home, again)) == {"a"}

    def test_another_number_of_shards_is_another_snapshot(self, sources: Path, home: Home) -> None:
        write(sources, row("a"))
        self.an_hour_later()
        three = stage(sources, home)
        four = stage(sources, home, shard_count=4)
        assert (three.snapshot, three.data_hash) != (four.snapshot, four.data_hash)
        assert three.data_hash == four.data_hash
        assert len(four.slices) == 4

    def test_a_snapshot_that_was_lost_is_made_again(self, sources: Path, home: Home) -> None:
        write(sources, row("a"))
        self.an_hour_later()
        first = stage(sources, home)
        shutil.rmtree(home.snapshot("product", first.snapshot))
        assert staging.current_snapshot(PRODUCT, home) is None
        assert staging.stage(PRODUCT, staging_request(sources, home)) == (first, False)

    def test_old_snapshots_go_once_nobody_can_be_reading_them(self, sources: Path, home: Home) -> None:
        """Fails: each export adds its size to the disk for ever, or a shard loses the slice it is reading."""
        snapshots = []
        for usage in ("1", "2", "3"):
            write(sources, row("a", usage_pct=usage))
            snapshots.append(stage(sources, home).snapshot)
        folders = {path.name for path in (home.staged / "product").iterdir() if path.is_dir()}
        assert folders == set(snapshots)
        self.an_hour_later()
        write(sources, row("a", usage_pct="4"))
        last = stage(sources, home)
        assert {path.name for path in (home.staged / "product").iterdir() if path.is_dir()} == {last.snapshot}

    def test_the_same_bytes_give_the_same_snapshot_anywhere(self, sources: Path, home: Home, tmp_path: Path) -> None:
        write(sources, row("a"), row("b"), row(""))
        shutil.copytree(sources, tmp_path / "copy")
        assert stage(sources, home) == stage(tmp_path / "copy", Home(tmp_path / "other"))


class TestChangedWhileRead:
    def change_after_hashing(self, path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
        hash_files = exports.hash_files

        def hash_then_change(paths: list[Path]) -> str:
            found = hash_files(paths)
            change()
            return found

        monkeypatch.setattr(exports, "hash_files", hash_then_change)

    def test_the_source_is_to_be_read_again(self, sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
        """Fails: half of the old and half of the new export become one snapshot."""
        path = write(sources, row("a"))
        with monkeypatch.context() as patch:
            self.change_after_hashing(path, patch, lambda: write(sources, row("a"), row("b")))
            with pytest.raises(SourceChangedError, match="'product' changed while it was read"):
                stage(sources, home)
        assert staging.current_snapshot(PRODUCT, home) is None
        assert set(accepted(home, stage(sources, home))) == {"a", "b"}

    def test_nothing_of_it_is_taken_for_the_file_that_was_hashed(
        self, sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: putting the first file back brings the rows of the second one."""
        path = write(sources, row("a"))
        first = path.read_bytes()
        with monkeypatch.context() as patch:
            self.change_after_hashing(path, patch, lambda: write(sources, row("a"), row("b")))
            with pytest.raises(SourceChangedError):
                stage(sources, home)
        path.write_bytes(first)
        assert set(accepted(home, stage(sources, home))) == {"a"}

    def test_a_file_that_joins_the_folder_is_a_change(
        self, sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = write(sources, row("a"), name="product/1.csv")
        self.change_after_hashing(path, monkeypatch, lambda: write(sources, row("b"), name="product/2.csv"))
        with pytest.raises(SourceChangedError):
            stage(sources, home)


class TestFailures:
    def test_a_failed_reading_leaves_nothing_behind(
        self, sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: half a snapshot is found by the next run, or fills the disk."""

        def fail(*_: object) -> NoReturn:
            raise OSError("the disk went away")

        write(sources, row("a"))
        with monkeypatch.context() as patch:
            patch.setattr(exports, "survey", fail)
            with pytest.raises(OSError, match="went away"):
                stage(sources, home)
        assert list((home.staged / "product").iterdir()) == []
        assert list(home.scratch.iterdir()) == []
        assert stage(sources, home).rows_accepted == 1

    @pytest.mark.parametrize("off_by", [-1, 1])
    def test_a_row_that_is_nowhere_stops_everything(
        self, sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch, off_by: int
    ) -> None:
        """Fails: a defect of this package loses rows, and the result looks complete."""
        survey = exports.survey

        def miscount(export: exports.Export, *_: object) -> exports.Survey:
            found = survey(export)
            return replace(found, record_count=found.record_count + off_by)

        write(sources, row("a"), row("b"), row(""))
        with monkeypatch.context() as patch:
            patch.setattr(exports, "survey", miscount)
            with pytest.raises(AccountingError, match=f"{3 + off_by} rows in the files, but 2 accepted and 1 quarant"):
                stage(sources, home)
        assert staging.current_snapshot(PRODUCT, home) is None
        assert list((home.staged / "product").iterdir()) == []

    @pytest.mark.parametrize("keep", [0.4, 0.9])
    def test_a_packed_file_damaged_far_inside_is_named(self, sources: Path, home: Home, keep: float) -> None:
        """Fails: the rows before the damage pass for the whole export."""
        text = "\n".join([HEADER, *(csv_line(PRODUCT, f"c{number * 7919}") for number in range(100_000))])
        packed = gzip.compress(text.encode(), 1)
        sources.joinpath("product").mkdir()
        write(sources, row("a"), name="product/1.csv")
        (sources / "product" / "2.csv.gz").write_bytes(packed[: int(len(packed) * keep)])
        with pytest.raises(InputError, match=r"product/2\.csv\.gz is .*gzip file"):
            stage(sources, home)
        assert staging.current_snapshot(PRODUCT, home) is None

    def test_sources_that_were_never_staged_are_named(self, sources: Path, home: Home) -> None:
        write_exports(sources)
        stage(sources, home)
        with pytest.raises(ConfigError, match="Sources crm, billing, support not staged for 3 shards by this code yet"):
            staging.current_snapshots(home, 3)

    def test_sources_staged_for_another_number_of_shards_are_named(self, sources: Path, home: Home) -> None:
        write_exports(sources)
        stage_all(staging_request(sources, home))
        assert list(staging.current_snapshots(home, 3)) == [source.name for source in SOURCES]
        with pytest.raises(ConfigError, match="billing, product, support not staged for 4 shards by this code"):
            staging.current_snapshots(home, 4)


_PIECES = [
    *(
        '"',
        '""',
        ",",
        ",,",
        "\n",
        "\n",
        "\r\n",
        "\r",
        "\0",
        "a",
        " ",
        "é",
        "\\",
        "'",
        "\n\n",
        '"\n',
        '\n"',
        "\ufeff",
        "#",
    ),
    *(f"{csv_line(PRODUCT, customer)}\n" for customer in ("c1", "c1", "c2", "", '"c3"')),
    csv_line(PRODUCT, "c4", email='"x\ny"') + "\r\n",
    csv_line(PRODUCT, "c5", usage_pct="x"),
]
dirty_text = st.lists(st.sampled_from(_PIECES), max_size=25).map("".join)
dirty_bytes = (
    dirty_text.map(str.encode) | st.binary(max_size=60) | dirty_text.map(lambda text: text.encode("utf-16-le"))
)


@settings(max_examples=40, deadline=None)
@given(dirty_bytes, st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_whatever_the_bytes_no_row_is_lost(
    tmp_path_factory: pytest.TempPathFactory, dirty: bytes, header_end: str, is_packed: bool
) -> None:
    """Fails: some export makes rows vanish, or the pipeline fall over, without a word the user can act on."""
    folder = tmp_path_factory.mktemp("dirty")
    content = (HEADER + header_end).encode() + dirty
    name = "product.csv.gz" if is_packed else "product.csv"
    (folder / name).write_bytes(gzip.compress(content) if is_packed else content)
    home = Home(folder / "home")
    try:
        snapshot = stage(folder, home)
    except InputError:
        return
    found = read_quarantine(home, snapshot)
    assert snapshot.rows_in == snapshot.rows_accepted + snapshot.rows_quarantined
    assert snapshot.rows_accepted == len(accepted(home, snapshot))
    assert len(found) == snapshot.rows_quarantined == sum(snapshot.reasons.values())
    lines = content.split(b"\n")
    assert len({bad["line_number"] for bad in found}) == len(found)
    for bad in found:
        first_line = bad["raw_text"].split("\n")[0]
        line = lines[bad["line_number"] - 1].decode(errors="backslashreplace")
        assert line in (first_line, first_line + "\r")


@pytest.mark.parametrize(
    "cells",
    [
        "c1,e@x,Acme, Inc,,,,,,",
        'c1,e@x,"Acme",Inc,,,,,,""',
        "c1,e@x,Acme,Inc,1,a,1,b,2026-01-01,,",
        'c1,"a,b",,,,,,,,""',
    ],
)
def test_an_unquoted_comma_that_leaves_empty_cells_behind_the_last_column_is_damage(
    sources: Path, home: Home, cells: str
) -> None:
    """Fails: every cell behind the comma is silently taken for its neighbour's value."""
    crm = source_named("crm")
    sound = 'c2,e@x,"Acme, Inc",,,,,,'
    (sources / "crm.csv").write_text("\n".join([",".join(crm.required), cells, sound, ""]))
    snapshot = staging.stage(crm, staging_request(sources, home))[0]
    assert [found["raw_text"] for found in read_quarantine(home, snapshot)] == [cells]
    assert snapshot.reasons == {"malformed_row": 1}
    assert accepted(home, snapshot)["c2"]["company_name"] == "Acme, Inc"


def test_a_parquet_file_with_damaged_pages_is_named(sources: Path, home: Home) -> None:
    """Fails: the person reads an error of the engine and does not know which of many files to export again."""
    path = sources / "product" / "part.parquet"
    columns = ", ".join(f"NULL::VARCHAR AS {column.name}" for column in PRODUCT.columns)
    write_parquet(path, f"SELECT 'c' || range AS customer_id, {columns} FROM range(300)")
    content = bytearray(path.read_bytes())
    content[40:200] = bytes(160)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"product/part\.parquet is a damaged Parquet file"):
        stage(sources, home)


def test_a_gzip_file_padded_with_zeros_is_read_to_its_end(sources: Path, home: Home) -> None:
    path = write(sources, row("a"), row("b"))
    (sources / "product.csv.gz").write_bytes(gzip.compress(path.read_bytes()) + bytes(100))
    path.unlink()
    assert sorted(accepted(home, stage(sources, home))) == ["a", "b"]


def test_a_parquet_time_stamp_with_a_zone_is_a_date_at_midnight_utc(sources: Path, home: Home) -> None:
    """Fails: the same file gives other dates, or none, on a machine in another time zone."""
    columns = ", ".join(
        "TIMESTAMPTZ '2026-05-01 00:00:00+00' AS signup_date"
        if column.name == "signup_date"
        else f"NULL::VARCHAR AS {column.name}"
        for column in PRODUCT.columns
    )
    write_parquet(sources / "product.parquet", f"SELECT 'a' AS customer_id, {columns}")
    assert accepted(home, stage(sources, home))["a"]["signup_date"] == date(2026, 5, 1)


def test_hidden_files_in_a_source_folder_are_not_exports(sources: Path, home: Home) -> None:
    write(sources, row("a"), name="product/part.csv")
    (sources / "product" / "._part.csv").write_bytes(b"\0\1")
    assert stage(sources, home).files == ("product/part.csv",)


def test_a_forced_staging_that_fails_leaves_the_current_snapshot_in_place(
    sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: shards that are being built lose their slices, and the source counts as never staged."""
    write(sources, row("a"))
    before = stage(sources, home)
    with monkeypatch.context() as patch:
        patch.setattr("etl_assets.engine.reading.quarantine.write", no_reading)
        with pytest.raises(pytest.fail.Exception):
            staging.stage(PRODUCT, staging_request(sources, home), force=True)
    assert staging.current_snapshot(PRODUCT, home) == before
    assert sorted(accepted(home, before)) == ["a"]
    again, reused = staging.stage(PRODUCT, staging_request(sources, home), force=True)
    assert (again, reused) == (before, False)
    assert [path.name for path in home.snapshot("product", before.snapshot).parent.glob(".tmp-*")] == []


def test_a_snapshot_of_other_code_counts_as_not_staged(
    sources: Path, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: after a change of the contract, shards are built from rows that the old one let in, and say otherwise."""
    write_exports(sources, crm=[row("a")])
    stage_all(staging_request(sources, home))
    assert len(staging.current_snapshots(home, 3)) == len(SOURCES)
    monkeypatch.setattr(staging, "staging_version", lambda: "another")
    with pytest.raises(ConfigError, match="not staged for 3 shards by this code"):
        staging.current_snapshots(home, 3)
    assert not staging.is_current(PRODUCT, staging_request(sources, home))
