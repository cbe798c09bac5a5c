"""A bad cell costs its cell: the record stays, the quarantine has the cell, and the profile says what it lacks."""

from pathlib import Path
from typing import Any

import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.checks import check_warehouse, recount_source, warehouse_checks
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.site import Site
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.errors import ProfileError, RejectRatioError
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project
from etl_assets_tests import factory

FLAT = """SELECT base.client, crm.age, crm.level, web.visits, base.sources, base.issues, base.shard_id,
    base.idempotency_key FROM clients"""
# The same with a word that keeps it from being read over the joined slices directly.
STRUCTS = f"WITH everyone AS (SELECT * FROM clients) {FLAT.replace('FROM clients', 'FROM everyone')}"
CRM: dict[str, Any] = {
    "columns": {
        "age": {"type": "int", "min": 0, "max": 120},
        "level": {"values": ["LOW", "HIGH"]},
        "code": {"pattern": "[A-Z]{2}[0-9]+"},
        "born": {"type": "date", "on_invalid": "reject_row"},
    }
}
WEB = {"columns": {"visits": {"type": "int", "required": True}}}


def site_of(root: Path, profiles: str = FLAT, *, crm: dict[str, Any] = CRM, shard_count: int = 3) -> Site:
    contract = {
        "name": "people",
        "entity": "clients",
        "key": {"name": "client", "max_chars": 5},
        "sources": {"crm": crm, "web": WEB},
    }
    return Site(Project(Contract.model_validate(contract), profiles), Home(root / "home"), shard_count)


def exports(root: Path, crm: str, web: str = "client,visits\n") -> Path:
    folder = root / "exports"
    folder.mkdir(exist_ok=True)
    (folder / "crm.csv").write_text(f"client,age,level,code,born\n{crm}")
    (folder / "web.csv").write_text(web)
    return folder


def profiles(site: Site) -> dict[str, tuple[Any, ...]]:
    rows = factory.query(site.home.warehouse, "SELECT client, age, level, visits, issues FROM merged_profiles")
    return {row[0]: row[1:] for row in rows}


def quarantine(site: Site) -> list[tuple[Any, ...]]:
    return factory.query(
        site.home.warehouse,
        "SELECT source, line_number, client, reason, cell, raw_text FROM quarantine ORDER BY ALL",
    )


@pytest.mark.parametrize("form", [FLAT, STRUCTS])
def test_a_bad_cell_is_null_listed_and_told(tmp_path: Path, form: str) -> None:
    """Fails: a remark in one cell costs the customer the whole record, or is not reported."""
    crm = "a,soon,LOW,AB1,\nb,121,MEDIUM,x,\nc,30,HIGH,,\nd,,,,\n"
    site = site_of(tmp_path, form)
    factory.run_engine(exports(tmp_path, crm), site)
    assert profiles(site) == {
        "a": (None, "LOW", None, ["crm.age"]),
        "b": (None, None, None, ["crm.age", "crm.level", "crm.code"]),
        "c": (30, "HIGH", None, []),
        "d": (None, None, None, []),
    }
    assert quarantine(site) == [
        ("crm", 2, "a", "invalid:age", "soon", "a,soon,LOW,AB1,"),
        ("crm", 3, "b", "invalid:age", "121", "b,121,MEDIUM,x,"),
        ("crm", 3, "b", "invalid:code", "x", "b,121,MEDIUM,x,"),
        ("crm", 3, "b", "invalid:level", "MEDIUM", "b,121,MEDIUM,x,"),
    ]
    snapshot = current_snapshots(site)["crm"]
    assert (snapshot.rows_in, snapshot.rows_accepted, snapshot.rows_quarantined) == (4, 4, 0)
    assert snapshot.cell_reasons == {"invalid:age": 2, "invalid:code": 1, "invalid:level": 1}


@pytest.mark.parametrize("form", [FLAT, STRUCTS])
def test_a_rejected_row_is_told_by_the_profile_of_its_key(tmp_path: Path, form: str) -> None:
    """Fails: an older row, or none, stands in for the rejected one, and the profile looks sound."""
    crm = "a,1,LOW,AB1,\na,2,LOW,AB1,31.31.2026\nb,3,HIGH,AB1,never\n"
    site = site_of(tmp_path, form)
    factory.run_engine(exports(tmp_path, crm, "client,visits\nb,1\nc,x\nc,\n"), site)
    assert profiles(site) == {"a": (1, "LOW", None, ["crm: row rejected"]), "b": (None, None, 1, ["crm: row rejected"])}
    assert [row[3] for row in quarantine(site)] == ["invalid:born", "invalid:born", "invalid:visits", "missing:visits"]


