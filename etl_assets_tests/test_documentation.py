"""The documentation against the code: what is generated is up to date, what is written names things that exist."""

import argparse
import importlib
import importlib.util
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import cast

import duckdb
import pytest

from etl_assets.cli.arguments import Parser
from etl_assets.cli.main import COMMANDS
from etl_assets.engine.published.attempts import Attempt
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.tables import SHARD_ATTEMPTS, quarantine_table, table_names
from etl_assets.project.loading import load_project, shipped_folder
from etl_assets.project.settings import table as settings_table

ROOT = Path(__file__).parent.parent
MAX_README_WORDS = 800
GENERATED = ("settings.md", "contract.md", "tables.md", "command-line.md", "faults.md", "component.md")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")),
        *(*(ROOT / "bench").glob("*.md"), *(ROOT / "examples").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")),
    )
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"^```\w*\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
# A command line up to a pipe, a comment or the end of the line.
_COMMAND = re.compile(r"\betl-assets ([a-z]+)([^\n|#`]*)")
_VARIABLE = re.compile(r"\b(?:ETL_[A-Z_]*[A-Z]|DAGSTER_HOME|CHAOS_[A-Z_]*[A-Z])\b")
# A name with a placeholder: `<name>_command.py`.
_NO_MODULES = {"_command.py"}


