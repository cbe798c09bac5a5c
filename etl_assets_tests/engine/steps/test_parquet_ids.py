"""Parquet means what it says: an id is the same text in every format, and what is no value is refused by name."""

from pathlib import Path

import pytest

from etl_assets.engine.site import Site
from etl_assets.errors import InputError
from etl_assets_tests.engine.steps.product_exports import PRODUCT, accepted, stage, write_parquet


def write(sources: Path, customer_id: str, rows: str = "range(1, 3) t(i)", **cells: str) -> None:
    columns = ", ".join(f"{cells.get(one.name, 'NULL::VARCHAR')} AS {one.name}" for one in PRODUCT.columns)
    write_parquet(sources / "product.parquet", f"SELECT {customer_id} AS customer_id, {columns} FROM {rows}")


@pytest.mark.parametrize(
    ("customer_id", "ids"),
    [
        ("i::DOUBLE", {"1", "2"}),
        ("i::FLOAT", {"1", "2"}),
        ("(9007199254740990 - i)::DOUBLE", {"9007199254740989", "9007199254740988"}),
        ("-i::DOUBLE", {"-1", "-2"}),
        ("i::DECIMAL(10,2)", {"1", "2"}),
        ("i * 1000000000000000000000000000000::DECIMAL(38,0)", {"1" + "0" * 30, "2" + "0" * 30}),
        ("i::UTINYINT", {"1", "2"}),
        ("(18446744073709551613 + i)::UBIGINT", {"18446744073709551614", "18446744073709551615"}),
        ("encode('Zoë ' || i)", {"Zoë 1", "Zoë 2"}),
        ("('0000000' || i || '-0000-0000-0000-000000000000')::UUID", None),
        ("DATE '2026-05-01' + i::INT", {"2026-05-02", "2026-05-03"}),
    ],
)
def test_ids_of_every_type_are_the_texts_of_a_csv_file(
    sources: Path, site: Site, customer_id: str, ids: set[str] | None
) -> None:
    """Fails: pandas makes doubles of ids, `1.0` is another customer than `1`, and every profile is half empty."""
    write(sources, customer_id)
    found = set(accepted(site, stage(sources, site)))
    assert found == (ids or {f"0000000{number}-0000-0000-0000-000000000000" for number in (1, 2)})


def test_a_missing_double_is_a_missing_id(sources: Path, site: Site) -> None:
    write(sources, "CASE WHEN i = 1 THEN 'nan'::DOUBLE ELSE i::DOUBLE END")
    snapshot = stage(sources, site)
    assert (set(accepted(site, snapshot)), snapshot.reasons) == ({"2"}, {"missing_customer_id": 1})


@pytest.mark.parametrize(
    ("customer_id", "text"),
    [
        ("i + 0.5::DOUBLE", r"of type DOUBLE, and row 1 holds 1\.5; expected ids that are whole numbers below 9,007,"),
        ("9007199254740991::DOUBLE + i", r"of type DOUBLE, and row 1 holds 9007199254740992"),
        ("(16777215 + i)::FLOAT", r"of type FLOAT, and row 1 holds 16777216"),
        ("'inf'::DOUBLE", r"of type DOUBLE, and row 1 holds inf"),
        (
            "(i + 0.25)::DECIMAL(10,2)",
            r"of type DECIMAL\(10,2\), and row 1 holds 1\.25; expected ids that are whole num",
        ),
        (
            r"CASE i WHEN 1 THEN encode('a') ELSE '\xFF'::BLOB END",
            r"of type BLOB, and row 2 holds bytes that are not UTF",
        ),
        ("i = 1", "of type BOOLEAN; which makes no ids"),
        ("TIMESTAMP '2026-05-01 10:00:00'", "of type TIMESTAMP; which makes no ids"),
        ("[i]", r"of type BIGINT\[\]; expected a single value in each row"),
        ("to_json(i)", "of type JSON; which makes no ids"),
    ],
)
def test_what_makes_no_ids_is_refused_by_name(sources: Path, site: Site, customer_id: str, text: str) -> None:
    """Fails: ids that a type has rounded collapse, and twenty customers become two."""
    write(sources, customer_id)
    with pytest.raises(InputError, match=rf"^product\.parquet: column 'customer_id' is {text}"):
        stage(sources, site)


@pytest.mark.parametrize("value", ["['a@x']", "{'a': 1}", "MAP([1], [2])", "[[1]]"])
def test_lists_and_structs_are_no_values(sources: Path, site: Site, value: str) -> None:
    """Fails: `[ada@x.test]` is an e-mail address."""
    write(sources, "i", email=value)
    with pytest.raises(InputError, match=r"column 'email' is of type .*; expected a single value in each row"):
        stage(sources, site)


def test_bytes_are_texts_in_utf8_and_refused_when_they_are_not(sources: Path, site: Site) -> None:
    """Fails: `Müller` becomes escapes of its bytes, or a name in another encoding is lost without a word."""
    write(sources, "i", email="encode('Müller')", usage_pct="encode('7')")
    found = accepted(site, stage(sources, site))["1"]
    assert (found["email"], found["usage_pct"]) == ("Müller", 7)
    write(sources, "i", email=r"'M\xFCller'::BLOB")
    with pytest.raises(InputError, match=r"column 'email' is of type BLOB, and row 1 holds bytes that are not UTF-8"):
        stage(sources, site)


def test_whole_doubles_in_texts_have_no_point(sources: Path, site: Site) -> None:
    write(sources, "i", email="i::DOUBLE", account_status="0.5::DOUBLE")
    found = accepted(site, stage(sources, site))["1"]
    assert (found["email"], found["account_status"]) == ("1", "0.5")


def test_nested_columns_that_are_not_declared_do_not_matter(sources: Path, site: Site) -> None:
    cells = ", ".join(f"NULL::VARCHAR AS {one.name}" for one in PRODUCT.columns)
    write_parquet(sources / "product.parquet", f"SELECT 'a' AS customer_id, {cells}, [1] AS tags, '\\xFF'::BLOB AS raw")
    assert set(accepted(site, stage(sources, site))) == {"a"}