def test_keys_that_no_profile_can_have_mark_none(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    factory.run_engine(exports(tmp_path, "a,1,LOW,AB1,\ntoo_long,1,LOW,AB1,\n,1,LOW,AB1,\n"), site)
    assert profiles(site) == {"a": (1, "LOW", None, [])}


def test_issues_of_a_superseded_row_are_not_those_of_the_profile(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    factory.run_engine(exports(tmp_path, "a,x,LOW,AB1,\na,5,LOW,AB1,\n"), site)
    assert profiles(site) == {"a": (5, "LOW", None, [])}
    assert [(row[3], row[4]) for row in quarantine(site)] == [("superseded", None)]


def test_another_issue_makes_the_shard_stale(tmp_path: Path) -> None:
    """Fails: a cell that was empty and is wrong now is the same null, and the old profile stays without its mark."""
    site = site_of(tmp_path, shard_count=1)
    factory.run_engine(exports(tmp_path, "a,,LOW,AB1,\n", "client,visits\nb,1\n"), site)
    before = factory.input_of(site, "shard_00").source_data_hash
    request = factory.staging_request(exports(tmp_path, "a,x,LOW,AB1,\n", "client,visits\nb,1\n"), site)
    factory.stage_all(request)
    with_cell = factory.input_of(site, "shard_00").source_data_hash
    factory.stage_all(factory.staging_request(exports(tmp_path, "a,,LOW,AB1,\n", "client,visits\nb,1\nb,x\n"), site))
    with_row = factory.input_of(site, "shard_00").source_data_hash
    assert len({before, with_cell, with_row}) == 3


def test_a_column_that_is_misread_stops_the_source(tmp_path: Path) -> None:
    """Fails: every date in another form becomes null, and the run says that all is well."""
    site = site_of(tmp_path)
    sources = exports(tmp_path, "".join(f"{n},x,LOW,AB1,\n" for n in range(20)))
    with pytest.raises(RejectRatioError, match=r"100\.0% of 20 rows broke the contract, .*invalid:age 20 cells"):
        factory.stage_all(factory.staging_request(sources, site, max_reject_ratio=0.05))


def test_checks_count_rows_and_cells(tmp_path: Path) -> None:
    site = site_of(tmp_path)
    factory.run_engine(exports(tmp_path, "a,x,NO,AB1,\n,1,LOW,AB1,\nb,1,LOW,AB1,bad\n"), site)
    snapshot = current_snapshots(site)["crm"]
    assert recount_source(site.home, snapshot).passed
    findings = check_warehouse(site, factory.LIMITS, warehouse_checks(site.project))
    assert all(finding.passed for finding in findings)
    accounts = next(finding for finding in findings if finding.name == "accounting_closed")
    assert (accounts.facts["rows_quarantined"], accounts.facts["cells_quarantined"]) == (2, 2)
    factory.alter(site.home.warehouse, "DELETE FROM quarantine WHERE cell = 'x'")
    broken = check_warehouse(site, factory.LIMITS, warehouse_checks(site.project))
    assert [finding.name for finding in broken if not finding.passed] == ["accounting_closed"]


def test_profiles_must_say_what_they_lack(tmp_path: Path) -> None:
    """Fails: a project leaves out the issues, and profiles look sound that are not."""
    silent = FLAT.replace("base.issues, ", "")
    with pytest.raises(ProfileError, match=r"does not select base\.issues"):
        factory.run_engine(exports(tmp_path, "a,1,LOW,AB1,\n"), site_of(tmp_path, silent))


def test_without_cells_to_lose_issues_may_be_left_out(tmp_path: Path) -> None:
    silent = FLAT.replace("base.issues, ", "")
    strict = {**CRM, "on_invalid": "reject_row"}
    columns = {name: {**column, "on_invalid": "reject_row"} for name, column in CRM["columns"].items()}
    site = site_of(tmp_path, silent, crm={**strict, "columns": columns})
    factory.stage_all(factory.staging_request(exports(tmp_path, "a,x,LOW,AB1,\nb,1,LOW,AB1,\n"), site))
    for shard_id in site.shard_ids:
        factory.build_shard(site, factory.input_of(site, shard_id))
    assert merge_shards(site, factory.LIMITS, run_id="run").publication.record_count == 1
