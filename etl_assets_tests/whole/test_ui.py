"""The running UI, used with a mouse: stage the sources, build one shard, backfill all of them, find the merge done.

The steps are fixtures that need each other in this order, and remember what could be seen at that moment; so each test
can be run alone, and a step that fails is reported once for what it is.
"""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pytest

pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test installs it")

from playwright.sync_api import Locator, expect

from etl_assets.samples.writing import generate
from etl_assets_tests import oracle
from etl_assets_tests.whole.served import WORK_S, Server, serve, wait_until
from etl_assets_tests.whole.ui_driver import Visitor, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(
        not os.environ.get("TEST_BROWSER"),
        reason="TEST_BROWSER names no Chromium: TEST_BROWSER=/usr/bin/chromium make test",
    ),
]

KINDS = {
    "crm": {"csv", "parquet"},
    "billing": {"csv", "parquet"},
    "product": {"csv", "parquet"},
    "support": {"csv", "parquet"},
    "shard_profiles": {"duckdb"},
    "merged_profiles": {"duckdb"},
}
GROUPS = {"sources": ["crm", "billing", "product", "support"], "profiles": ["shard_profiles", "merged_profiles"]}
DESCRIPTIONS = {
    "crm": "The CRM export",
    "billing": "The Billing export",
    "product": "The Product export",
    "support": "The Support export",
    "shard_profiles": "Enriched profiles of one shard",
    "merged_profiles": "The enriched profile of every customer, exactly once",
}
# What is on and off in an instance that nobody has touched.
SWITCHES = {
    "publish_when_complete": True,
    "rebuild_stale_shards": True,
    "refresh_when_exports_change": False,
    "daily_refresh": False,
}
SHARD_COUNT = 10
SHARDS = {f"shard_{number:02}" for number in range(SHARD_COUNT)}
ONE = "shard_03"
PARTITIONS_PAGE = "/assets/shard_profiles?view=partitions"


