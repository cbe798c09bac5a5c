"""Checks of a project's own: their rows are failures, counted and shown masked, and a bad statement is named."""

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import checks, holding
from etl_assets.engine.published.checks import Check, Finding
from etl_assets.engine.published.failing_rows import ROWS_SHOWN, FailingRows
from etl_assets.engine.published.preview import MASK
from etl_assets.errors import ConfigError, SourceChangedError
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets.project.severity import Severity
from etl_assets_tests.factory import LIMITS, PROJECT, alter, row, run_engine, site_at, write_exports

SECRET = "ada@secret.example"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with customers a to h, an invalid row of billing, and staged sources; no test changes it."""
    folder = tmp_path_factory.mktemp("made")
    write_exports(
        folder / "sources",
        crm=[row(name, email=SECRET, company_name=f"Company {name}") for name in "abcdefgh"],
        billing=[row("a", plan="gold"), row("b", plan="iron"), row("", plan="gold")],
        product=[row("z")],
    )
    run_engine(folder / "sources", site_at(Home(folder / "home")))
    return folder / "home"


@pytest.fixture
def copied(made: Path, home: Home) -> Home:
    shutil.copytree(made, home.root)
    return home


def own(*, checks_of: dict[str, str] | None = None, **changes: Any) -> Project:
    """The tests' project with SQL checks, and with changes of its contract."""
    declared = {**PROJECT.contract.model_dump(by_alias=True, exclude_defaults=True), **changes}
    return replace(PROJECT, contract=Contract.model_validate(declared), checks=checks_of or {})


def with_word(source: str, column: str, **words: Any) -> list[dict[str, Any]]:
    """The tests' sources with words on one column."""
    found = PROJECT.contract.model_dump(by_alias=True, exclude_defaults=True)["sources"]
    for one in found:
        for declared in one["columns"]:
            if (one["name"], declared["name"]) == (source, column):
                declared.update(words)
    return list(found)


def findings(home: Home, project: Project) -> dict[str, Finding]:
    found = [check for check in checks.warehouse_checks(project) if check.file]
    return {finding.name: finding for finding in checks.check_warehouse(site_at(home, 3, project), LIMITS, found)}


def finding_of(home: Home, statement: str) -> Finding:
    return findings(home, own(checks_of={"mine": statement}))["mine"]


def test_no_row_is_passed_and_the_comment_is_the_description(copied: Home) -> None:
    """Fails: a file in `sql/checks/` is never looked at."""
    text = "-- No company is called like\n-- its customer.\nFROM merged_profiles WHERE company_name = customer_id;"
    project = own(checks_of={"no_namesakes": text})
    assert checks.warehouse_checks(project)[-1] == Check(
        "no_namesakes", "No company is called like its customer.", text, "sql/checks/no_namesakes.sql"
    )
    assert findings(copied, project)["no_namesakes"] == Finding(
        "no_namesakes", True, {"failing_rows": 0}, failing=FailingRows(0)
    )
    alter(copied.warehouse, "UPDATE merged_profiles SET company_name = customer_id WHERE customer_id < 'c'")
    found = findings(copied, project)["no_namesakes"]
    assert (found.passed, found.facts) == (False, {"failing_rows": 2})


def test_the_first_rows_are_shown_in_order_and_all_are_counted(made: Path) -> None:
    found = finding_of(Home(made), "SELECT customer_id, health_score FROM merged_profiles WHERE customer_id < 'z'")
    assert found.failing is not None
    assert (found.facts, found.failing.count) == ({"failing_rows": 8}, 8)
    assert found.failing.columns == ("customer_id", "health_score")
    assert [cells[0] for cells in found.failing.rows] == list("abcde")
    assert len(found.failing.rows) == ROWS_SHOWN


