r"""The idempotency key, pinned: a key that changes on its own makes every customer look changed downstream.

The digests were computed once from the texts of the encoding written out by hand, for example

    ["v1","crm",null,"say \"hi\", twice",null,null,null,null,null,null,null,…]

and not by this project's code.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine import duck, keys
from etl_assets.engine.files.layout import Home
from etl_assets.project.contract import Column, ColumnType, Source
from etl_assets_tests import factory, oracle
from etl_assets_tests.factory import SOURCES, site_at

_ALL = {source.name: dict(factory.SOUND) for source in SOURCES}
# Name: the cells of the sources the customer stands in (the others empty), and the digest in the key.
_GOLDEN: Mapping[str, tuple[Mapping[str, Mapping[str, str]], str]] = {
    "a record of nulls": ({"crm": {}}, "b00d90b13a87e796540890a71a9494fa"),
    "a record of nulls elsewhere": ({"billing": {}}, "8886743fee1f3386d0d7e046aacbe1cd"),
    "an email": ({"crm": {"email": "a@x.example"}}, "4180404a1e2f54ef477a69badb978551"),
    "the same email elsewhere": ({"billing": {"email": "a@x.example"}}, "f70c112e56f05c1f366bae1e99b0b021"),
    # Names; `null` and `NULL` are read as null before there is a key.
    "the text Null": ({"crm": {"company_name": "Null"}}, "cfee1c39d5ad843030dde9a3012fe9b1"),
    "the text NONE": ({"crm": {"company_name": "NONE"}}, "a89481e9abdec2efb33c0989929f40f3"),
    "two quotes": ({"crm": {"company_name": '""'}}, "e22fe453975ea9e77b617f23e9ff3f29"),
    "a then bc": ({"crm": {"company_name": "a", "industry": "bc"}}, "e697fa5c92230ec2187e06d51e8cc31f"),
    "ab then c": ({"crm": {"company_name": "ab", "industry": "c"}}, "0e2c772d1a4169ce5121becdd0a016b8"),
    "quotes and a comma": ({"crm": {"company_name": 'say "hi", twice'}}, "1fe2b3e756f4f7be7a46d8ccd3625fe1"),
    "line ends": ({"crm": {"company_name": "two\nlines\r\n\tthree"}}, "0aded04710fbfc2620662880945e6490"),
    "controls": ({"crm": {"company_name": "bell\x07 \x0b \x1f \b\f"}}, "160dddf8b266b1b79c10d778b0d75622"),
    "unicode": ({"crm": {"company_name": "Zoë Łódź 東京 🚀 \u2028"}}, "6cd40de46eca947e808d1e381618826c"),
    "backslashes": ({"crm": {"company_name": r"C:\temp/\n"}}, "ef2b04e7ee5a040f6a0f38c905798a48"),
    "types": (
        {
            "crm": {"employee_count": " -007", "deal_value": "+07.5", "last_contact": "0044-03-05"},
            "support": {"avg_resolution_hrs": "1e5"},
        },
        "0d090684ff465790535a6041bb837a89",
    ),
    "zeros": (
        {"crm": {"employee_count": "-0", "deal_value": "-0.0"}, "support": {"avg_resolution_hrs": "-0.0"}},
        "9272922ba466c0f004084b6be9b7cd03",
    ),
    "a small float": ({"support": {"avg_resolution_hrs": "0.0000001"}}, "9cf11140e85ce402ad136ac3e8b395f7"),
    "a large float": (
        {"support": {"avg_resolution_hrs": "10000000000000000000000"}},
        "306108afde58a7e937868e96e097703e",
    ),
    "a long float": ({"support": {"avg_resolution_hrs": "0.30000000000000004"}}, "d59a03aca894165b0c122728b5f8d381"),
    "a large amount": ({"crm": {"deal_value": "-9999999999999999.99"}}, "736ef26738e03991654d9d06f473f38f"),
    "every column": (_ALL, "d38c448dc1339ee172fb2f42af70d058"),
}


def _write_golden(sources: Path) -> None:
    factory.write_exports(
        sources,
        **{
            source.name: [
                {"customer_id": name, **cells[source.name]}
                for name, (cells, _) in _GOLDEN.items()
                if source.name in cells
            ]
            for source in SOURCES
        },
    )


def test_keys_are_the_pinned_ones_in_sql_and_in_the_oracle(sources: Path, home: Home) -> None:
    _write_golden(sources)
    factory.run_engine(sources, site_at(home))
    pinned = {name: f"{name}:{digest}" for name, (_, digest) in _GOLDEN.items()}
    assert dict(factory.query(home.warehouse, "SELECT customer_id, idempotency_key FROM merged_profiles")) == pinned
    expected = oracle.expect(sources, 3).profiles
    assert {name: profile["idempotency_key"] for name, profile in expected.items()} == pinned


def test_no_two_golden_records_share_a_digest() -> None:
    digests = [digest for _, digest in _GOLDEN.values()]
    assert len(set(digests)) == len(digests)


def test_a_key_does_not_depend_on_how_a_value_is_written(tmp_path: Path) -> None:
    """An exporter that begins to write 29.0 instead of 29 must not make every customer look changed."""
    spellings: list[dict[str, str]] = [
        {"employee_count": "12", "deal_value": "29", "last_contact": "2026-05-01", "email": ""},
        {
            "employee_count": "+012.00",
            "deal_value": " +029.0000 ",
            "last_contact": "2026-05-01T00:00:00Z",
            "email": " \t",
        },
    ]
    found = set()
    for number, cells in enumerate(spellings):
        sources, home = tmp_path / f"sources_{number}", Home(tmp_path / f"home_{number}")
        factory.write_exports(sources, crm=[factory.row("one", **cells)])
        factory.run_engine(sources, site_at(home, 1))
        found.update(factory.query(home.warehouse, "SELECT idempotency_key FROM merged_profiles"))
    assert len(found) == 1


def test_the_change_of_any_column_and_the_lack_of_any_source_gives_another_key(sources: Path, home: Home) -> None:
    """Fails: a column changes in the profile, and a consumer that compares keys misses it."""
    changed = {
        ColumnType.TEXT: "other",
        ColumnType.INT: "5",
        ColumnType.FLOAT: "3.25",
        ColumnType.DECIMAL: "3.25",
        ColumnType.DATE: "2020-02-02",
    }
    rows: dict[str, list[dict[str, str]]] = {source.name: [factory.row("as it was")] for source in SOURCES}
    for source in SOURCES:
        for other in SOURCES:
            for column in source.columns:
                name = f"{source.name}.{column.name}"
                rows[other.name].append(
                    factory.row(name, **{column.name: changed[column.type]} if other == source else {})
                )
            if other != source:
                rows[other.name].append(factory.row(f"without {source.name}"))
    factory.write_exports(sources, **rows)
    factory.run_engine(sources, site_at(home, 1))
    found = factory.query(
        home.warehouse, "SELECT customer_id, split_part(idempotency_key, ':', 2) FROM merged_profiles"
    )
    by_digest = {digest: customer_id for customer_id, digest in found}
    assert len(found) == 1 + sum(len(source.columns) + 1 for source in SOURCES)
    assert sorted(by_digest.values()) == sorted(customer_id for customer_id, _ in found)


def _encoded(source_name: str | None, value: str | None) -> str:
    source = Source(name="one", columns=(Column(name="remark"),))
    one = f"(SELECT ?::VARCHAR AS {keys.SOURCE_NAME}, ?::VARCHAR AS remark) one"
    with contextlib.closing(duckdb.connect()) as connection:
        return str(
            duck.scalar(
                connection,
                f"SELECT {keys.encoding_sql([source])} FROM {one}",
                [source_name, value],
            )
        )


@pytest.mark.parametrize(
    ("source_name", "value", "text"),
    [
        (None, None, '["v1",null,null]'),
        ("one", None, '["v1","one",null]'),
        ("one", "", '["v1","one",""]'),
        ("one", "null", '["v1","one","null"]'),
        ("one", '","', r'["v1","one","\",\""]'),
        ("one", "\x01\x1f", r'["v1","one","\u0001\u001F"]'),
    ],
)
def test_the_encoding_separates_a_missing_record_from_nulls_and_nulls_from_texts(
    source_name: str | None, value: str | None, text: str
) -> None:
    assert _encoded(source_name, value) == text
