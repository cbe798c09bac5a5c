"""Keys that look alike: counted between sources and within one, with examples and the line that joins them."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.notices import Notice, NoticeKind
from etl_assets.engine.steps.near_keys import has_near_keys, near_key_notices
from etl_assets.project.contract import Contract
from etl_assets.project.identity import Strip
from etl_assets_tests import factory

CONTRACT = factory.PROJECT.contract


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with contextlib.closing(duckdb.connect()) as opened:
        yield opened


def _profiles(connection: duckdb.DuckDBPyConnection, profiles: Mapping[str, Sequence[str]]) -> None:
    connection.execute("CREATE TABLE merged_profiles (customer_id VARCHAR, sources VARCHAR[])")
    connection.executemany("INSERT INTO merged_profiles VALUES (?, ?)", [[k, list(s)] for k, s in profiles.items()])


def _notices(
    connection: duckdb.DuckDBPyConnection, profiles: Mapping[str, Sequence[str]], contract: Contract = CONTRACT
) -> list[Notice]:
    _profiles(connection, profiles)
    return list(near_key_notices(connection, contract)) if has_near_keys(connection, contract) else []


@pytest.mark.parametrize(
    ("of_crm", "of_billing", "difference", "remedy"),
    [
        ("c1", "C1", "case", "key: {name: customer_id, case: lower}"),
        ("Ä1", "ä1", "case", "key: {name: customer_id, case: lower}"),
        ("c1", "c1\u200b", "blanks or marks without width", "key: {name: customer_id, strip: unicode}"),
        ("c1", "\ufeffc1", "blanks or marks without width", "key: {name: customer_id, strip: unicode}"),
        ("c1", "c1\u00a0", "blanks or marks without width", "key: {name: customer_id, strip: unicode}"),
        ("C1\u00a0", "c1", "case and blanks", "key: {name: customer_id, case: lower, strip: unicode}"),
        ("00001", "1", "leading zeros", "export them alike (as text, with the same number of digits)"),
        ("0", "000", "leading zeros", "declare a key_map"),
        ("AB 12", "AB12", "blanks, marks", "export them alike"),
        ("AB\u00ad12", "AB12", "blanks, marks", "export them alike"),
        # The same letter as one code point and as two, as macOS and databases write it.
        ("M\u00fcller", "Mu\u0308ller", "blanks, marks, case, accents", "export them alike"),
        ("\u202a7\u202c", "7", "blanks, marks", "declare a key_map"),
    ],
)
def test_ids_that_look_alike_in_two_sources_are_counted_and_shown(
    connection: duckdb.DuckDBPyConnection, of_crm: str, of_billing: str, difference: str, remedy: str
) -> None:
    """Fails: twice the customers, every profile half empty, and exit 0."""
    (notice,) = _notices(connection, {of_crm: ["crm", "product"], of_billing: ["billing"], "c9": ["crm", "billing"]})[
        :1
    ]
    assert (notice.kind, notice.subject, notice.figures) == (NoticeKind.NEAR_KEYS, "crm and billing", {"pair_count": 1})
    assert f"1 pair of customer_id differs only in {difference}" in notice.finding
    assert remedy in notice.finding
    assert all(letter not in notice.finding for letter in "\u200b\ufeff\u00a0\u00ad\u202a\u0308"), "they cannot be seen"


@pytest.mark.parametrize(
    "keys", [("a1", "a2"), ("1", "10"), ("1.0", "1"), ("a-1", "a1"), ("é", "e"), ("0a", "b"), ("１", "1")]
)
def test_ids_that_a_person_tells_apart_are_no_finding(
    connection: duckdb.DuckDBPyConnection, keys: Sequence[str]
) -> None:
    assert _notices(connection, {keys[0]: ["crm"], keys[1]: ["billing"]}) == []


def test_three_examples_are_shown_of_all(connection: duckdb.DuckDBPyConnection) -> None:
    profiles = {f"{letter}{n}": [source] for letter, source in (("A", "billing"), ("a", "crm")) for n in range(9)}
    (notice,) = _notices(connection, profiles)
    assert notice.figures == {"pair_count": 9}
    assert "such as 'a0' and 'A0', 'a1' and 'A1', 'a2' and 'A2'. If" in notice.finding


def test_within_one_source_they_are_told_unless_other_sources_know_both(connection: duckdb.DuckDBPyConnection) -> None:
    """Fails: double entries stay unseen, or ids whose case counts (a CRM's of 15 characters) warn for ever."""
    profiles = {"d1": ["crm"], "D1": ["crm", "billing"], "e1": ["crm", "billing"], "E1": ["crm", "billing"]}
    (notice,) = _notices(connection, profiles)
    assert (notice.subject, notice.figures) == ("crm", {"pair_count": 1})
    assert "'D1' and 'd1'" in notice.finding


def test_many_spellings_of_one_id_do_not_make_a_pair_of_each_with_each(connection: duckdb.DuckDBPyConnection) -> None:
    """Fails: a column of zeros of every length costs the square of its rows."""
    notices = _notices(connection, {"0" * n: ["crm"] for n in range(1, 60)})
    assert [notice.figures["pair_count"] for notice in notices] == [8 * 7 / 2]


def test_the_line_of_yaml_keeps_what_is_declared(connection: duckdb.DuckDBPyConnection) -> None:
    key = CONTRACT.key.model_copy(update={"strip": Strip.UNICODE})
    contract = Contract.model_validate({**CONTRACT.model_dump(by_alias=True), "key": key.model_dump()})
    (notice,) = _notices(connection, {"a": ["crm"], "A": ["billing"]}, contract)
    assert "key: {name: customer_id, case: lower, strip: unicode}" in notice.finding


def test_personal_ids_are_counted_and_not_shown(connection: duckdb.DuckDBPyConnection) -> None:
    """Fails: addresses that serve as ids stand in logs and in the UI."""
    contract = Contract.model_validate(
        {
            "name": "by_mail",
            "key": {"name": "customer_id"},
            "sources": {
                "crm": {"key": "E-Mail", "columns": {"email": {"from": "E-Mail", "pii": True}}},
                "billing": {"columns": ["plan"]},
            },
        }
    )
    (notice,) = _notices(connection, {"ada@x.example": ["crm"], "Ada@x.example": ["billing"]}, contract)
    assert "example" not in notice.finding
    assert notice.figures == {"pair_count": 1}


def test_the_merge_notices_near_keys_and_still_keeps_every_profile(sources: Path, home: Home) -> None:
    exports = factory.write_exports(
        sources, crm=[factory.row("c1"), factory.row("c2")], billing=[factory.row("C1"), factory.row("c2")]
    )
    merged = factory.run_engine(exports, factory.site_at(home))
    assert [notice.subject for notice in merged.noticed.notices if notice.is_warning] == ["crm and billing"]
    assert factory.query(home.warehouse, "SELECT count(*) FROM merged_profiles") == [(3,)]
    own = "SELECT count(*) FROM duckdb_functions() WHERE database_name = 'opened' AND NOT internal"
    assert factory.query(home.warehouse, own) == [(0,)], "no macro is published"
