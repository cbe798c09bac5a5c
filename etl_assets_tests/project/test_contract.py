"""The contract as values: names, order, the key that every source knows, meanings, personal columns."""

import pickle

import pytest
from pydantic import ValidationError

from etl_assets.project.contract import (
    Column,
    ColumnType,
    Contract,
    ProfileColumn,
    Source,
)
from etl_assets.project.entries import MisdeclaredError
from etl_assets.project.identity import Key

DECLARED = {
    "name": "staff",
    "entity": "people",
    "key": {"name": "person", "max_chars": 12},
    "sources": {
        "payroll": {
            "title": "Payroll",
            "columns": {"salary": {"type": "float", "min": 0.5, "pii": True}, "team": {"meaning": "Where they work"}},
        },
        "badges": {"columns": ["team", {"name": "opened_on", "type": "date"}]},
    },
    "profile": {"team": None, "grade": {"type": "int", "min": 1, "max": 9}, "phone": {"pii": True, "meaning": "Desk"}},
}


@pytest.fixture
def contract() -> Contract:
    return Contract.model_validate(DECLARED)


def test_mappings_and_lists_declare_the_same(contract: Contract) -> None:
    """Fails: the short form of a contract means something else than the long one."""
    listed = {
        **DECLARED,
        "sources": [
            {
                "name": "payroll",
                "title": "Payroll",
                "columns": [
                    {"name": "salary", "type": "float", "min": 0.5, "pii": True},
                    {"name": "team", "meaning": "Where they work"},
                ],
            },
            {"name": "badges", "columns": {"team": {}, "opened_on": {"type": "date"}}},
        ],
        "profile": ["team", {"name": "grade", "type": "int", "min": 1, "max": 9}, *_phone()],
    }
    assert Contract.model_validate(listed) == contract


def _phone() -> list[dict[str, object]]:
    return [{"name": "phone", "pii": True, "meaning": "Desk"}]


def test_the_order_of_the_file_is_the_order_of_the_contract(contract: Contract) -> None:
    """Fails: idempotency keys change, because sources or columns are encoded in another order."""
    assert contract.source_names == ("payroll", "badges")
    assert contract.source("badges").required == ("person", "team", "opened_on")
    assert contract.source("payroll").required == ("person", "salary", "team")


def test_every_source_knows_the_contracts_key(contract: Contract) -> None:
    assert {source.key for source in contract.sources} == {Key(name="person", max_chars=12)}
    assert Source(name="alone", columns=(Column(name="a"),)).required == ("customer_id", "a")


def test_a_contract_is_the_same_after_it_was_dumped_or_pickled(contract: Contract) -> None:
    """Fails: a process that gets the contract from another one looks for another key."""
    for copied in (Contract.model_validate(contract.model_dump()), pickle.loads(pickle.dumps(contract))):
        assert copied == contract
        assert copied.sources[0].key == contract.key


def test_defaults_are_those_of_the_shortest_contract() -> None:
    shortest = Contract.model_validate({"name": "p", "sources": {"crm": {"columns": ["a"]}}})
    assert (shortest.entity, shortest.key.name, shortest.key.max_chars) == ("customers", "customer_id", 128)
    (column,) = shortest.sources[0].columns
    assert (column.type, column.min, column.max, column.pii, column.meaning) == (ColumnType.TEXT, None, None, False, "")
    assert shortest.sources[0].label == "crm"
    assert shortest.profile == ()


def test_meanings_are_those_of_the_profile_before_those_of_the_first_source(contract: Contract) -> None:
    assert contract.meanings() == {
        "salary": "salary (Payroll)",
        "team": "Where they work (Payroll)",
        "opened_on": "opened_on (badges)",
        "phone": "Desk",
    }


def test_personal_columns_are_those_of_sources_and_profile(contract: Contract) -> None:
    """Fails: what is declared personal is shown."""
    assert contract.personal_columns == {"salary", "phone"}


def test_a_contract_cannot_be_changed(contract: Contract) -> None:
    """Fails: a step changes what a later one is given, and versions say nothing of it."""
    with pytest.raises(ValidationError, match="frozen"):
        contract.entity = "customers"
    with pytest.raises(ValidationError, match="frozen"):
        contract.sources[0].columns[0].min = 3


def test_an_unknown_source_is_a_key_error(contract: Contract) -> None:
    with pytest.raises(KeyError):
        contract.source("crm")


@pytest.mark.parametrize(
    ("column_type", "duckdb", "is_number"),
    [("text", "VARCHAR", False), ("int", "BIGINT", True), ("float", "DOUBLE", True), ("date", "DATE", False)],
)
def test_every_type_has_a_type_of_duckdb(column_type: str, duckdb: str, is_number: bool) -> None:
    column = ProfileColumn(name="a", type=ColumnType(column_type))
    assert (column.type.duckdb, column.is_number) == (duckdb, is_number)


def test_what_is_wrong_with_several_entries_is_one_error_with_all_of_them() -> None:
    error = MisdeclaredError([(("sources", 1), "twice"), (("key",), "odd")])
    assert str(error) == "sources.1: twice; key: odd"
    assert error.findings == ((("sources", 1), "twice"), (("key",), "odd"))
