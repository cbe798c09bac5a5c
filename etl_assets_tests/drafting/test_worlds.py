"""`init --from`, `check`, `run` and `query` on exports that no one prepared: nothing is edited in between."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from etl_assets.drafting.draft import draft_project
from etl_assets.drafting.folder import write_draft
from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets.pipeline.inspection import inspect
from etl_assets.project.loading import load_project
from etl_assets.project.settings import load_settings
from etl_assets_tests.drafting.worlds import KEY_COUNTS, WORLDS
from etl_assets_tests.factory import LIMITS, query, run_engine


class World(NamedTuple):
    """A world's project as it was drafted, and its warehouse."""

    site: Site
    exports: Path
    mistakes: list[str]
    record_count: int

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query over the warehouse."""
        return query(self.site.home.warehouse, statement)


def _published(folder: Path, make: Callable[[Path], Path]) -> World:
    exports = make(folder / "exports")
    (folder / "scratch").mkdir()
    write_draft(folder / "my360", draft_project(exports, folder / "scratch", LIMITS), exports)
    site = Site(load_project(folder / "my360"), Home(folder / "my360" / "data"), 2)
    settings = load_settings({}, folder / "my360")
    assert settings.sources == exports
    mistakes = [mistake.text for mistake in inspect(site, settings).mistakes]
    return World(site, exports, mistakes, run_engine(exports, site).publication.record_count)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """Every world, drafted and published without anything edited in between."""
    return {name: _published(tmp_path_factory.mktemp(name), make) for name, make in WORLDS.items()}


@pytest.mark.parametrize("name", WORLDS)
def test_a_draft_publishes_every_customer_as_it_is(worlds: dict[str, World], name: str) -> None:
    """Fails: a stranger with exports of their own must edit a file before there is a warehouse."""
    world = worlds[name]
    assert world.mistakes == []
    assert world.record_count == KEY_COUNTS[name]
    # What the draft declares is what is in the files: no cell is invalid.
    assert world.query("SELECT count(*) FROM quarantine WHERE cell IS NOT NULL") == [(0,)]
    assert world.query("SELECT count(*) FROM merged_profiles WHERE len(issues) > 0") == [(0,)]


def test_accounts_subscriptions_and_tickets_meet_in_the_address_whatever_its_case(worlds: dict[str, World]) -> None:
    world = worlds["american_accounts"]
    contract = world.site.contract
    assert (contract.key.name, contract.key.case) == ("email", "lower")
    types = {f"{source.name}.{one.name}": one.duckdb for source in contract.sources for one in source.columns}
    assert {name: kind for name, kind in types.items() if kind != "VARCHAR"} == {
        "accounts.annual_revenue": "DECIMAL(18,2)",
        "accounts.employees": "BIGINT",
        "accounts.active": "BOOLEAN",
        "accounts.created_date": "DATE",
        "subscriptions.quantity": "BIGINT",
        "subscriptions.amount": "DECIMAL(18,2)",
        "subscriptions.created_utc": "TIMESTAMP",
        "subscriptions.canceled_at_utc": "TIMESTAMP",
        "tickets.created_at": "TIMESTAMP",
        "tickets.hours_to_solve": "DOUBLE",
        "tickets.satisfaction_score": "BIGINT",
    }
    assert [source.row_key for source in contract.sources] == [(), ("id",), ("ticket_id",)]
    totals = world.query(
        "SELECT sum(subscriptions_count), sum(tickets_count), count(*) FILTER (len(sources) = 3) > 50 "
        "FROM merged_profiles"
    )
    # Eight tickets have no requester.
    assert totals == [(200, 292, True)]
    assert world.query("SELECT DISTINCT reason FROM quarantine") == [("missing_email",)]


def test_a_german_spreadsheet_and_a_folder_of_packed_events_are_read(worlds: dict[str, World]) -> None:
    world = worlds["software_company"]
    accounts, events, *_ = world.site.contract.sources
    dialect = accounts.csv
    assert (dialect.encoding, dialect.delimiter, dialect.decimal, dialect.thousands) == ("cp1252", ";", ",", ".")
    assert (events.name, events.files, events.row_key) == ("product_events", ("product events/*",), ("message_id",))
    totals = "SELECT sum(product_events_count), max(employees), max(annual_revenue) FROM merged_profiles"
    assert world.query(totals) == [(2057, 3897, Decimal("89824329.94"))]


def test_a_shops_orders_in_two_files_are_one_source(worlds: dict[str, World]) -> None:
    world = worlds["web_shop"]
    assert {source.name: source.files for source in world.site.contract.sources} == {
        "customers": ("customers_export.csv",),
        "orders": ("orders_export_*.csv",),
        "reviews": ("reviews.csv",),
        "subscribed_email_audience_export_7f3a9c": ("subscribed_email_audience_export_7f3a9c.csv",),
    }
    # `customers` is a source here, so profiles are called otherwise.
    assert world.site.contract.entity == "people"
    rows = world.query(
        "SELECT sum(orders_count), sum(orders_paid_count), sum(orders_total_sum) > 0 FROM merged_profiles"
    )
    # The rows are lines of orders; 148 orders are paid.
    assert rows == [(377, 148, True)]
    # Leading zeros of a postal code and an identifier behind an apostrophe stay.
    texts = world.query("SELECT min(length(default_address_zip)), min(customer_id) FROM merged_profiles")
    assert texts == [(5, "'7000000000000")]


def test_a_club_with_tabs_utf16_and_german_numbers_is_read(worlds: dict[str, World]) -> None:
    world = worlds["club"]
    sources = {source.name: source for source in world.site.contract.sources}
    assert {name: source.key_headers for name, source in sources.items()} == {
        "mitglieder": ("Mitgliedsnummer",),
        "besuche": ("Mitglied Nr.",),
        "zahlungen": ("Mitglied",),
    }
    assert {source.csv.encoding for source in sources.values()} == {"utf-16"}
    assert world.site.contract.personal_columns == {"vorname", "nachname", "e_mail"}
    row = world.query(
        "SELECT sum(zahlungen_count), sum(besuche_count), min(jahresbeitrag) BETWEEN 1000 AND 2000, "
        "typeof(any_value(jahresbeitrag)), typeof(any_value(geburtsdatum)), typeof(any_value(trainer)) "
        "FROM merged_profiles",
    )
    assert row == [(300, 400, True, "DECIMAL(18,2)", "DATE", "BOOLEAN")]
