"""The words of checks in `etl_assets.yaml`: what they declare, which mistakes are named, and that no shard is stale."""

from pathlib import Path

import pytest

from etl_assets.errors import ConfigError
from etl_assets.project.column_checks import column_checks
from etl_assets.project.loading import load_project
from etl_assets.project.severity import CheckRule, Severity
from etl_assets.project.version import project_version, source_version
from etl_assets_tests.project.conftest import CONTRACT, Finding, write_project

# Lines 6 to 14.
WORDS = (
    CONTRACT.replace("{pii: true}", "{pii: true, unique: true}")
    + """\
  tickets:
    columns:
      contact: {relationships: {to: crm, column: email}}
      account: {relationships: {to: crm}}
profile:
  email: {unique: true}
checks:
  unique_email: {blocking: true}
  mine: {severity: warn, description: Mine.}
"""
)


def test_words_on_columns_are_checks_of_the_warehouse(tmp_path: Path) -> None:
    contract = load_project(write_project(tmp_path, WORDS, checks__mine="SELECT 1")).contract
    assert [check.name for check in column_checks(contract)] == [
        *("unique_email", "unique_crm__email"),
        *("relationships_tickets__contact", "relationships_tickets__account"),
    ]
    assert contract.rule_of("unique_email") == CheckRule(name="unique_email", blocking=True)
    assert contract.rule_of("mine").severity is Severity.WARN
    assert contract.rule_of("unique_crm__email") == CheckRule(name="unique_crm__email")


def test_words_of_checks_make_no_shard_stale(tmp_path: Path) -> None:
    """Fails: who adds a check, or makes it a warning, builds every shard again."""
    plain = CONTRACT + "  tickets: {columns: [contact, account]}\nprofile:\n  email: {}\n"
    with_words = load_project(write_project(tmp_path / "a", WORDS, checks__mine="SELECT 1")).contract
    without = load_project(write_project(tmp_path / "b", plain)).contract
    assert project_version(with_words, {}) == project_version(without, {})
    assert [source_version(one) for one in with_words.sources] == [source_version(one) for one in without.sources]


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        (
            "to: crm}",
            "to: crn}",
            "line 9: sources.tickets.columns.account.relationships.to: crn is not among the sources",
        ),
        (
            "column: email",
            "column: mail",
            "line 8: sources.tickets.columns.contact.relationships.column: mail is not among the columns of crm",
        ),
        (
            "contact: {",
            "contact: {type: int, ",
            "line 8: sources.tickets.columns.contact.relationships: email of crm is of type text, contact of type int",
        ),
        (
            "{to: crm}",
            "{too: crm}",
            "line 9: sources.tickets.columns.account.relationships.too: unknown word; did you mean 'to'?",
        ),
        (
            "mine: {severity",
            "mine: {severty",
            "line 14: checks.mine.severty: unknown word; did you mean 'severity'?",
        ),
        (
            "severity: warn",
            "severity: warning",
            "line 14: checks.mine.severity: expected 'warn' or 'error', found 'warning'",
        ),
        (
            "severity: warn",
            "severity: warn, blocking: true",
            "line 14: checks.mine: a check that only warns cannot block: leave out blocking, or write severity: error",
        ),
        (
            "mine: {severity",
            "minne: {severity",
            "line 14: checks.minne: no check is called minne; did you mean 'mine'?",
        ),
        (
            "  unique_email:",
            "  customers_unique:",
            "line 13: checks.customers_unique: no check is called customers_unique; known are mine, unique_email, "
            "unique_crm__email, relationships_tickets__contact, relationships_tickets__account",
        ),
        (
            "email: {unique",
            "email: {not_null",
            "line 11: profile.email.not_null: unknown word; did you mean 'required'?",
        ),
        (
            "email: {unique: true}",
            "email: {accepted_values: [a], unique: true}",
            "line 11: profile.email.accepted_values: unknown word; did you mean 'values'?",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, before: str, after: str, finding: str) -> None:
    """Fails: a severity that someone declared is never used, because a word or a name is misspelt."""
    head, found, tail = WORDS.rpartition(before)
    assert found
    write_project(tmp_path, head + after + tail, checks__mine="SELECT 1")
    with pytest.raises(ConfigError) as caught:
        load_project(tmp_path)
    assert finding in [line.strip() for line in str(caught.value).splitlines()]


def test_every_check_that_does_not_exist_is_named(findings_in: Finding) -> None:
    assert findings_in(CONTRACT + "checks:\n  one: {}\n  two: {}\n") == [
        "line 7: checks.one: no check is called one; known are none",
        "line 8: checks.two: no check is called two; known are none",
    ]


def test_the_name_of_a_file_is_one_that_a_check_may_have(tmp_path: Path) -> None:
    """Fails: Dagster ends with an error of its own, which names no file."""
    write_project(tmp_path, checks__ok_1="SELECT 1")
    (tmp_path / "sql" / "checks" / "not-ok.sql").write_text("SELECT 1")
    with pytest.raises(ConfigError, match=r"rename .*/sql/checks/not-ok\.sql\."):
        load_project(tmp_path)