@dataclass(frozen=True)
class Moment:
    """What was on disk after a step."""

    shards: set[str]
    is_merged: bool


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The UI over a small sample with dirt in it."""
    folder = tmp_path_factory.mktemp("ui")
    generate(folder / "sources", rows=2000, dirty=0.02)
    with serve(folder, folder / "sources") as running:
        yield running


@pytest.fixture(scope="module")
def visitor(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    """One person with one tab."""
    with visit(server, tmp_path_factory.mktemp("screenshots")) as somebody:
        yield somebody


@pytest.fixture(scope="module")
def expected(server: Server) -> oracle.Expected:
    """What has to come out of the exports."""
    return oracle.expect(server.sources, SHARD_COUNT)


@pytest.fixture(scope="module")
def staged(visitor: Visitor, server: Server) -> Moment:
    """Step 1: the group `sources`, materialized with its button."""
    visitor.open("/locations/etl_assets/asset-groups/sources")
    visitor.see(visitor.page.get_by_text("Never materialized"), times=4)
    visitor.click(visitor.page.get_by_role("button", name="Materialize all"))
    for source in GROUPS["sources"]:
        node = _node(visitor, source)
        visitor.see(node.get_by_text("Materialized", exact=True), within_s=WORK_S)
        visitor.see(node.get_by_text("1 / 1 Passed"), within_s=WORK_S)
    return _moment(server)


@pytest.fixture(scope="module")
def one_shard(visitor: Visitor, server: Server, staged: Moment) -> Moment:
    """Step 2: one partition, chosen in the dialog."""
    dialog = _partitions_dialog(visitor)
    visitor.click(dialog.get_by_role("button", name="Custom", exact=True))
    visitor.click(dialog.get_by_text(f"{SHARD_COUNT} partitions selected"))
    choice = visitor.page.locator(".dagster-popover")
    visitor.click(choice.get_by_text("Select all"))
    visitor.see(dialog.get_by_text("0 partitions", exact=True))
    with visitor.pictured():
        choice.get_by_placeholder("Filter partitions").fill(ONE)
    visitor.click(choice.get_by_title(ONE, exact=True))
    visitor.see(dialog.get_by_text("1 partition", exact=True))
    # A click beside the list of partitions closes it.
    visitor.click(dialog.get_by_text("Launch runs to materialize"))
    visitor.see(choice, times=0)
    visitor.click(dialog.get_by_role("button", name="Launch 1 run"))
    visitor.see_text("Materialized (1)", within_s=WORK_S)
    visitor.see_text(f"Missing ({SHARD_COUNT - 1})")
    return _moment(server)


@pytest.fixture(scope="module")
def refusal(visitor: Visitor, server: Server, one_shard: Moment) -> tuple[str, Moment]:
    """Step 3: what the sensor says, on its page, once it has seen the one shard."""
    visitor.open("/locations/etl_assets/sensors/publish_when_complete")
    said = ""

    def has_looked() -> bool:
        nonlocal said
        visitor.page.reload()
        visitor.click(visitor.page.locator("button").filter(has_text="0 runs requested").first)
        said = visitor.see(visitor.dialog().filter(has_text="Skip reason")).inner_text()
        return f"{SHARD_COUNT - 1} of {SHARD_COUNT}" in said

    with visitor.pictured():
        wait_until(has_looked, WORK_S, lambda: f"the sensor to see {ONE}; it says: {said}")
    return said, _moment(server)


@pytest.fixture(scope="module")
def all_shards(visitor: Visitor, server: Server, refusal: tuple[str, Moment]) -> Moment:
    """Step 4: every partition, by a backfill."""
    dialog = _partitions_dialog(visitor)
    visitor.click(dialog.get_by_role("button", name="Launch backfill"))
    visitor.see_text(f"Materialized ({SHARD_COUNT})", within_s=WORK_S)
    return _moment(server)


@pytest.fixture(scope="module")
def merged(visitor: Visitor, server: Server, all_shards: Moment) -> Moment:
    """Step 5: nothing is clicked; the merge appears."""
    visitor.open("/assets/merged_profiles?view=checks")
    visitor.reload_until(lambda: visitor.page.get_by_text("Succeeded", exact=True), times=5)
    return _moment(server)


def _moment(server: Server) -> Moment:
    return Moment(server.published_shards(), server.warehouse.exists())


def _node(visitor: Visitor, name: str) -> Locator:
    """The box of an asset or group in a graph."""
    graph = visitor.page.locator("foreignObject")
    return graph.filter(has=visitor.page.locator(f"[data-tooltip='{name}']")).last


def _partitions_dialog(visitor: Visitor) -> Locator:
    """The dialog that asks which partitions; all are chosen."""
    visitor.open(PARTITIONS_PAGE)
    visitor.click(visitor.page.get_by_role("button", name="Materialize").first)
    dialog = visitor.dialog()
    visitor.click(dialog.get_by_role("button", name="All", exact=True))
    visitor.see(dialog.get_by_text(f"{SHARD_COUNT} partitions", exact=True))
    return dialog


def _is_inside(inner: Locator, outer: Locator) -> bool:
    # The drawing's own coordinates: on the screen it still moves while it is zoomed to fit.
    (x, y, width, height), (left, top, wide, high) = (
        [float(box.get_attribute(side) or "nan") for side in ("x", "y", "width", "height")] for box in (inner, outer)
    )
    return left <= x and top <= y and x + width <= left + wide and y + height <= top + high


def test_the_graph_shows_all_assets_in_their_groups_with_their_kinds(visitor: Visitor) -> None:
    visitor.open("/asset-groups/")
    visitor.see(_node(visitor, "sources"))
    visitor.page.keyboard.press("Alt+e")
    for group, names in GROUPS.items():
        for name in names:
            node = visitor.see(_node(visitor, name))
            for kind in KINDS[name]:
                visitor.see(node.get_by_role("img", name=kind, exact=True))
            assert _is_inside(node, _node(visitor, group)), f"{name} is not drawn inside {group}"


@pytest.mark.parametrize("name", KINDS)
def test_an_assets_page_says_what_it_is_who_owns_it_and_of_what_kind_it_is(visitor: Visitor, name: str) -> None:
    visitor.open(f"/assets/{name}?view=overview")
    visitor.see(visitor.page.get_by_role("paragraph").filter(has_text=DESCRIPTIONS[name]))
    visitor.see(visitor.page.locator("[data-tooltip='data-engineering']"))
    for kind in KINDS[name]:
        visitor.see(visitor.page.get_by_role("img", name=kind, exact=True))


def test_the_automation_page_shows_what_is_on_and_what_is_off_as_shipped(visitor: Visitor) -> None:
    visitor.open("/automation")
    for name, is_on in SWITCHES.items():
        switch = visitor.see(visitor.row(name)).get_by_role("checkbox").last
        with visitor.pictured():
            expect(switch).to_be_checked(checked=is_on)


def test_the_button_of_the_sources_materializes_all_four_with_their_checks_passed(
    visitor: Visitor, staged: Moment, expected: oracle.Expected
) -> None:
    assert staged == Moment(set(), is_merged=False)
    for source in GROUPS["sources"]:
        visitor.open(f"/assets/{source}?view=overview")
        visitor.see_text(f"{expected.accounts[source].rows_accepted:,}")
        rejected = visitor.see(visitor.metadata("rows_quarantined")).inner_text()
        assert int(rejected) == expected.accounts[source].rows_quarantined


def test_one_partition_chosen_in_the_dialog_is_built_alone(one_shard: Moment) -> None:
    assert one_shard == Moment({ONE}, is_merged=False)


def test_a_partitions_page_shows_its_records_its_time_and_a_preview(
    visitor: Visitor, one_shard: Moment, expected: oracle.Expected
) -> None:
    visitor.open(f"{PARTITIONS_PAGE}&partition={ONE}")
    customers = {name for name, profile in expected.profiles.items() if profile["shard_id"] == ONE}
    assert int(visitor.see(visitor.metadata("record_count")).inner_text()) == len(customers)
    assert int(visitor.metadata("elapsed_ms").inner_text()) > 0
    visitor.click(visitor.metadata("preview").get_by_text("[Show Markdown]"))
    preview = visitor.see(visitor.dialog().get_by_role("table"))
    shown = preview.get_by_role("row").filter(has_not=visitor.page.get_by_role("columnheader"))
    assert {row.split()[0] for row in shown.all_inner_texts()} <= customers
    assert shown.count() == 5


def test_the_sensor_says_why_it_does_not_merge_an_incomplete_set(refusal: tuple[str, Moment]) -> None:
    said, moment = refusal
    assert f"{SHARD_COUNT - 1} of {SHARD_COUNT} shards are not ready: shard_00 missing" in said
    assert f"{ONE} missing" not in said
    assert moment == Moment({ONE}, is_merged=False)


def test_a_backfill_of_all_partitions_builds_every_shard(visitor: Visitor, all_shards: Moment) -> None:
    assert all_shards.shards == SHARDS
    visitor.open(PARTITIONS_PAGE)
    for count in (f"Materialized ({SHARD_COUNT})", "Failed (0)", "Missing (0)"):
        visitor.see_text(count)


def test_the_merge_follows_by_itself_and_its_run_says_who_started_it(visitor: Visitor, merged: Moment) -> None:
    assert merged == Moment(SHARDS, is_merged=True)
    visitor.open("/runs")
    visitor.see(visitor.row("publish_when_complete").get_by_text("Success", exact=True))


def test_the_merges_page_shows_digest_row_count_and_its_five_checks_passed(
    visitor: Visitor, merged: Moment, expected: oracle.Expected
) -> None:
    visitor.open("/assets/merged_profiles?view=overview")
    visitor.see(visitor.page.get_by_role("link", name=re.compile(r"ago|second")))
    assert re.fullmatch("[0-9a-f]{32}", visitor.see(visitor.metadata("digest")).inner_text())
    assert int(visitor.metadata("record_count").inner_text()) == len(expected.profiles)
    visitor.see_text(f"{len(expected.profiles):,}")
    visitor.open("/assets/merged_profiles?view=checks")
    visitor.see(visitor.page.get_by_text("Succeeded", exact=True), times=5)


def test_the_warehouse_holds_every_customer_of_the_exports_once(
    server: Server, merged: Moment, expected: oracle.Expected
) -> None:
    """Read while the UI runs: whoever queries the result never waits for the pipeline."""
    with duckdb.connect(server.warehouse, read_only=True) as connection:
        rows = connection.execute("SELECT customer_id, idempotency_key FROM merged_profiles").fetchall()
    assert sorted(rows) == [(name, profile["idempotency_key"]) for name, profile in expected.profiles.items()]


def test_a_runs_log_shows_the_lines_of_its_shard_as_json(visitor: Visitor, one_shard: Moment) -> None:
    visitor.open(f"{PARTITIONS_PAGE}&partition={ONE}")
    visitor.click(visitor.page.locator("a[href*='/runs/']").first)
    start, end = _log_line(visitor, "shard_start"), _log_line(visitor, "shard_end")
    for line in (start, end):
        assert line["shard_id"] == ONE
        assert line["attempt"] == 1
        assert line["run_id"] in visitor.page.url
    assert end["record_count"] > 0
    assert end["elapsed_ms"] >= 0


def _log_line(visitor: Visitor, event: str) -> dict[str, Any]:
    found = visitor.see(visitor.page.get_by_text(f'"event": "{event}"'))
    line: dict[str, Any] = json.loads(found.first.inner_text())
    return line


def test_the_code_location_is_loaded_and_no_page_reported_an_error(visitor: Visitor, merged: Moment) -> None:
    visitor.open("/locations")
    visitor.see(visitor.row("etl_assets").get_by_text("Loaded", exact=True))
    assert visitor.complaints == []


def test_an_interrupt_ends_the_server_and_all_its_processes(server: Server) -> None:
    """The last test of this file: the others need the server."""
    before = server.processes()
    assert len(before) > 1
    server.interrupt()
    wait_until(lambda: not server.processes(), WORK_S, lambda: f"these to end: {server.processes()}")
    log = server.log.read_text(errors="replace")
    assert "Dagster services shut down" in log
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :]
