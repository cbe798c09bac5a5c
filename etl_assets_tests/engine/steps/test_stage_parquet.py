"""Parquet exports: typed values are read by their text, as those of a CSV file are."""

from datetime import date
from pathlib import Path

import pytest

from etl_assets.engine.site import Site
from etl_assets.errors import InputError
from etl_assets_tests.engine.steps.product_exports import PRODUCT, accepted, stage, write_parquet
from etl_assets_tests.factory import (
    row,
)


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
                DATE '2026-06-01' AS last_active, 0.5 * i AS total_sessions, 'nan'::DOUBLE AS features_used,
                65 AS usage_pct, 'a' AS account_status
            FROM range(2) t(i)""",
        )
        assert stage(sources, site).reasons == {"invalid:features_used": 2}

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
