"""The running UI, used with a mouse: stage the sources, build one shard, backfill all of them, find the merge done.

Then a run of the command line fails, and is repeated in the UI. The steps are fixtures that need each other in this
order, and remember what was on the pages at that moment; so each test can be run alone, and a step that fails is
reported once for what it is.
"""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import duckdb
import pytest
from playwright.sync_api import Locator, expect

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.preview import MASK
from etl_assets.engine.published.shards import inspect_shards
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.samples.writing import generate
from etl_assets_tests import factory, oracle
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.whole.browser import needs_browser
from etl_assets_tests.whole.served import WORK_S, Server, serve, wait_until
from etl_assets_tests.whole.ui_driver import Visitor, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    needs_browser,
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
    "shard_profiles": "Profiles of one shard of the customers",
    "merged_profiles": "The profile of each of the customers, exactly once",
}
# Sensors and schedules, on and off as shipped.
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
SHARD_CHECKS = {"accounting_closed", "profiles_as_declared"}
WAREHOUSE_CHECKS = SHARD_CHECKS | {
    "count_equals_shards",
    "customers_unique",
    "keys_unique_and_not_null",
    "nothing_unusual",
}


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
    with visit(server, tmp_path_factory.mktemp("screenshots")) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def expected(server: Server) -> oracle.Expected:
    """The result that the exports must give."""
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
    _see_materialized(visitor, 1)
    visitor.see_text(f"Missing ({SHARD_COUNT - 1})")
    return _moment(server)


@pytest.fixture(scope="module")
def refusal(visitor: Visitor, server: Server, one_shard: Moment) -> tuple[str, Moment]:
    """Step 3: the sensor's reason on its page, once it has seen the one shard."""
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
    _see_materialized(visitor, SHARD_COUNT)
    return _moment(server)


@pytest.fixture(scope="module")
def merged(visitor: Visitor, server: Server, all_shards: Moment) -> Moment:
    """Step 5: nothing is clicked; the merge appears."""
    visitor.open("/assets/merged_profiles?view=checks")
    visitor.reload_until(lambda: visitor.page.get_by_text("Succeeded", exact=True), times=len(WAREHOUSE_CHECKS))
    return _moment(server)


