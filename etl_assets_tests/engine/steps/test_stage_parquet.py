"""Parquet exports: typed values are read by their text, as those of a CSV file are."""

from datetime import date
from pathlib import Path
from typing import NoReturn

import duckdb
import pytest

from etl_assets.engine.reading import exports
from etl_assets.engine.reading.records import MAX_RAW_BYTES, MAX_RECORD_BYTES
from etl_assets.engine.site import Site
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import Action, Advice, CollapsedError, InputError
from etl_assets_tests.engine.steps.product_exports import PRODUCT, accepted, no_reading, stage, write, write_parquet
from etl_assets_tests.factory import read_quarantine, row


class TestParquet:
    def test_values_of_other_types_are_read_by_their_text(self, sources: Path, site: Site) -> None:
        write_parquet(
            sources / "product.parquet",
            """
            SELECT 40 + i AS customer_id, 'x' AS email, TIMESTAMP '2025-01-01 00:00:00' AS signup_date,
                '2026-06-01' AS last_active, '12' AS total_sessions, 7.0::DOUBLE AS features_used,
                65::UTINYINT AS usage_pct, true AS account_status
            FROM range(2) t(i)""",
        )
        found = accepted(site, stage(sources, site))
        assert set(found) == {"40", "41"}
        values = [found["40"][column] for column in PRODUCT.required[1:]]
        assert values == ["x", date(2025, 1, 1), date(2026, 6, 1), 12, 7, 65, "true"]

    def test_nulls_are_nulls_and_a_null_id_is_missing(self, sources: Path, site: Site) -> None:
        nulls = ", ".join(f"NULL AS {column}" for column in PRODUCT.required[1:])
        write_parquet(
            sources / "product.parquet", f"SELECT nullif('c' || i, 'c1') AS customer_id, {nulls} FROM range(3) t(i)"
        )
        snapshot = stage(sources, site)
        found = accepted(site, snapshot)
        assert set(found) == {"c0", "c2"}
        assert {found["c0"][column] for column in PRODUCT.required[1:]} == {None}
        assert snapshot.reasons == {"missing_customer_id": 1}

    def test_values_out_of_contract_are_rejected_as_in_a_csv_file(self, sources: Path, site: Site) -> None:
        write_parquet(
            sources / "product.parquet",
            """
            SELECT 'c' || i AS customer_id, 'x' AS email, TIMESTAMP '2025-01-01 00:00:00' + to_hours(i) AS signup_date,
                DATE '2026-06-01' AS last_active, 0.5 * i AS total_sessions, 'inf'::DOUBLE AS features_used,
                65 AS usage_pct, 'a' AS account_status
            FROM range(2) t(i)""",
        )
        assert stage(sources, site).reasons == {"invalid:features_used": 1, "invalid:total_sessions": 1}

    def test_headers_may_differ_in_case_and_order_and_more_columns_may_be_there(
        self, sources: Path, site: Site
    ) -> None:
        cells = ", ".join(f"'{row('a')[column]}' AS \" {column.upper()} \"" for column in reversed(PRODUCT.required))
        write_parquet(sources / "product.parquet", f'SELECT 1 AS source_row, {cells}, 2 AS "it\'s"')
        snapshot = stage(sources, site)
        assert accepted(site, snapshot)["a"]["usage_pct"] == 65
        assert snapshot.extra_columns == ("it's", "source_row")

    def test_a_file_without_rows_is_an_empty_source(self, sources: Path, site: Site) -> None:
        cells = ", ".join(f"'x' AS {column}" for column in PRODUCT.required)
        write_parquet(sources / "product.parquet", f"SELECT {cells} WHERE false")
        assert stage(sources, site).rows_in == 0


def damage_pages(path: Path) -> None:
    """Overwrite the first pages with zeros."""
    content = bytearray(path.read_bytes())
    content[20:60] = bytes(40)
    path.write_bytes(content)


def test_a_parquet_file_with_damaged_pages_is_named(sources: Path, site: Site) -> None:
    """Fails: the person reads an error of the engine and does not know which of many files to export again."""
    path = sources / "product" / "part.parquet"
    columns = ", ".join(f"NULL::VARCHAR AS {column.name}" for column in PRODUCT.columns)
    write_parquet(path, f"SELECT 'c' || range AS customer_id, {columns} FROM range(300)")
    content = bytearray(path.read_bytes())
    content[40:200] = bytes(160)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"product/part\.parquet is a damaged Parquet file"):
        stage(sources, site)


