"""Checks that block: they run on the file that is about to be published, and the last warehouse stays if one fails."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from etl_assets.engine.published.preview import MASK
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, CheckError
from etl_assets.project.contract import Contract
from etl_assets_tests.engine.steps.twelve_customers import build, leftovers, merge, restage
from etl_assets_tests.factory import query

SCORED = "SELECT customer_id, email, health_score FROM merged_profiles WHERE customer_id = 'cust_3'"


def with_checks(site: Site, statements: Mapping[str, str], **rules: Mapping[str, Any]) -> Site:
    """The site with checks of the project's own; `rules` says what is declared of them, by name."""
    declared = site.contract.model_dump(by_alias=True, exclude_defaults=True)
    contract = Contract.model_validate(declared | {"checks": rules})
    return replace(site, project=replace(site.project, contract=contract, checks=statements))


def refused(site: Site) -> CheckError:
    """The error of a merge that publishes nothing and leaves nothing behind."""
    before = site.home.warehouse.read_bytes()
    with pytest.raises(CheckError) as caught:
        merge(site)
    assert site.home.warehouse.read_bytes() == before
    assert leftovers(site) == []
    return caught.value


def test_a_blocking_check_that_fails_keeps_the_last_warehouse(published: Site) -> None:
    """Fails: readers get rows that the project says must never be published."""
    error = refused(with_checks(published, {"mine": SCORED}, mine={"blocking": True}))
    assert error.finding.splitlines() == [
        "The project's checks keep the warehouse from being published; the last one stays.",
        f"  mine: 1 failing row, such as customer_id = cust_3, email = {MASK}, health_score = "
        f"{query(published.home.warehouse, SCORED)[0][2]}; see sql/checks/mine.sql",
    ]
    assert (error.subject, error.advice) == ("mine", ())


def test_every_check_in_the_way_is_named_at_once(published: Site) -> None:
    """A check that DuckDB refuses is in the way whether it blocks or not: no one would know what it found."""
    statements = {
        "one": "SELECT customer_id FROM merged_profiles",
        "other": "SELECT source FROM source_snapshots WHERE rows_quarantined > 0",
        "fine": "SELECT 1 WHERE false",
        "red": "SELECT 1",
        "unbound": "SELECT nothing FROM merged_profiles",
    }
    blocking = {"blocking": True}
    error = refused(with_checks(published, statements, one=blocking, other=blocking, fine=blocking))
    lines = error.finding.splitlines()[1:]
    assert [line.split(":")[0].strip() for line in lines] == ["unbound", "one", "other"]
    assert lines[2].endswith("2 failing rows, such as source = billing; see sql/checks/other.sql")
    assert error.advice == (Advice(Action.EDIT, value="sql/checks/unbound.sql"),)


def test_checks_that_pass_or_do_not_block_keep_nothing_back(published: Site) -> None:
    rules: dict[str, dict[str, Any]] = {"fine": {"blocking": True}, "warned": {"severity": "warn"}}
    statements = {"fine": "SELECT 1 WHERE false", "red": "SELECT 1", "warned": "SELECT 1"}
    site = with_checks(published, statements, **rules)
    assert merge(site, run_id="checked").publication.run_id == "checked"
    assert query(site.home.warehouse, "SELECT run_id FROM publication") == [("checked",)]


@pytest.mark.parametrize("table", ["publication", "quarantine", "source_snapshots", "shard_manifest", "crm"])
def test_a_blocking_check_sees_all_that_is_about_to_be_published(published: Site, table: str) -> None:
    assert "failing row" in refused(with_checks(published, {"mine": f"FROM {table}"}, mine={"blocking": True})).finding


def test_it_sees_the_new_rows_and_not_those_that_are_published(published: Site, tmp_path: Any) -> None:
    """Fails: yesterday's rows are checked, and today's are published."""
    restage(published, tmp_path / "changed", company_name="Wrong Ltd")
    build(published, *published.shard_ids)
    statement = "SELECT customer_id FROM merged_profiles WHERE company_name = 'Wrong Ltd'"
    assert query(published.home.warehouse, statement) == []
    assert (
        "customer_id = cust_0" in refused(with_checks(published, {"mine": statement}, mine={"blocking": True})).finding
    )


def test_a_check_cannot_change_what_is_published(published: Site) -> None:
    """DuckDB has queries that delete rows."""
    text = "WITH gone AS (DELETE FROM merged_profiles RETURNING *) SELECT * FROM gone"
    assert "DuckDB refuses sql/checks/mine.sql" in refused(with_checks(published, {"mine": text})).finding
    count = query(published.home.warehouse, "SELECT count(*) FROM merged_profiles")
    merge(with_checks(published, {"mine": "SELECT 1 WHERE false"}))
    assert query(published.home.warehouse, "SELECT count(*) FROM merged_profiles") == count


def test_a_merge_that_keeps_rows_is_held_back_too(many: Site, copied: list[list[str]]) -> None:
    """Fails: the check counts as a fault of the rows that were kept, and everything is merged again before it fails."""
    copied.clear()
    build(many, "shard_03")
    site = with_checks(many, {"mine": SCORED}, mine={"blocking": True})
    assert "mine: 1 failing row" in refused(site).finding
    assert copied == [["shard_03"]]