@pytest.fixture(scope="module")
def failed_run(server: Server, merged: Moment) -> str:
    """Step 6: a rebuild of one shard at the command line fails. Returns the id of its run."""
    done = subprocess.run(
        command("run", "--events", "jsonl", "--force", "--shards", ONE),
        env=environment(
            ETL_SOURCES=str(server.sources),
            ETL_HOME=str(server.home),
            DAGSTER_HOME=str(server.home.with_name("dagster")),
            ETL_FAULT="shard.begin raise-permanent",
        ),
        capture_output=True,
        encoding="utf-8",
        timeout=WORK_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["failed_shards"] == [ONE]
    (shard,) = report["shards"]
    return str(shard["run_id"])


@pytest.fixture(scope="module")
def repeated(visitor: Visitor, failed_run: str) -> str:
    """Step 7: the failed run is executed again with its page's button. Returns the id of the new run."""
    visitor.open(f"/runs/{failed_run}")
    visitor.click(visitor.page.get_by_role("button", name="Re-execute").first)
    with visitor.pictured():
        visitor.page.wait_for_url(lambda url: "/runs/" in url and failed_run not in url, timeout=WORK_S * 1000)
    visitor.see_text("Success", within_s=WORK_S)
    return visitor.page.url.rpartition("/runs/")[2][: len(failed_run)]


def _moment(server: Server) -> Moment:
    return Moment(server.published_shards(), server.warehouse.exists())


def _node(visitor: Visitor, name: str) -> Locator:
    """The box of an asset or group in a graph."""
    graph = visitor.page.locator("foreignObject")
    return graph.filter(has=visitor.page.locator(f"[data-tooltip='{name}']")).last


def _see_materialized(visitor: Visitor, count: int) -> None:
    # The page asks again when it hears of a materialization, and may miss the last ones of several.
    visitor.reload_until(lambda: visitor.page.get_by_text(f"Materialized ({count})", exact=True))


def _partitions_dialog(visitor: Visitor) -> Locator:
    """The dialog that asks which partitions; all are chosen."""
    visitor.open(PARTITIONS_PAGE)
    visitor.click(visitor.page.get_by_role("button", name="Materialize").first)
    dialog = visitor.dialog()
    visitor.click(dialog.get_by_role("button", name="All", exact=True))
    visitor.see(dialog.get_by_text(f"{SHARD_COUNT} partitions", exact=True))
    return dialog


def _is_at_rest(server: Server) -> bool:
    """Whether no run is under way, and no sensor will ask for one."""
    asked = (
        "query { runsOrError(filter: {statuses: [QUEUED, NOT_STARTED, STARTING, STARTED]}) { ... on Runs { count } } }"
    )
    site = factory.site_at(Home(server.home), SHARD_COUNT)
    publication = read_publication(site.home)
    is_merged = publication is None or publication.set_hash == inspect_shards(site).set_hash
    return is_merged and server.ask(asked)["runsOrError"]["count"] == 0


def _right_edge(locator: Locator) -> float:
    box = locator.bounding_box()
    assert box is not None, "it is visible"
    return box["x"] + box["width"]


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
def test_an_assets_page_says_what_it_is_and_of_what_kind_it_is(visitor: Visitor, name: str) -> None:
    """Fails: a newcomer reads code to learn what an asset holds."""
    visitor.open(f"/assets/{name}?view=overview")
    visitor.see(visitor.page.get_by_role("paragraph").filter(has_text=DESCRIPTIONS[name]))
    for kind in KINDS[name]:
        visitor.see(visitor.page.get_by_role("img", name=kind, exact=True))


def test_the_automation_page_shows_what_is_on_and_what_is_off_as_shipped(visitor: Visitor) -> None:
    visitor.open("/automation")
    for name, is_on in SWITCHES.items():
        switch = visitor.see(visitor.row(name)).get_by_role("checkbox").last
        with visitor.pictured():
            expect(switch).to_be_checked(checked=is_on)


def test_the_sensors_page_names_the_asset_that_it_materializes(visitor: Visitor) -> None:
    """It read `AndAssetSelection(operands=[…`."""
    visitor.open("/locations/etl_assets/sensors/publish_when_complete")
    target = visitor.see(visitor.page.get_by_role("row").filter(has_text="Target")).first
    assert "merged_profiles" in target.inner_text()
    assert "AssetSelection" not in target.inner_text()


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


def test_a_partitions_page_shows_its_records_its_time_and_a_preview_without_addresses(
    visitor: Visitor, one_shard: Moment, expected: oracle.Expected
) -> None:
    """Fails: the event database keeps customers' addresses for ever, or the scores are off the page."""
    visitor.open(f"{PARTITIONS_PAGE}&partition={ONE}")
    customers = {name for name, profile in expected.profiles.items() if profile["shard_id"] == ONE}
    assert int(visitor.see(visitor.metadata("record_count")).inner_text()) == len(customers)
    assert int(visitor.metadata("elapsed_ms").inner_text()) > 0
    preview = visitor.see(visitor.metadata("preview").get_by_role("table"))
    header = preview.get_by_role("columnheader").all_inner_texts()
    assert header[:5] == ["customer_id", "company_name", "health_score", "churn_risk", "expansion_potential"]
    shown = preview.locator("tbody").get_by_role("row")
    assert shown.count() == 5
    for row in shown.all():
        cells = dict(zip(header, row.get_by_role("cell").all_inner_texts(), strict=True))
        profile = expected.profiles[cells["customer_id"]]
        assert cells["customer_id"] in customers
        assert cells["health_score"] == str(profile["health_score"])
        assert cells["email"] == (MASK if profile["email"] else "")
    assert "@" not in preview.inner_text()


def test_a_shards_page_shows_its_checks(visitor: Visitor, one_shard: Moment) -> None:
    """Fails: what was checked before a shard was published cannot be seen."""
    visitor.open("/assets/shard_profiles?view=checks")
    visitor.see(visitor.page.get_by_text("Succeeded", exact=True), times=len(SHARD_CHECKS))
    for name in SHARD_CHECKS:
        visitor.see(visitor.page.get_by_text(name, exact=True))


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


def test_the_merge_follows_on_its_own_and_its_run_names_the_sensor_that_started_it(
    visitor: Visitor, merged: Moment
) -> None:
    assert merged == Moment(SHARDS, is_merged=True)
    visitor.open("/runs")
    visitor.see(visitor.row("publish_when_complete").get_by_text("Success", exact=True))


def test_the_merges_page_shows_digest_row_count_and_its_five_checks_passed(
    visitor: Visitor, merged: Moment, expected: oracle.Expected
) -> None:
    visitor.open("/assets/merged_profiles?view=overview")
    visitor.see(visitor.page.get_by_role("link", name=re.compile(r"ago|second")))
    count = len(expected.profiles)
    assert re.fullmatch(f"v2-{count}(-[0-9a-f]{{16}}){{2}}", visitor.see(visitor.metadata("digest")).inner_text())
    assert int(visitor.metadata("record_count").inner_text()) == count
    visitor.see_text(f"{count:,}")
    visitor.open("/assets/merged_profiles?view=checks")
    visitor.see(visitor.page.get_by_text("Succeeded", exact=True), times=len(WAREHOUSE_CHECKS))
    for name in WAREHOUSE_CHECKS:
        visitor.see(visitor.page.get_by_text(name, exact=True))


def test_the_timings_of_all_shards_fit_the_merges_page(visitor: Visitor, merged: Moment) -> None:
    """The runs that built the shards were cut off on a screen of 1400 pixels."""
    visitor.open("/assets/merged_profiles?view=overview")
    timings = visitor.see(visitor.metadata("shard_timings").get_by_role("table"))
    timings.scroll_into_view_if_needed()
    assert timings.locator("tbody").get_by_role("row").count() == SHARD_COUNT
    names = {row.split()[0] for row in timings.locator("tbody").get_by_role("row").all_inner_texts()}
    assert names == SHARDS
    place = visitor.page.get_by_text("Asset history").locator("xpath=ancestor::div[3]")
    assert _right_edge(timings) <= _right_edge(place)


def test_one_check_of_the_warehouse_can_be_executed_alone(visitor: Visitor, server: Server, merged: Moment) -> None:
    """Fails: to see one check again a person has to merge again, or to run all of them."""
    visitor.open("/assets/merged_profiles?view=checks")
    visitor.click(visitor.page.get_by_text("customers_unique", exact=True).first)
    visitor.click(visitor.page.locator("button").filter(has_text=re.compile("^Execute$")))
    visitor.click(visitor.page.get_by_text("Execution history", exact=True))
    executions = visitor.page.get_by_role("row").filter(has_text="Passed")
    visitor.see(executions, times=2, within_s=WORK_S)
    visitor.click(visitor.page.get_by_text("keys_unique_and_not_null", exact=True).first)
    visitor.click(visitor.page.get_by_text("Execution history", exact=True))
    visitor.see(executions, times=1)


def test_the_warehouse_holds_every_customer_of_the_exports_once(
    server: Server, merged: Moment, expected: oracle.Expected
) -> None:
    """Read while the UI runs: a reader never waits for the pipeline."""
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


def test_the_home_page_shows_runs_of_the_command_line(visitor: Visitor, failed_run: str) -> None:
    """The first page was empty for people who work at the command line."""
    visitor.open("/")
    location = visitor.page.locator("button").filter(has=visitor.page.get_by_text("etl_assets", exact=True))
    # The numbers of runs that succeeded and that failed; no other run of this file fails.
    failures = visitor.see(location.locator("[style*='background-red']"), times=1)
    assert failures.inner_text() == "1"
    visitor.open("/runs")
    row = visitor.see(visitor.page.locator("[data-index]").filter(has_text=failed_run[:8]))
    assert "Failure" in row.inner_text()


def test_a_failed_run_of_the_command_line_can_be_executed_again_in_the_ui(
    visitor: Visitor, server: Server, failed_run: str, repeated: str
) -> None:
    """It ended in HTTP 500."""
    asked = "query Runs($id: ID!) { pipelineRunOrError(runId: $id) { ... on Run { status parentRunId } } }"
    run = server.ask(asked, id=repeated)["pipelineRunOrError"]
    assert run == {"status": "SUCCESS", "parentRunId": failed_run}


def test_the_code_location_is_loaded_and_no_page_reported_an_error(visitor: Visitor, repeated: str) -> None:
    visitor.open("/locations")
    visitor.see(visitor.row("etl_assets").get_by_text("Loaded", exact=True))
    assert visitor.complaints == []


def test_an_interrupt_ends_the_server_and_all_its_processes(server: Server) -> None:
    """The last test of this file: the others need the server."""
    # Dagster logs a traceback when its code server goes in the middle of a sensor's request.
    wait_until(lambda: _is_at_rest(server), WORK_S, lambda: "the last merge")
    before = server.processes()
    assert len(before) > 1
    server.interrupt()
    wait_until(lambda: not server.processes(), WORK_S, lambda: f"these to end: {server.processes()}")
    log = server.log.read_text(errors="replace")
    assert "Dagster services shut down" in log
    # The daemon may begin a request after that, too, and finds the location gone: Dagster's own order of ending.
    is_gone = "Location etl_assets does not exist in workspace" in log
    assert is_gone or "Traceback" not in log, log[log.index("Traceback") - 500 :]
