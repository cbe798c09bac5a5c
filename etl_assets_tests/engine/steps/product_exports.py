"""Exports of the source `product` and what staging makes of them, for the tests of staging."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import duckdb
import pytest

from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.site import Site
from etl_assets.engine.steps.stage import stage as stage_source
from etl_assets_tests.factory import PROJECT, read_slices, staging_request, write_csv

PRODUCT = PROJECT.contract.source("product")
HEADER = ",".join(PRODUCT.required)


def stage(sources: Path, site: Site, **changes: Any) -> Snapshot:
    """Stage the product export in that folder."""
    return stage_source(PRODUCT, replace(staging_request(sources, site), **changes))[0]


def accepted(site: Site, snapshot: Snapshot) -> dict[str, dict[str, Any]]:
    """The accepted rows by customer."""
    rows = [found for part in read_slices(site.home, snapshot) for found in part]
    assert len({found["customer_id"] for found in rows}) == len(rows) == snapshot.rows_accepted
    return {found["customer_id"]: found for found in rows}


def write(sources: Path, *rows: Mapping[str, str], name: str = "product.csv") -> Path:
    """Write an export of product."""
    return write_csv(sources / name, PRODUCT, rows)


def write_parquet(path: Path, select: str, options: str = "COMPRESSION snappy") -> None:
    """Write what a query returns, with options of COPY."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({select}) TO '{path}' (FORMAT parquet, {options})")


def no_reading(*_: object) -> NoReturn:
    """Stands in for a function that reads exports, where none may be read."""
    pytest.fail("the export was read again")