@cache
def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def _text(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def _options(command: str) -> frozenset[str]:
    module = importlib.import_module(f"etl_assets.cli.{command}_command")
    parser = cast("Parser", module.add_parser(Parser().add_subparsers()))
    return frozenset(option for action in parser._actions for option in action.option_strings)


def _anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = _HEADING.findall(_FENCE.sub("", _text(page)))
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def _py(folder: str) -> Iterator[Path]:
    return (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return path.resolve().relative_to(ROOT).as_posix()


def _code(page: str) -> Iterator[str]:
    for block, inline in _CODE.findall(_text(page)):
        yield block or inline


@pytest.mark.parametrize("name", GENERATED)
def test_a_generated_page_is_what_the_code_says(name: str) -> None:
    """A reader would find a setting, a column or an option that is not there. `make docs` writes the pages again."""
    assert _text(f"docs/reference/{name}") == _generator().pages()[name], "run: make docs"


def test_every_page_of_the_reference_is_generated() -> None:
    assert set(_generator().pages()) == set(GENERATED)
    assert {path.name for path in (ROOT / "docs" / "reference").glob("*.md")} == set(GENERATED)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    """A dead link is the first thing that a newcomer meets."""
    dead = []
    for link in _LINK.findall(_FENCE.sub("", _text(page))):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        place, _, anchor = link.partition("#")
        target = (ROOT / page).parent / place if place else ROOT / page
        if not target.exists() or (anchor and anchor not in _anchors(_name(target))):
            dead.append(link)
    assert not dead


def test_the_readme_leads_to_every_part_of_the_documentation() -> None:
    """A page that nothing links to is not found."""
    linked: set[str] = set()
    todo = ["README.md"]
    while todo:
        page = todo.pop()
        linked.add(page)
        for link in _LINK.findall(_text(page)):
            target = ((ROOT / page).parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_file() and target.is_relative_to(ROOT):
                name = target.relative_to(ROOT).as_posix()
                todo += [name] if name not in linked else []
    assert sorted(page for page in PAGES if page not in linked) == []


def test_the_readme_is_short() -> None:
    """People decide in a minute whether they go on; details belong in docs/."""
    words = len(_text("README.md").split())
    assert words <= MAX_README_WORDS


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_the_documentation_exists_with_its_options(page: str) -> None:
    """A command that is pasted from the documentation would end in an error."""
    wrong = []
    for code in _code(page):
        for command, rest in _COMMAND.findall(code):
            unknown = (
                set(re.findall(r"(?<![\w-])--[a-z-]+", rest)) - _options(command) if command in COMMANDS else {"?"}
            )
            wrong += [f"etl-assets {command}{rest}"] if unknown else []
    assert not wrong


@pytest.mark.parametrize("page", PAGES)
def test_every_module_that_a_page_names_exists(page: str) -> None:
    """A reader who looks for the code would look in vain. A page may name a module by the end of its path."""
    files = [
        path.as_posix()
        for folder in ("etl_assets", "etl_assets_tests", "bench", "docs", "examples")
        for path in _py(folder)
    ]
    named = {name for code in _CODE.findall(_text(page)) for name in re.findall(r"[\w/]+\.py\b", code[1])}
    assert {name for name in named if not any(f"/{file}".endswith(f"/{name}") for file in files)} <= _NO_MODULES


@pytest.mark.parametrize("page", PAGES)
def test_a_page_holds_no_marks_of_a_merge(page: str) -> None:
    """Fails: a reader gets both versions of a sentence, and `<<<<<<<` between them."""
    assert re.findall(r"^(?:<{7}|={7}$|>{7})", _text(page), re.MULTILINE) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_every_variable_in_the_documentation_is_a_setting(page: str) -> None:
    known = {name for name, _, _ in settings_table()}
    assert set(_VARIABLE.findall(_text(page))) <= known


def test_the_readmes_query_for_healed_shards_counts_heals_by_reuse_and_their_durations() -> None:
    """Fails: a shard that the next run found good looks as if it were still broken, or healed days later."""
    began = datetime(2026, 11, 26, 12, tzinfo=UTC)

    def attempt(shard: int, number: int, status: Status, start_s: int, took_s: int | None) -> Attempt:
        start = began + timedelta(seconds=start_s)
        end = None if took_s is None else (start + timedelta(seconds=took_s)).isoformat()
        name = f"shard_{shard:02d}"
        return Attempt(name, "run", number, status, start.isoformat(), end, None, None, None, "host", 1, "0", number)

    attempts = [
        attempt(0, 1, Status.SUCCEEDED, 0, 1),
        attempt(1, 1, Status.FAILED, 0, 1),
        attempt(1, 2, Status.SUCCEEDED, 3, 2),
        attempt(1, 1, Status.REUSED, 5000, 1),
        attempt(2, 1, Status.SUCCEEDED, 0, 1),
        attempt(2, 1, Status.KILLED, 100, None),
        attempt(2, 1, Status.REUSED, 108, 2),
        attempt(2, 1, Status.SUCCEEDED, 5000, 1),
        attempt(3, 1, Status.FAILED, 200, 1),
    ]
    with duckdb.connect() as connection:
        SHARD_ATTEMPTS.create(connection)
        SHARD_ATTEMPTS.insert(connection, attempts)
        rows = connection.execute(_readme_query("shard_attempts")).fetchall()
    assert [(shard, status, healed_by, how, after_s) for shard, _, status, _, healed_by, how, after_s in rows] == [
        ("shard_01", "failed", 2, "succeeded", 5.0),
        ("shard_02", "killed", 1, "reused", 10.0),
        ("shard_03", "failed", None, None, None),
    ]


def test_the_readmes_query_for_rejected_rows_runs_on_the_table_that_is_published() -> None:
    with duckdb.connect() as connection:
        quarantine_table(load_project(shipped_folder()).contract).create(connection)
        connection.execute(
            "INSERT INTO quarantine VALUES ('crm', 'crm.csv', 7, NULL, ',', 'missing_customer_id', NULL),"
            " ('crm', 'crm.csv', 9, NULL, ',', 'missing_customer_id', NULL)"
        )
        assert connection.execute(_readme_query("quarantine")).fetchone() == (
            *("crm", "missing_customer_id", 2),
            "crm.csv:7",
        )


def _readme_query(table: str) -> str:
    """The statement in the README that reads this table."""
    statements: str = next(block for block, _ in _CODE.findall(_text("README.md")) if "FROM merged_profiles" in block)
    return next(part for part in statements.split(";") if f"FROM {table}" in part)


def test_every_command_and_option_is_documented() -> None:
    page = _text("docs/reference/command-line.md")
    for command in COMMANDS:
        section = page.partition(f"\n## {command}\n")[2].partition("\n## ")[0]
        assert section, command
        missing = {option for option in _options(command) - {"-h", "--help"} if f"`{option}" not in section}
        assert not missing, command


def test_every_setting_has_a_meaning() -> None:
    assert [name for name, _, meaning in settings_table() if not meaning] == []


def test_every_table_of_the_warehouse_is_documented() -> None:
    page = _text("docs/reference/tables.md")
    assert [name for name in table_names() if f"\n## {name}\n" not in page] == []


def test_every_parser_has_a_help_for_every_argument() -> None:
    for command in COMMANDS:
        module = importlib.import_module(f"etl_assets.cli.{command}_command")
        parser = cast("argparse.ArgumentParser", module.add_parser(Parser().add_subparsers()))
        assert all(action.help for action in parser._actions), command