def test_a_parquet_time_stamp_with_a_zone_is_a_date_at_midnight_utc(sources: Path, site: Site) -> None:
    """Fails: the same file gives other dates, or none, on a machine in another time zone."""
    columns = ", ".join(
        "TIMESTAMPTZ '2026-05-01 00:00:00+00' AS signup_date"
        if column.name == "signup_date"
        else f"NULL::VARCHAR AS {column.name}"
        for column in PRODUCT.columns
    )
    write_parquet(sources / "product.parquet", f"SELECT 'a' AS customer_id, {columns}")
    assert accepted(site, stage(sources, site))["a"]["signup_date"] == date(2026, 5, 1)


def _nulls(*but: str) -> str:
    return ", ".join(f"NULL::VARCHAR AS {column.name}" for column in PRODUCT.columns if column.name not in but)


def test_a_damaged_file_is_named_and_not_its_sound_neighbour(sources: Path, site: Site) -> None:
    """Fails: DuckDB gives up on its whole connection, every file looks damaged, and the first one is blamed."""
    for name in ("a_good", "b_bad", "c_good"):
        write_parquet(sources / "product" / f"{name}.parquet", f"SELECT '{name}' AS customer_id, {_nulls()}")
    damage_pages(sources / "product" / "b_bad.parquet")
    with pytest.raises(InputError, match=r"^product/b_bad\.parquet is a damaged Parquet file \([^\n]{1,150}\)\.$"):
        stage(sources, site)


