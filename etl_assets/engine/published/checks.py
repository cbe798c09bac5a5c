"""Checks that read finished work again: the accounting of a source, the promises about the warehouse.

The engine's own checks of the warehouse are `sql/check_*.sql`, with `{key}` for the contract's key and `{entity}` in
their names; one more follows from what the contract promises of the profiles. Each returns one row whose last column is
`passed` and whose other columns are figures to show. Only `nothing_unusual`, which warns, returns rows that fail.

A project's checks are queries whose rows are failures: the files in `sql/checks/`, and the words on columns. Their
leading comment is what the UI shows. Those that block run on the warehouse before it is published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.column_words import word_sql, word_text
from etl_assets.engine.published.failing_rows import (
    FailingRows,
    RefusedError,
    add_source_views,
    bind,
    failing_rows,
    sources_named,
)
from etl_assets.engine.published.holding import held, staged_held
from etl_assets.engine.published.lake_versions import copied_files, fetch_profiles, fetch_publication
from etl_assets.engine.published.mirroring import fetch_whole
from etl_assets.engine.published.promises import promise_rules
from etl_assets.engine.published.snapshots import QUARANTINE_FILE, REJECTED_KEYS_FILE, Snapshot
from etl_assets.engine.published.warehouse import PROFILES_TABLE, opened_whole
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, pattern, statement
from etl_assets.errors import Action, Advice, CheckError, ConfigError
from etl_assets.project.column_checks import column_checks
from etl_assets.project.contract import Contract
from etl_assets.project.loading import CONTRACT_FILE, Project
from etl_assets.project.severity import Severity

_PREFIX, _SUFFIX = "check_", ".sql"
PROMISES = "profiles_as_declared"
NOTHING_UNUSUAL = "nothing_unusual"


@dataclass(frozen=True)
class Check:
    """A check. `file` is the project's file that declares it, empty for one of the engine's own.

    The statement of a project's check, and of one that only warns, returns the rows that fail; the engine's others
    return one row that ends in `passed`.
    """

    name: str
    description: str
    statement: str
    file: str = ""
    severity: Severity = Severity.ERROR
    is_blocking: bool = False

    @property
    def returns_failing_rows(self) -> bool:
        """Whether no row means that it has passed."""
        return bool(self.file) or self.severity is Severity.WARN


@dataclass(frozen=True)
class Finding:
    """The result of a check; `facts` are its figures, `failing` its rows, `error` why it could not be run."""

    name: str
    passed: bool
    facts: Mapping[str, int] = field(default_factory=dict)
    severity: Severity = Severity.ERROR
    failing: FailingRows | None = None
    error: str = ""


def warehouse_checks(project: Project) -> tuple[Check, ...]:
    """Every check of the warehouse: the engine's, that of the declared promises, the project's own.

    ConfigError when two have the same name.
    """
    contract = project.contract
    found = (*_engine_checks(contract), *_promises_check(contract), *_project_checks(project))
    names = [check.name for check in found]
    doubled = [check for number, check in enumerate(found) if check.name in names[:number]]
    if doubled:
        raise ConfigError(
            f"Two checks are called {' and two '.join(check.name for check in doubled)}; the second is declared in "
            f"{', '.join(check.file for check in doubled)}.",
            Advice(Action.EDIT, value=doubled[0].file),
            subject=doubled[0].file,
        )
    return found


def _engine_checks(contract: Contract) -> list[Check]:
    files = sorted(file.name for file in (resources.files("etl_assets.engine") / "sql").iterdir())
    names = [name[: -len(_SUFFIX)] for name in files if name.startswith(_PREFIX)]
    texts = {name: statement(name).replace("{key}", identifier(contract.key.name)) for name in names}
    return [
        Check(short, _leading_comment(text), text, severity=_severity(short))
        for name, text in texts.items()
        for short in [name.removeprefix(_PREFIX).replace("entity", contract.entity)]
    ]


def _severity(name: str) -> Severity:
    return Severity.WARN if name == NOTHING_UNUSUAL else Severity.ERROR


def _promises_check(contract: Contract) -> list[Check]:
    """The check of what the contract declares of profile columns, if it declares any limits."""
    checked = promise_rules(contract)
    if not checked:
        return []
    counts = ", ".join(f"count(*) FILTER ({rule}) AS {identifier(f'bad_{name}')}" for name, rule in checked.items())
    passed = " + ".join(identifier(f"bad_{name}") for name in checked)
    text = f"SELECT {counts}, {passed} = 0 AS passed FROM {PROFILES_TABLE}"
    return [Check(PROMISES, f"Every profile keeps what is declared of {', '.join(checked)}.", text)]


def _project_checks(project: Project) -> list[Check]:
    """The checks that words on columns declare, then those of `sql/checks/`."""
    contract = project.contract
    found = [
        Check(check.name, word_text(check, contract), word_sql(check, contract), CONTRACT_FILE)
        for check in column_checks(contract)
    ]
    found += [
        Check(name, _leading_comment(text), text, f"sql/checks/{name}.sql") for name, text in project.checks.items()
    ]
    return [_ruled(check, contract) for check in found]


def _ruled(check: Check, contract: Contract) -> Check:
    rule = contract.rule_of(check.name)
    description = rule.description or check.description
    return Check(check.name, description, check.statement, check.file, rule.severity, rule.blocking)


def _leading_comment(text: str) -> str:
    lines = text.splitlines()
    first = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return " ".join(line.removeprefix("--").strip() for line in lines[:first])


def check_warehouse(site: Site, limits: duck.Limits, checks: Sequence[Check]) -> list[Finding]:
    """Run checks against the published warehouse. A project's check that DuckDB refuses has failed.

    Raises duckdb.Error or OSError when the warehouse cannot be opened, SourceChangedError when a source that a check
    reads is staged again and again meanwhile.
    """
    statements = [check.statement for check in checks if check.file]
    names = sources_named(site.contract, statements)
    folders = site.home.staged_folders(names)
    if site.lake is not None:
        fetch_publication(site.home, site.lake, site.contract)
        fetch_profiles(site.home, site.lake, copied_files(site.home))
    with (
        staged_held(site.home, names) as snapshots,
        opened_whole(site.home, limits, folders=folders) as connection,
    ):
        if site.lake is not None:
            fetch_whole(site, snapshots.values())
        add_source_views(connection, site, snapshots, statements)
        return [_run(connection, site.contract, check) for check in checks]


def _run(connection: duckdb.DuckDBPyConnection, contract: Contract, check: Check) -> Finding:
    if check.returns_failing_rows:
        return _run_own(connection, contract, check)
    cursor = connection.execute(check.statement)
    names = [column[0] for column in cursor.description or []]
    row = cursor.fetchone()
    assert row is not None, "a check is an aggregate"
    facts = dict(zip(names, row, strict=True))
    passed = bool(facts.pop("passed"))
    return Finding(check.name, passed, facts)


def _run_own(connection: duckdb.DuckDBPyConnection, contract: Contract, check: Check) -> Finding:
    try:
        found = failing_rows(connection, check.statement, contract)
    except RefusedError as error:
        # Deliberately no warning, whatever is declared: no one knows what it would have found.
        return Finding(check.name, False, error=f"DuckDB refuses {check.file or check.name} ({error}).")
    return Finding(check.name, not found.count, {"failing_rows": found.count}, check.severity, found)


def require_publishable(connection: duckdb.DuckDBPyConnection, site: Site, snapshots: Mapping[str, Snapshot]) -> None:
    """Bind the project's checks and run those that block on the current database, before it is published.

    CheckError names every check that DuckDB refuses, and every blocking one that fails.
    """
    checks = [check for check in warehouse_checks(site.project) if check.file]
    add_source_views(connection, site, snapshots, [check.statement for check in checks])
    refused, failed = [], []
    for check in checks:
        try:
            bind(connection, check.statement)
        except RefusedError as error:
            refused.append((check, f"DuckDB refuses {check.file} ({error})"))
            continue
        if check.is_blocking:
            finding = _run_own(connection, site.contract, check)
            if not finding.passed:
                failed.append((check, finding.error or _failing_text(finding.failing)))
    if refused or failed:
        raise _unpublishable(refused, failed)


def _unpublishable(refused: Sequence[tuple[Check, str]], failed: Sequence[tuple[Check, str]]) -> CheckError:
    found = [*refused, *failed]
    lines = "".join(f"\n  {check.name}: {text}; see {check.file}" for check, text in found)
    return CheckError(
        f"The project's checks keep the warehouse from being published; the last one stays.{lines}",
        *[Advice(Action.EDIT, value=check.file) for check, _ in refused[:1]],
        subject=found[0][0].name,
    )


def _failing_text(failing: FailingRows | None) -> str:
    """How many rows, and the first one; a check that draws at random may have had it in one query only."""
    assert failing is not None, "a check that could be run"
    counted = f"{failing.count:,} failing row{'' if failing.count == 1 else 's'}"
    if not failing.rows:
        return counted
    cells = ", ".join(f"{name} = {cell}" for name, cell in zip(failing.columns, failing.rows[0], strict=True))
    return f"{counted}, such as {cells}"


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
