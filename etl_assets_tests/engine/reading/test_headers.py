"""Names in headers: found as systems write them, and never guessed."""

import pytest

from etl_assets.engine.reading.headers import find_columns
from etl_assets.errors import InputError
from etl_assets.project.columns import plain_name
from etl_assets.project.contract import Contract, Source


def source(**columns: object) -> Source:
    spec = {"columns": {"name": {}, **columns}}
    return Contract.model_validate({"name": "p", "key": {"name": "client"}, "sources": {"crm": spec}}).sources[0]


@pytest.mark.parametrize("header", ["NAME", " name ", "Name", "name"])
def test_case_and_blanks_do_not_matter(header: str) -> None:
    assert find_columns(source(), ["client", header], "crm.csv") == ({"name": header}, ("client",))


def test_words_may_be_written_apart() -> None:
    wanted = source(company_name={}, zip_code={})
    found, _ = find_columns(wanted, ["Client", "Name", "Company  Name", "ZIP-Code"], "crm.csv")
    assert found == {"name": "Name", "company_name": "Company  Name", "zip_code": "ZIP-Code"}


def test_an_exact_name_comes_before_a_similar_one() -> None:
    found, _ = find_columns(source(company_name={}), ["client", "name", "Company Name", "company_name"], "crm.csv")
    assert found["company_name"] == "company_name"


def test_a_declared_header_is_the_only_one_that_counts() -> None:
    wanted = source(owner={"from": ["Owner Name", "Owner"]})
    assert find_columns(wanted, ["client", "name", "Owner"], "x")[0]["owner"] == "Owner"
    with pytest.raises(InputError, match="lacks the column Owner Name or Owner"):
        find_columns(source(owner={"from": ["Owner Name", "Owner"]}), ["client", "name", "proprietor"], "x")


def test_a_missing_column_names_the_nearest_header() -> None:
    with pytest.raises(InputError) as error:
        find_columns(source(company_name={}), ["client", "name", "Company Nmae"], "crm.csv")
    assert "lacks the column company_name" in str(error.value)
    assert 'from: "Company Nmae"' in str(error.value)


@pytest.mark.parametrize("headers", [["client", "name", "NAME"], ["client", "Name ", "name"]])
def test_a_column_that_is_there_twice_is_refused(headers: list[str]) -> None:
    with pytest.raises(InputError, match="name more than once"):
        find_columns(source(), headers, "crm.csv")


def test_two_similar_names_are_refused_too() -> None:
    with pytest.raises(InputError, match=r"company_name more than once: Company Name, Company-Name"):
        find_columns(source(company_name={}), ["client", "name", "Company Name", "Company-Name"], "crm.csv")


def test_the_key_may_have_its_own_names() -> None:
    spec = {"key": ["Tenant", "Account ID"], "columns": ["name"]}
    made = Contract.model_validate({"name": "p", "key": {"name": "client"}, "sources": {"crm": spec}}).sources[0]
    assert find_columns(made, ["account_id", "TENANT", "name"], "crm.csv")[1] == ("TENANT", "account_id")
    with pytest.raises(InputError, match="lacks the column Tenant"):
        find_columns(made, ["account_id", "name", "client"], "crm.csv")


def test_a_header_of_the_key_may_be_the_name_of_a_column() -> None:
    """Fails: the key is read from the column's header, and every record belongs to another key."""
    spec = {"key": "account", "columns": {"account": {"from": "account_name"}}}
    made = Contract.model_validate({"name": "p", "key": {"name": "client"}, "sources": {"crm": spec}}).sources[0]
    found = find_columns(made, ["account_name", "account"], "crm.csv")
    assert found == ({"account": "account_name"}, ("account",))


def test_plain_names() -> None:
    assert [plain_name(text) for text in ("Account ID", " MRR (€) ", "e-mail", "größe", "__x__")] == [
        "account_id",
        "mrr",
        "e_mail",
        "größe",
        "x",
    ]


def test_an_id_is_proposed_for_ids_only() -> None:
    """Fails: an export of tickets has `ticket_id`, and the message proposes it for `last_ticket_date`."""
    spec = {"columns": ["last_ticket_date", "desk_id"]}
    made = Contract.model_validate({"name": "p", "sources": {"crm": spec}}).sources[0]
    with pytest.raises(InputError) as caught:
        find_columns(made, ["customer_id", "ticket_id", "the_desk_id"], "crm.csv")
    assert "last_ticket_date the column" not in caught.value.finding
    assert "Is desk_id the column 'the_desk_id'?" in caught.value.finding