def test_only_the_sources_that_a_check_names_are_held(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails: a check of the warehouse waits for, or fails with, a source that it does not read."""
    found: list[str] = []
    real = holding.hold

    def hold(home: Home, source: str, folder: str, holder: contextlib.ExitStack) -> None:
        found.append(source)
        real(home, source, folder, holder)

    monkeypatch.setattr(holding, "hold", hold)
    assert finding_of(Home(made), "FROM merged_profiles WHERE customer_id IS NULL").passed
    assert found == []
    assert finding_of(Home(made), "FROM Billing ANTI JOIN crm USING (customer_id)").passed
    assert found == ["billing", "crm"]


@pytest.mark.parametrize(("times", "is_found"), [(4, True), (5, False)])
def test_a_source_that_is_staged_meanwhile_is_looked_up_again(
    made: Path, monkeypatch: pytest.MonkeyPatch, times: int, is_found: bool
) -> None:
    """Fails: sources that are staged while the warehouse is checked end the run in an error."""
    looks: list[str] = []
    real = holding.hold

    def hold(home: Home, source: str, folder: str, holder: contextlib.ExitStack) -> None:
        looks.append(source)
        if len(looks) <= times:
            raise SourceChangedError("gone", subject=source)
        real(home, source, folder, holder)

    monkeypatch.setattr(holding, "hold", hold)
    statement = "FROM billing ANTI JOIN crm USING (customer_id)"
    if is_found:
        assert finding_of(Home(made), statement).passed
        return
    with pytest.raises(SourceChangedError):
        finding_of(Home(made), statement)


@pytest.mark.parametrize(
    "selected",
    [
        "email",
        "EMAIL",
        "email AS contact",
        "lower(email)",
        "[email]",
        "{'e': email}",
        "email, email",
        "email::BLOB AS bytes",
        "upper(email) AS customer",
    ],
)
def test_personal_data_is_masked_whatever_it_is_called(made: Path, selected: str) -> None:
    """Fails: an address stays in Dagster's event store for ever, because a query gave it another name."""
    found = finding_of(Home(made), f"SELECT customer_id, {selected}, health_score FROM merged_profiles")
    assert found.failing is not None
    cells = found.failing.rows[0]
    assert (cells[0], set(cells[1:-1])) == ("a", {MASK})
    assert isinstance(cells[-1], int)
    assert "secret" not in str(found).lower()


def test_the_raw_text_of_quarantine_is_masked_and_missing_values_are_not(made: Path) -> None:
    found = finding_of(Home(made), "SELECT source, reason, raw_text, customer_id FROM quarantine")
    assert found.failing is not None
    assert found.failing.rows == (("billing", "missing_customer_id", MASK, None),)


def test_a_project_without_personal_data_shows_every_column(made: Path) -> None:
    sources = with_word("crm", "email", pii=False)
    for source in sources:
        for column in source["columns"]:
            column.pop("pii", None)
    project = own(checks_of={"mine": "SELECT email AS contact FROM merged_profiles"}, sources=sources, profile=[])
    found = findings(Home(made), project)["mine"]
    assert found.failing is not None
    assert found.failing.rows[1] == (SECRET,)


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("SELECT * FROM quarantine", 1),
        ("SELECT source FROM source_snapshots WHERE rows_quarantined > 0.2 * rows_in", 1),
        ("SELECT * FROM publication WHERE is_partial", 0),
        ("SELECT plan FROM billing WHERE plan NOT IN ('gold')", 1),
        ("FROM billing ANTI JOIN crm USING (customer_id)", 0),
        ("FROM product ANTI JOIN crm USING (customer_id)", 1),
        ("WITH few AS (SELECT * FROM shard_manifest) SELECT * FROM few WHERE record_count < 0 -- none", 0),
    ],
)
def test_a_check_reads_every_table_and_the_accepted_rows_of_each_source(made: Path, statement: str, count: int) -> None:
    assert finding_of(Home(made), statement).facts == {"failing_rows": count}


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("SELECT nothing_of_the_kind FROM merged_profiles", "nothing_of_the_kind"),
        ("SELEC 1", "syntax error"),
        ("", "expected one SELECT"),
        ("-- Only words.", "expected one SELECT"),
        ("SELECT 1; SELECT 2", "expected one SELECT"),
        ("UPDATE merged_profiles SET health_score = 1", "expected one SELECT"),
        ("DROP TABLE merged_profiles", "expected one SELECT"),
        ("SET threads = 1", "expected one SELECT"),
        ("COPY merged_profiles TO 'x.csv'", "expected one SELECT"),
        ("WITH gone AS (DELETE FROM merged_profiles RETURNING *) SELECT * FROM gone", ""),
        ("SELECT 1) ; DROP TABLE merged_profiles; --", "syntax error"),
        ("SELECT * FROM read_csv('/etc/hostname')", "file system operations are disabled"),
        ("SELECT * FROM read_text('../*')", "file system operations are disabled"),
        ("SELECT * FROM '/etc/hostname'", "does not exist"),
        ("SELECT company_name::INTEGER AS n FROM merged_profiles WHERE n > 1", f"Could not convert string '{MASK}'"),
    ],
)
def test_a_statement_that_is_no_sound_query_has_failed_and_says_why(made: Path, statement: str, why: str) -> None:
    """Fails: a check that never ran is green, or takes the other checks with it."""
    before = Home(made).warehouse.read_bytes()
    project = own(
        checks_of={"fine": "SELECT 1 WHERE false", "mine": statement}, checks=[{"name": "mine", "severity": "warn"}]
    )
    found = findings(Home(made), project)
    assert found["fine"].passed
    assert (found["mine"].passed, found["mine"].severity) == (False, Severity.ERROR)
    assert found["mine"].error.startswith("DuckDB refuses sql/checks/mine.sql (")
    assert why in found["mine"].error
    assert "Company" not in found["mine"].error
    assert Home(made).warehouse.read_bytes() == before


