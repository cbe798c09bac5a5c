"""Parquet in folders whose names are columns, as Hive and Spark write them."""

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from etl_assets.engine.reading import verified
from etl_assets.engine.reading.exports import open_exports
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import stage as stage_source
from etl_assets.errors import InputError
from etl_assets.project.contract import Source
from etl_assets_tests.engine.steps.product_exports import PRODUCT, accepted, write_parquet
from etl_assets_tests.factory import read_quarantine, staging_request

_SELECT = "SELECT 'a' AS customer_id, 'x' AS name"
_SELECT_C = "SELECT 'c' AS customer_id, 'x' AS name"


class TestFoldersThatNameColumns:
    SOURCE = Source.model_validate(
        {"name": "crm", "files": ["crm/**"], "columns": {"name": None, "day": {"type": "date"}, "region": None}}
    ).with_key(PRODUCT.key)

    def _write(self, sources: Path, name: str, select: str) -> None:
        write_parquet(sources / "crm" / name, select)

    def test_the_names_of_folders_are_columns_where_the_file_has_none(self, sources: Path, site: Site) -> None:
        """Fails: the day of a record, which only its folder names, is lost."""
        self._write(sources, "day=2026-05-01/Region=S%C3%BCd %2F West/1.parquet", _SELECT)
        null = "__HIVE_DEFAULT_PARTITION__"
        self._write(sources, f"day={null}/Region=it%27s/1.parquet", "SELECT 'b' AS customer_id, 'x' AS name")
        self._write(sources, "day=2026-05-02/Region=N/1.parquet", f"{_SELECT_C}, DATE '2020-01-01' AS Day")
        self._write(sources, "day=today/Region=N/1.parquet", "SELECT NULL AS customer_id, 'x' AS name")
        (sources / "crm" / "_SUCCESS").write_bytes(b"")
        (sources / "crm" / "day=2026-05-01" / "._SUCCESS.crc").write_bytes(b"x")
        snapshot, _ = stage_source(self.SOURCE, replace(staging_request(sources, site), max_reject_ratio=1.0))
        found = accepted(site, snapshot)
        assert {key: (row["day"], row["region"]) for key, row in found.items()} == {
            "a": (date(2026, 5, 1), "Süd / West"),
            "b": (None, "it's"),
            "c": (date(2020, 1, 1), "N"),
        }
        cell, bad = sorted(read_quarantine(site.home, snapshot), key=lambda found: found["cell"] is None)
        assert (bad["reason"], cell["reason"], cell["cell"]) == ("missing_customer_id", "invalid:day", "today")
        assert json.loads(bad["raw_text"]) == {"customer_id": None, "name": "x", "day": "today", "Region": "N"}

    def test_a_folder_that_names_nothing_is_missing_like_a_column(self, sources: Path) -> None:
        self._write(sources, "day=2026-05-01/1.parquet", _SELECT)
        with pytest.raises(InputError, match=r"lacks the column region\. Its header has: customer_id, name, day"):
            open_exports(self.SOURCE, sources)

    def test_folders_that_are_not_declared_are_reported(self, sources: Path) -> None:
        self._write(sources, "day=1/Region=N/hour=3/1.parquet", _SELECT)
        assert open_exports(self.SOURCE, sources)[0].extra_columns == ("hour",)

    def test_without_descriptors_folders_are_still_read_by_us(
        self, sources: Path, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fails on other systems than Linux: DuckDB finds the same column in the folder and in the contract."""
        monkeypatch.setattr(verified, "descriptor_path", lambda _: None)
        self._write(sources, "day=2026-05-01/Region=1/1.parquet", f"{_SELECT}, 'W' AS region")
        snapshot, _ = stage_source(self.SOURCE, staging_request(sources, site))
        assert accepted(site, snapshot)["a"]["region"] == "W"
