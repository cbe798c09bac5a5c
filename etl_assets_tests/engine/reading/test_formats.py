"""Endings of names: one place says what is read, and how."""

import pytest

from etl_assets.engine.reading.formats import (
    Format,
    Packing,
    dialect_of,
    format_of,
    packing_of,
    partition_of,
    refusal,
    suffix_of,
)
from etl_assets.project.dialect import Dialect


@pytest.mark.parametrize(
    ("name", "suffix", "kind", "packing"),
    [
        ("crm.csv", ".csv", Format.TEXT, None),
        ("crm.2026.05.TSV.Gz", ".TSV.Gz", Format.TEXT, Packing.GZIP),
        ("crm.ndjson.zst", ".ndjson.zst", Format.OBJECTS, Packing.ZSTD),
        ("crm.zip", ".zip", Format.TEXT, Packing.ZIP),
        ("crm.xlsx", ".xlsx", Format.SHEET, None),
        ("crm.parquet", ".parquet", Format.PARQUET, None),
        ("crm", "", Format.TEXT, None),
        ("crm.gz", "", Format.TEXT, Packing.GZIP),
        ("crm.json", "", Format.TEXT, None),
    ],
)
def test_an_ending_says_the_format_and_the_packing(
    name: str, suffix: str, kind: Format, packing: Packing | None
) -> None:
    assert (suffix_of(name), format_of(name), packing_of(name)) == (suffix, kind, packing)


@pytest.mark.parametrize("name", ["crm.xls", "crm.XLSB", "crm.ods", "crm.parquet.gz", "crm.xlsx.zip"])
def test_what_is_never_read_is_refused_by_its_name(name: str) -> None:
    assert refusal(name) is not None


def test_a_delimiter_that_is_declared_counts_before_the_ending() -> None:
    """Fails: a file with commas whose name ends in .tsv cannot be read at all."""
    declared = Dialect.model_validate({"delimiter": ","})
    assert dialect_of(declared, "crm.tsv").delimiter == ","
    assert dialect_of(Dialect(nulls=("x",)), "crm.TAB.gz") == Dialect(delimiter="\t", nulls=("x",))
    assert dialect_of(Dialect(), "crm.txt") == Dialect()


def test_of_two_folders_with_one_name_the_inner_one_counts() -> None:
    """Fails: a rejected row of such a file ends in DuckDB's error about a doubled name."""
    assert partition_of("crm/Day=1/x=2/DAY=3/a.parquet") == {"DAY": "3", "x": "2"}