def test_severity_and_description_are_those_that_the_contract_declares(made: Path) -> None:
    project = own(
        checks_of={"mine": "-- Words of the file.\nSELECT 1"},
        checks=[{"name": "mine", "severity": "warn", "description": "Words of the contract."}],
    )
    (check,) = [check for check in checks.warehouse_checks(project) if check.name == "mine"]
    assert (check.severity, check.description, check.is_blocking) == (Severity.WARN, "Words of the contract.", False)
    assert findings(Home(made), project)["mine"].severity is Severity.WARN


def test_two_checks_of_one_name_are_refused() -> None:
    """Fails: Dagster ends with an error of its own, which names no file."""
    with pytest.raises(
        ConfigError, match=r"Two checks are called customers_unique; .* sql/checks/customers_unique\.sql"
    ):
        checks.warehouse_checks(own(checks_of={"customers_unique": "SELECT 1"}))


def test_a_unique_column_of_the_profile_has_no_value_twice(made: Path) -> None:
    project = own(profile=[{"name": "company_name", "unique": True}, {"name": "industry", "unique": True}])
    found = findings(Home(made), project)
    assert found["unique_company_name"].passed
    assert found["unique_industry"].failing == FailingRows(1, ("industry", "occurrences"), (("Software", 8),))


def test_a_unique_column_of_a_source_is_checked_on_its_accepted_rows(copied: Home) -> None:
    """Null may be there twice."""
    found = findings(copied, own(sources=with_word("billing", "plan", unique=True)))
    assert found["unique_billing__plan"].passed
    found = findings(copied, own(sources=with_word("crm", "industry", unique=True)))
    assert found["unique_crm__industry"].facts == {"failing_rows": 1}


@pytest.mark.parametrize(
    ("to", "column", "count"), [("crm", "", 1), ("billing", "plan", 8), ("product", "customer_id", 8)]
)
def test_each_value_of_a_column_occurs_in_the_source_that_it_relates_to(
    copied: Home, to: str, column: str, count: int
) -> None:
    """Plans are gold and iron; the profile's email is set to ids, of which crm has all but z."""
    alter(copied.warehouse, "UPDATE merged_profiles SET email = customer_id")
    alter(copied.warehouse, "UPDATE merged_profiles SET email = 'gold' WHERE customer_id = 'z'")
    found = findings(copied, own(profile=[{"name": "email", "relationships": {"to": to, "column": column}}]))
    assert found["relationships_email"].facts == {"failing_rows": count if to != "product" else 9}


def test_a_relationship_between_sources_names_the_rows_that_break_it(made: Path) -> None:
    sources = with_word("billing", "plan", relationships={"to": "crm", "column": "industry"})
    found = findings(Home(made), own(sources=sources))["relationships_billing__plan"]
    assert found.failing == FailingRows(2, ("customer_id", "plan"), (("a", "gold"), ("b", "iron")))
    assert finding_description(own(sources=sources)) == "Each plan in rows of Billing is a industry of CRM."


def finding_description(project: Project) -> str:
    return next(check.description for check in checks.warehouse_checks(project) if check.name.startswith("relation"))