def test_the_neighbours_of_a_file_that_costs_the_connection_are_not_blamed(
    sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails: the message is about another file and quotes pages of DuckDB's own state."""
    fatal = "FATAL Error: Failed: database has been invalidated\nStack trace: \x1b[31m"
    for name in ("a_good", "b_bad"):
        write_parquet(sources / "product" / f"{name}.parquet", f"SELECT '{name}' AS customer_id, {_nulls()}")

    def invalidate(connection: duckdb.DuckDBPyConnection, *_: object) -> NoReturn:
        connection.close()
        raise duckdb.FatalException(fatal)

    damage_pages(sources / "product" / "b_bad.parquet")
    monkeypatch.setattr(staging, "_write_partitions", invalidate)
    with pytest.raises(InputError, match=r"^product/b_bad\.parquet is a damaged Parquet file"):
        stage(sources, site)
    assert (
        exports.reason(duckdb.FatalException(fatal), exports.open_exports(PRODUCT, sources)[0], sources)
        == "its parts contradict each other"
    )


class TestLimits:
    """A CSV file has them by its nature: a row takes a byte a cell, a text as many bytes as it has."""

    def test_a_row_longer_than_a_csv_record_may_be_is_quarantined(self, sources: Path, site: Site) -> None:
        """Fails: what is refused as CSV gets in as Parquet."""
        fitting = MAX_RECORD_BYTES - len("fits") - len("b")
        write_parquet(
            sources / "product.parquet",
            f"""
            SELECT * FROM (VALUES ('fits', repeat('é', {fitting // 2}) || repeat('x', {fitting % 2}), 'b'),
                ('long', repeat('é', {fitting // 2}) || repeat('x', {fitting % 2}), 'bc'), ('sound', 'e', 'b'))
                row(customer_id, email, account_status), (SELECT {_nulls("email", "account_status")})""",
        )
        snapshot = stage(sources, site)
        assert set(accepted(site, snapshot)) == {"fits", "sound"}
        (rejected,) = read_quarantine(site.home, snapshot)
        assert (rejected["line_number"], rejected["customer_id"], rejected["reason"]) == (2, None, "malformed_row")
        assert rejected["raw_text"].startswith('{"customer_id":"long","email":"éé')
        assert len(rejected["raw_text"]) == MAX_RAW_BYTES
        assert (snapshot.rows_in, snapshot.reasons) == (3, {"malformed_row": 1})

    def test_the_rows_of_csv_neighbours_are_as_long_as_they_are(self, sources: Path, site: Site) -> None:
        write(sources, row("a"), row(""), name="product/1.csv")
        write_parquet(
            sources / "product" / "2.parquet",
            f"SELECT 'long' AS customer_id, repeat('x', {2 * MAX_RECORD_BYTES}) AS email, {_nulls('email')}",
        )
        snapshot = stage(sources, site)
        assert set(accepted(site, snapshot)) == {"a"}
        assert snapshot.reasons == {"malformed_row": 1, "missing_customer_id": 1}

    def refusal(self, sources: Path, site: Site, limit_mb: int) -> str:
        with pytest.raises(InputError) as caught:
            stage(sources, site, max_unpacked_mb=limit_mb)
        assert caught.value.advice == (Advice(Action.SET, "ETL_MAX_UNPACKED", f"{2 * limit_mb}MB"),)
        # What was refused, and why; nothing of what was unpacked.
        assert [path.name for path in site.home.root.rglob("*") if path.is_file()] == ["refused.json"]
        return str(caught.value)

    def test_two_kilobytes_that_declare_many_rows_are_refused_before_they_are_read(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails: a file that an upload form takes fills the disk, or occupies the machine."""
        path = sources / "product.parquet"
        constants = ", ".join(f"'' AS {column.name}" for column in PRODUCT.columns)
        write_parquet(path, f"SELECT 'c0' AS customer_id, {constants} FROM range(150_000)", "ROW_GROUP_SIZE 150_000")
        assert path.stat().st_size < 5_000
        with monkeypatch.context() as patch:
            patch.setattr(staging, "_write_partitions", no_reading)
            text = self.refusal(sources, site, 1)
        assert text == f"product.parquet ({path.stat().st_size} bytes) unpacks to more than the 1 MB that are allowed."
        # With room for them they are read, and are all of one customer.
        with pytest.raises(CollapsedError, match="all 150,000 rows"):
            stage(sources, site, max_unpacked_mb=64)

    def test_few_texts_that_are_repeated_are_refused(self, sources: Path, site: Site) -> None:
        """Fails: a megabyte becomes gigabytes of slices, shards and warehouse."""
        path = sources / "product.parquet"
        write_parquet(
            path,
            f"SELECT 'c' || range AS customer_id, repeat('x', 5000) || range % 4 AS email, {_nulls('email')} "
            "FROM range(1_000)",
        )
        assert path.stat().st_size < 100_000
        assert "unpacks to more than the 4 MB" in self.refusal(sources, site, 4)
        assert stage(sources, site, max_unpacked_mb=6).rows_accepted == 1_000

    def test_a_limit_is_one_of_each_file(self, sources: Path, site: Site) -> None:
        for name in "abc":
            write_parquet(
                sources / "product" / f"{name}.parquet",
                f"SELECT '{name}' || range AS customer_id, repeat('x', 5000) AS email, {_nulls('email')} "
                "FROM range(150)",
            )
        assert stage(sources, site, max_unpacked_mb=1).rows_accepted == 450

    def test_columns_that_are_not_read_count_when_their_rows_are_rejected(self, sources: Path, site: Site) -> None:
        """Fails: the quarantine, which keeps whole rows, fills the disk."""
        write_parquet(
            sources / "product.parquet",
            f"SELECT '' AS customer_id, {_nulls()}, repeat('x', 50_000) AS note FROM range(100)",
        )
        assert "product.parquet" in self.refusal(sources, site, 4)
        assert stage(sources, site, max_unpacked_mb=6).rows_quarantined == 100

    def test_a_footer_that_contradicts_itself_is_damage(self, sources: Path, site: Site) -> None:
        """Fails: the books do not close, and the message calls it a defect of this program."""
        path = sources / "product.parquet"
        write_parquet(path, f"SELECT 'c' || range AS customer_id, {_nulls()} FROM range(12_345)")
        content = path.read_bytes()
        footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
        # As the footer writes the number of rows, in the file's own entry and in that of the one row group.
        number = b"\xf2\xc0\x01"
        assert content.count(number, footer) >= 2
        path.write_bytes(content[:footer] + content[footer:].replace(number, b"\xf4\xc0\x01", 1))
        with pytest.raises(InputError, match=r"damaged Parquet file \(12346 rows in all, 12345 in its row"):
            stage(sources, site)
