"""What is checked again on finished work, by reading it: the books of a source, the promises of the warehouse.

Each check of the warehouse is one file `sql/check_<name>.sql`: a statement that returns one row whose last column is
`passed` and whose others are the figures a person wants to see. Its leading comment is what the UI shows. A new file
is a new check; nothing else has to be changed.
"""

import contextlib
from dataclasses import dataclass
from importlib import resources

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files.publishing import Home
from etl_assets.engine.published import warehouse
from etl_assets.engine.steps.stage import Snapshot

_PREFIX, _SUFFIX = "check_", ".sql"


@dataclass(frozen=True)
class Check:
    """A check by its file: `description` is the file's leading comment."""

    name: str
    description: str

    @property
    def statement(self) -> str:
        """The SQL."""
        return duck.sql(f"{_PREFIX}{self.name}")


@dataclass(frozen=True)
class Finding:
    """What a check found; `facts` are its figures."""

    name: str
    passed: bool
    facts: dict[str, int]


def _find_checks() -> tuple[Check, ...]:
    files = sorted(file.name for file in (resources.files("etl_assets.engine") / "sql").iterdir())
    names = [name[len(_PREFIX) : -len(_SUFFIX)] for name in files if name.startswith(_PREFIX)]
    return tuple(Check(name, _leading_comment(duck.sql(f"{_PREFIX}{name}"))) for name in names)


def _leading_comment(statement: str) -> str:
    lines = statement.splitlines()
    first = next((number for number, line in enumerate(lines) if not line.startswith("--")), len(lines))
    return " ".join(line.removeprefix("--").strip() for line in lines[:first])


WAREHOUSE_CHECKS = _find_checks()


def check_warehouse(home: Home, limits: duck.Limits) -> list[Finding]:
    """Run every check against the published warehouse; duckdb.Error or OSError when it cannot be opened."""
    with warehouse.opened(home, limits) as connection:
        findings = []
        for check in WAREHOUSE_CHECKS:
            cursor = connection.execute(check.statement)
            names = [column[0] for column in cursor.description or []]
            row = cursor.fetchone()
            assert row is not None, "a check is an aggregate"
            facts = dict(zip(names, row, strict=True))
            findings.append(Finding(check.name, bool(facts.pop("passed")), facts))
        return findings


def recount_source(home: Home, snapshot: Snapshot) -> Finding:
    """Count the rows of a snapshot's files by their own footers and hold them against what the snapshot says."""
    folder = home.snapshot(snapshot.source, snapshot.snapshot)
    with contextlib.closing(duckdb.connect()) as connection:
        rows = connection.execute(
            "SELECT file_name LIKE '%/quarantine.parquet', sum(num_rows)::BIGINT "
            "FROM parquet_file_metadata(?) GROUP BY 1",
            [f"{duck.pattern(folder)}/*.parquet"],
        ).fetchall()
    counts = dict(rows)
    accepted, quarantined = counts.get(False, 0), counts.get(True, 0)
    facts = {"rows_in": snapshot.rows_in, "rows_accepted": accepted, "rows_quarantined": quarantined}
    return Finding("accounting_closed", snapshot.rows_in == accepted + quarantined, facts)
