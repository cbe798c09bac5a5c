"""Values, headers and file names that are Markdown, HTML or addresses, in the running UI: shown, never interpreted.

Whoever chooses a company's name in a sign-up form must not act as the operator who looks at it.
"""

import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest
from playwright.sync_api import Request

from etl_assets.engine.files.layout import Home
from etl_assets.engine.sql_text import identifier, literal
from etl_assets.orchestration.instance.opening import open_instance
from etl_assets_tests import factory
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.dagster_runs import CodeLocation, settings_for
from etl_assets_tests.whole import requests_to_ui as ui
from etl_assets_tests.whole.browser import needs_browser
from etl_assets_tests.whole.served import WORK_S, serve
from etl_assets_tests.whole.ui_driver import Visitor, visit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    needs_browser,
]

VALUES = (
    f"![logo]({ui.by_url(ui.START_SCHEDULE)})",
    "![beacon](http://foreign.example/t.png)",
    "[Sign in again](http://foreign.example/phish)",
    "see http://foreign.example/auto or <http://foreign.example/angle>",
    "<img src=http://foreign.example/i.png onerror='window.pwned=1'><h1>RAW</h1>",
    "<script>window.pwned=1</script><script src=//foreign.example/s.js></script>",
    "x\r\r# INJECTED HEADING\r\r![b](http://foreign.example/b.png)",
    "a\\|b | c | ![d](http://foreign.example/d.png)",
    "[run](javascript:window.pwned=1)",
    '"><a href=http://foreign.example/e>out</a>',
)
# Headers that the contract does not name; they are listed as ignored.
HEADERS = ("![h](http://foreign.example/h.png)", "<img src=http://foreign.example/j.png>", "http://foreign.example/k")
# What a file name can hold: no slash.
FILES = (
    "![f](graphql?query=mutation%7Bx%7D).csv",
    "<img src=x onerror=window.pwned=1>.csv",
    "www.foreign.example.parquet",
)
# Each of them would be there if anything were interpreted.
ELEMENTS = (
    "img[src*='foreign']",
    "img[src*='graphql']",
    "img[src='x']",
    "a[href*='foreign']",
    "a[href*='graphql']",
    "a[href^='javascript']",
    "script[src*='foreign']",
    "h1:has-text('RAW')",
    "h1:has-text('INJECTED')",
)
_RUNS = "query { runsOrError { ... on Runs { results { runId } } } }"
# What opens a dialog with the rest of an entry or of a log line.
_FOLDED = re.compile(r"^\[Show |^View full message")
TEXT_COLUMNS = ("company_name", "industry", "deal_stage", "sales_owner")


@dataclass
class Seen:
    """What was on the pages, and what the browser asked for on them."""

    text: str = ""
    elements: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    is_pwned: bool = False


def _write_sources(folder: Path) -> None:
    customers = [f"c{number:02}" for number in range(len(VALUES))]
    texts = [
        # Each value is in the first column of some customer.
        {column: VALUES[(number + shift) % len(VALUES)] for shift, column in enumerate(TEXT_COLUMNS)}
        for number in range(len(VALUES))
    ]
    rows = [factory.row(customer, **text) for customer, text in zip(customers, texts, strict=True)]
    factory.write_exports(folder, billing=rows, product=rows, support=rows)
    (folder / "crm.csv").unlink()
    crm, *_ = factory.SOURCES
    rows = [{**row, **dict.fromkeys(HEADERS, "1")} for row in rows]
    columns = [*crm.required, *HEADERS]
    # A value with line ends of its own has to be in Parquet: the record of a CSV file would be rejected.
    plain = [row for row in rows if not any("\r" in cell for cell in row.values())]
    factory.write_csv(folder / "crm" / FILES[0], crm, plain[::2], columns)
    factory.write_csv(folder / "crm" / FILES[1], crm, plain[1::2], columns)
    _write_parquet(folder / "crm" / FILES[2], [row for row in rows if row not in plain], columns)


