"""The checks on finished work: sound work passes each, and fails on the defect that it is meant for."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import duckdb
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import checks
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.sql_text import literal
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets_tests.factory import (
    LIMITS,
    PROJECT,
    alter,
    row,
    run_engine,
    site_at,
    stage_all,
    staging_request,
    write_exports,
)

CHECKS = checks.warehouse_checks(PROJECT)

NAMES = (
    "accounting_closed",
    "count_equals_shards",
    "customers_unique",
    "keys_unique_and_not_null",
    "nothing_unusual",
    "profiles_as_declared",
)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound warehouse: customers a to f, two rejected rows and one that a later row replaced."""
    folder = tmp_path_factory.mktemp("sound")
    write_exports(
        folder / "sources",
        crm=[row(name) for name in "abcdef"] + [row("")],
        billing=[row("d", mrr="a lot"), row("a")],
        support=[row("a"), row("a", nps_score="3")],
    )
    run_engine(folder / "sources", site_at(Home(folder / "home")))
    return Home(folder / "home").warehouse


@pytest.fixture
def copied(sound: Path, home: Home) -> Home:
    """A home whose warehouse may be broken."""
    home.root.mkdir()
    shutil.copy(sound, home.warehouse)
    return home


def test_a_sound_warehouse_passes_every_check(copied: Home) -> None:
    findings = checks.check_warehouse(site_at(copied), LIMITS, CHECKS)
    assert {finding.name: finding.passed for finding in findings} == dict.fromkeys(NAMES, True)
    facts: dict[str, Mapping[str, int]] = {finding.name: finding.facts for finding in findings}
    assert facts["accounting_closed"] == {
        "source_count": 4,
        "rows_in": 11,
        "rows_accepted": 8,
        "rows_quarantined": 3,
        "cells_quarantined": 0,
        "sources_not_closed": 0,
    }
    assert facts["count_equals_shards"] == {"record_count": 6, "shard_record_count": 6, "duplicates_dropped": 0}


@pytest.mark.parametrize(
    ("failing", "statement"),
    [
        ({"keys_unique_and_not_null"}, "UPDATE merged_profiles SET idempotency_key = NULL WHERE customer_id = 'a'"),
        ({"keys_unique_and_not_null"}, "UPDATE merged_profiles SET idempotency_key = 'k' WHERE customer_id < 'c'"),
        ({"customers_unique"}, "UPDATE merged_profiles SET customer_id = 'a' WHERE customer_id = 'b'"),
        (
            {"customers_unique", "keys_unique_and_not_null", "count_equals_shards"},
            "INSERT INTO merged_profiles SELECT * FROM merged_profiles WHERE customer_id = 'a'",
        ),
        ({"profiles_as_declared"}, "UPDATE merged_profiles SET health_score = 101 WHERE customer_id = 'a'"),
        ({"profiles_as_declared"}, "UPDATE merged_profiles SET health_score = NULL WHERE customer_id = 'a'"),
        ({"profiles_as_declared"}, "UPDATE merged_profiles SET churn_risk = NULL WHERE customer_id = 'a'"),
        ({"profiles_as_declared"}, "UPDATE merged_profiles SET churn_risk = 'low' WHERE customer_id = 'a'"),
        ({"profiles_as_declared"}, "UPDATE merged_profiles SET expansion_potential = 'huge' WHERE customer_id = 'a'"),
        ({"count_equals_shards"}, "DELETE FROM merged_profiles WHERE customer_id = 'a'"),
        ({"count_equals_shards"}, "UPDATE shard_manifest SET record_count = 9 WHERE shard_id = 'shard_00'"),
        ({"accounting_closed"}, "DELETE FROM quarantine WHERE reason = 'missing_customer_id'"),
        ({"accounting_closed"}, "UPDATE quarantine SET source = 'crm' WHERE source = 'billing'"),
        ({"accounting_closed"}, "UPDATE source_snapshots SET rows_in = rows_in + 1 WHERE source = 'product'"),
        ({"accounting_closed"}, "DELETE FROM source_snapshots"),
        ({"nothing_unusual"}, "INSERT INTO publication_notices VALUES ('rows', 'crm', 'Few rows.', '{}', true)"),
        (set(), "INSERT INTO publication_notices VALUES ('rows', 'crm', 'Some rows.', '{}', false)"),
    ],
)
def test_each_check_fails_on_its_own_defect(copied: Home, failing: set[str], statement: str) -> None:
    """A check that passes whatever the warehouse holds is decoration."""
    alter(copied.warehouse, statement)
    findings = checks.check_warehouse(site_at(copied), LIMITS, CHECKS)
    assert {finding.name for finding in findings if not finding.passed} == failing


