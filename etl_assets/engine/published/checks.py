"""Checks that read finished work again: the accounting of a source, the promises about the warehouse.

A check of the warehouse is a statement that returns one row whose last column is `passed` and whose other columns are
figures to show. Its leading comment is what the UI shows. The engine's own are `sql/check_*.sql`, with `{key}` for the
contract's key and `{entity}` in their names; one more follows from what the contract promises of the profiles. A
project's `sql/checks/*.sql` are checks of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.holding import held
from etl_assets.engine.published.promises import promise_rules
from etl_assets.engine.published.snapshots import QUARANTINE_FILE, REJECTED_KEYS_FILE, Snapshot
from etl_assets.engine.published.warehouse import PROFILES_TABLE, opened_whole
from etl_assets.engine.sql_text import identifier, pattern, statement
from etl_assets.project.contract import Contract
from etl_assets.project.loading import Project

_PREFIX, _SUFFIX = "check_", ".sql"
PROMISES = "profiles_as_declared"


@dataclass(frozen=True)
class Check:
    """A check: `statement` returns one row, the last column of which is `passed`."""

    name: str
    description: str
    statement: str


@dataclass(frozen=True)
class Finding:
    """The result of a check; `facts` are its figures."""

    name: str
    passed: bool
    facts: dict[str, int]


def warehouse_checks(project: Project) -> tuple[Check, ...]:
    """Every check of the warehouse: the engine's, that of the declared promises, the project's own."""
    contract = project.contract
    own = [Check(name, _leading_comment(text), text) for name, text in project.checks.items()]
    return (*_engine_checks(contract), *_promises_check(contract), *own)


def _engine_checks(contract: Contract) -> list[Check]:
    files = sorted(file.name for file in (resources.files("etl_assets.engine") / "sql").iterdir())
    names = [name[: -len(_SUFFIX)] for name in files if name.startswith(_PREFIX)]
    texts = {name: statement(name).replace("{key}", identifier(contract.key.name)) for name in names}
    return [
        Check(name.removeprefix(_PREFIX).replace("entity", contract.entity), _leading_comment(text), text)
        for name, text in texts.items()
    ]


def _promises_check(contract: Contract) -> list[Check]:
    """The check of what the contract declares of profile columns, if it declares any limits."""
    checked = promise_rules(contract)
    if not checked:
        return []
    counts = ", ".join(f"count(*) FILTER ({rule}) AS {identifier(f'bad_{name}')}" for name, rule in checked.items())
    passed = " + ".join(identifier(f"bad_{name}") for name in checked)
    text = f"SELECT {counts}, {passed} = 0 AS passed FROM {PROFILES_TABLE}"
    return [Check(PROMISES, f"Every profile keeps what is declared of {', '.join(checked)}.", text)]


def _leading_comment(text: str) -> str:
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return " ".join(line.removeprefix("--").strip() for line in lines[:first])


def check_warehouse(home: Home, limits: duck.Limits, checks: Sequence[Check]) -> list[Finding]:
    """Run checks against the published warehouse; duckdb.Error or OSError when it cannot be opened."""
    with opened_whole(home, limits) as connection:
        findings = []
        for check in checks:
            cursor = connection.execute(check.statement)
            names = [column[0] for column in cursor.description or []]
            row = cursor.fetchone()
            assert row is not None, "a check is an aggregate"
            facts = dict(zip(names, row, strict=True))
            findings.append(Finding(check.name, bool(facts.pop("passed")), facts))
        return findings


def recount_source(home: Home, snapshot: Snapshot) -> Finding:
    """Count the rows of a snapshot's files by their own footers and compare them with the snapshot's accounting.

    Raises SourceChangedError when another run has replaced the snapshot, duckdb.Error when a file cannot be read.
    """
    folder = home.snapshot(snapshot.source, snapshot.folder)
    with held(home, [snapshot]), duck.reader(folder) as connection:
        rows = connection.execute(
            f"SELECT file_name LIKE '%/{QUARANTINE_FILE}', sum(num_rows)::BIGINT "
            f"FROM parquet_file_metadata(?) WHERE file_name NOT LIKE '%/{REJECTED_KEYS_FILE}' GROUP BY 1",
            [f"{pattern(folder)}/*.parquet"],
        ).fetchall()
    counts = dict(rows)
    accepted, quarantined = counts.get(False, 0), counts.get(True, 0) - snapshot.cells_quarantined
    facts = {
        "rows_in": snapshot.rows_in,
        "rows_accepted": accepted,
        "rows_quarantined": quarantined,
        "cells_quarantined": snapshot.cells_quarantined,
    }
    return Finding("accounting_closed", snapshot.rows_in == accepted + quarantined, facts)