def _write_parquet(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({', '.join(f'{identifier(name)} VARCHAR' for name in columns)})")
        cells = ", ".join("?" * len(columns))
        connection.executemany(f"INSERT INTO t VALUES ({cells})", [[row[name] for name in columns] for row in rows])
        connection.execute(f"COPY t TO {literal(str(path))} (FORMAT parquet)")


def _run(folder: Path, **changes: str) -> "subprocess.CompletedProcess[str]":
    places = {"ETL_SOURCES": "sources", "ETL_HOME": "home", "DAGSTER_HOME": "dagster", "ETL_NUM_SHARDS": "2"}
    return subprocess.run(
        command("run"),
        cwd=folder,
        env=environment(**places, ETL_MAX_REJECT_RATIO="1", **changes),
        capture_output=True,
        encoding="utf-8",
        timeout=WORK_S,
        check=False,
    )


def _stage_in_dagster(folder: Path) -> None:
    """Materialize the sources, as the UI does; `etl-assets run` would refuse such a file before Dagster starts."""
    settings = settings_for(folder / "sources", Home(folder / "home"), 2)
    with open_instance(folder / "dagster") as instance:
        assert not CodeLocation(settings, instance).run("crm").success


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    """All pages on which something of an export is shown, visited once."""
    folder = tmp_path_factory.mktemp("hostile")
    _write_sources(folder / "sources")
    done = _run(folder)
    assert done.returncode == 0, done.stderr
    # A file without its column: its name and its header are in the failure, and the failure on its run's page.
    broken = folder / "sources" / "crm" / FILES[0]
    broken.write_text(broken.read_text().replace("company_name", HEADERS[0], 1))
    _stage_in_dagster(folder)
    with (
        serve(folder, folder / "sources", read_only=True, ETL_NUM_SHARDS="2") as server,
        visit(server, tmp_path_factory.mktemp("screenshots")) as visitor,
    ):
        seen = Seen()
        visitor.page.on("request", lambda request: seen.requests.append(_described(request)))
        failed_run, *_ = server.ask(_RUNS)["runsOrError"]["results"]
        pages = {
            "/assets/crm?view=overview": "extra_columns_ignored",
            "/assets/shard_profiles?view=partitions&partition=shard_00": "preview",
            "/assets/shard_profiles?view=partitions&partition=shard_01": "preview",
            "/assets/merged_profiles?view=overview": "preview",
            f"/runs/{failed_run['runId']}": "RUN_FAILURE",
        }
        for path, text in pages.items():
            _look(visitor, path, text, seen)
        yield seen


def _described(request: Request) -> str:
    return f"{request.method} {request.url}"


def _look(visitor: Visitor, path: str, text: str, seen: Seen) -> None:
    """Open a page and everything on it that is folded, and note what is there."""
    visitor.open(path)
    visitor.see_text(text)
    _note(visitor, seen)
    folded = visitor.page.get_by_text(_FOLDED)
    for number in range(folded.count()):
        visitor.click(folded.nth(number))
        visitor.see(visitor.dialog())
        _note(visitor, seen)
        visitor.click(visitor.dialog().get_by_role("button").last)
        visitor.see(visitor.dialog(), times=0)


def _note(visitor: Visitor, seen: Seen) -> None:
    page = visitor.page
    seen.text += " ".join(page.inner_text("body").split()) + "\n"
    seen.elements += [f"{selector} at {page.url}" for selector in ELEMENTS if page.locator(selector).count()]
    seen.is_pwned = seen.is_pwned or bool(page.evaluate("window.pwned"))


@pytest.mark.parametrize("text", [*VALUES, *HEADERS, *FILES])
def test_what_is_in_an_export_is_shown_as_it_is(seen: Seen, text: str) -> None:
    """Fails: the tests below would pass because nothing was shown at all."""
    assert " ".join(text.split()) in seen.text


def test_nothing_in_an_export_becomes_a_part_of_the_page(seen: Seen) -> None:
    assert seen.elements == []
    assert not seen.is_pwned


def test_nothing_in_an_export_makes_the_browser_ask(seen: Seen) -> None:
    """Fails: an image in a company's name launches runs, or tells its author who looks at it."""
    assert [asked for asked in seen.requests if "/graphql" in asked and not asked.startswith("POST ")] == []
    assert {re.sub(r"^\w+ \w+://([^:/]+).*", r"\1", asked) for asked in seen.requests if "://" in asked} == {
        "127.0.0.1"
    }