def test_a_failed_check_says_how_many(copied: Home) -> None:
    alter(copied.warehouse, "UPDATE merged_profiles SET churn_risk = 'low' WHERE customer_id < 'c'")
    (finding,) = [finding for finding in checks.check_warehouse(site_at(copied), LIMITS, CHECKS) if not finding.passed]
    assert finding.facts == {"bad_health_score": 0, "bad_churn_risk": 2, "bad_expansion_potential": 0}


def test_a_warehouse_that_does_not_exist_cannot_pass(home: Home) -> None:
    """An empty folder would show five green checks."""
    with pytest.raises(duckdb.IOException, match=r"warehouse\.duckdb"):
        checks.check_warehouse(site_at(home), LIMITS, CHECKS)


def test_every_check_says_in_a_sentence_what_it_promises() -> None:
    """Fails: the UI shows a check's name alone, or SQL where a person expects words."""
    assert tuple(check.name for check in CHECKS) == NAMES
    for check in CHECKS:
        assert check.description.endswith(".")
        assert "--" not in check.description
        assert "{" not in check.description + check.statement
    declared = next(check for check in CHECKS if check.name == checks.PROMISES)
    assert all(name in declared.description for name in ("health_score", "churn_risk", "expansion_potential"))


def _project(profile: dict[str, object], **project_checks: str) -> Project:
    contract = Contract.model_validate(
        {
            "name": "staff",
            "entity": "people",
            "key": {"name": "person"},
            "sources": {"payroll": {"columns": ["team"]}},
            "profile": profile,
        }
    )
    return Project(contract, "SELECT * FROM people", checks=project_checks)


def test_checks_follow_the_contracts_entity_key_and_promises() -> None:
    """Fails: a project that is not about customers sees checks about customers."""
    found = checks.warehouse_checks(_project({"grade": {"type": "int", "min": 1}, "note": {"meaning": "Free text"}}))
    by_name = {check.name: check for check in found}
    assert list(by_name) == [
        *("accounting_closed", "count_equals_shards", "people_unique", "keys_unique_and_not_null"),
        *("nothing_unusual", "profiles_as_declared"),
    ]
    assert 'count(DISTINCT "person")' in by_name["people_unique"].statement
    promised = by_name["profiles_as_declared"]
    assert "grade" in promised.statement
    assert "note" not in promised.statement + promised.description
    assert "customer" not in " ".join(check.statement + check.description for check in found)


def test_a_contract_without_promises_has_no_check_of_them() -> None:
    """Fails: a project that declares no ranges gets a check that is not SQL."""
    assert checks.PROMISES not in [check.name for check in checks.warehouse_checks(_project({"note": {}}))]


@pytest.fixture
def staged(sources: Path, home: Home) -> Snapshot:
    """Crm with six accepted rows and two rejected ones."""
    write_exports(sources, crm=[row(name) for name in "abcdef"] + [row(""), row("")])
    return stage_all(staging_request(sources, site_at(home)))["crm"]


def test_a_recount_counts_the_files_and_not_what_the_snapshot_says(home: Home, staged: Snapshot) -> None:
    finding = checks.recount_source(home, staged)
    assert (finding.name, finding.passed) == ("accounting_closed", True)
    assert finding.facts == {"rows_in": 8, "rows_accepted": 6, "rows_quarantined": 2, "cells_quarantined": 0}


def _cut(path: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE kept AS SELECT * FROM read_parquet('{path}') OFFSET 1")
        connection.execute(f"COPY kept TO {literal(str(path))} (FORMAT parquet)")


@pytest.mark.parametrize(("what", "accepted", "quarantined"), [("slice", 5, 2), ("quarantine", 6, 1)])
def test_a_recount_notices_a_lost_row(home: Home, staged: Snapshot, what: str, accepted: int, quarantined: int) -> None:
    """Fails: a customer vanishes between staging and the shards, and no check notices."""
    folder = home.snapshot("crm", staged.folder)
    full = next(part.shard_id for part in staged.slices if part.record_count)
    _cut(folder / f"{full if what == 'slice' else 'quarantine'}.parquet")
    finding = checks.recount_source(home, staged)
    assert not finding.passed
    counts = {"rows_in": 8, "rows_accepted": accepted, "rows_quarantined": quarantined, "cells_quarantined": 0}
    assert finding.facts == counts


def test_a_recount_notices_a_lost_slice(home: Home, staged: Snapshot) -> None:
    full = next(part for part in staged.slices if part.record_count)
    (home.snapshot("crm", staged.folder) / f"{full.shard_id}.parquet").unlink()
    finding = checks.recount_source(home, staged)
    assert not finding.passed
    assert finding.facts["rows_accepted"] == 6 - full.record_count
