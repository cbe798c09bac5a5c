"""The drill: break a shard on purpose, let the pipeline recover, and prove that the result is the same.

Two whole pipelines in processes of their own, on the same exports but each with an ETL_HOME in a temporary folder: one
undisturbed, one with a fault. What is read back from the second is held against the first; nothing of the user's is
written to.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from etl_assets.engine.duck import Limits
from etl_assets.engine.faults import FAULT_VARIABLE, Action
from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.publishing import Home
from etl_assets.engine.published import attempts, checks, warehouse
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published.attempts import Attempt, Status
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import stage as staging
from etl_assets.project.contract import SOURCES

# Where each kind of fault strikes, and the time limit under which a hanging attempt is interrupted.
FAULTS: dict[str, tuple[str, Action]] = {
    "raise": ("shard.before_sync", Action.RAISE),
    "kill": ("shard.before_swap", Action.KILL),
    "hang": ("shard.before_sync", Action.HANG),
    "torn-write": ("shard.before_swap", Action.TORN_WRITE),
    "disk-full": ("shard.begin", Action.DISK_FULL),
    "corrupt": ("shard.end", Action.CORRUPT),
}
HANG_TIMEOUT_S = 3
# A fault that outlives its process is healed by the next run; more than these would be a defect.
MAX_RUNS = 4
RUN_TIMEOUT_S = 3600


@dataclass(frozen=True)
class Line:
    """A line of a run's output, `at_s` seconds after the drill began."""

    at_s: float
    run: str
    text: str


@dataclass(frozen=True)
class Proof:
    """One thing that must hold after recovery."""

    claim: str
    expected: str
    found: str

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.expected == self.found


@dataclass(frozen=True)
class Result:
    """What happened to the shard, and what was proven."""

    attempts: list[Attempt]
    exit_codes: list[int]
    rebuilt: int
    reused: int
    proofs: list[Proof]

    @property
    def ok(self) -> bool:
        """Whether every proof holds."""
        return all(proof.holds for proof in self.proofs)


def fault_text(kind: str, shard_id: str, failing: int) -> str:
    """The value of ETL_FAULT for a kind of fault that strikes the shard's first `failing` attempts."""
    point, action = FAULTS[kind]
    numbers = ",".join(str(number) for number in range(1, failing + 1))
    return f"{point} {action} shard={shard_id} attempts={numbers}"


def drill(
    folder: Path,
    sources: Path,
    shard_count: int,
    *,
    kind: str,
    shard_id: str,
    failing: int,
    on_line: Callable[[Line], None],
) -> Result:
    """Run undisturbed, run with the fault, recover, and compare; `folder` is empty and the caller's to remove."""
    began = time.monotonic()
    undisturbed, disturbed = Home(folder / "undisturbed"), Home(folder / "disturbed")

    def tell(run: str) -> Callable[[str], None]:
        return lambda text: on_line(Line(time.monotonic() - began, run, text))

    plain = _environment(sources, undisturbed, shard_count)
    code = _run(plain, tell("undisturbed"))
    exit_codes: list[int] = []
    environment = _environment(sources, disturbed, shard_count) | {
        FAULT_VARIABLE: fault_text(kind, shard_id, failing),
        "ETL_SHARD_TIMEOUT_S": str(HANG_TIMEOUT_S if kind == "hang" else 0),
    }
    for number in range(MAX_RUNS):
        # The fault is in the first run only, as an accident is: what follows is what a person would do, run it again.
        armed = environment if number == 0 else _environment(sources, disturbed, shard_count)
        exit_codes.append(_run(armed, tell("disturbed" if number == 0 else "recovery")))
        if exit_codes[-1] == 0:
            break
    proofs = [Proof("the undisturbed run published", "exit 0", _exit(code))]
    proofs += _proofs(undisturbed, disturbed, shard_count, kind, shard_id, exit_codes)
    known = attempts.read_attempts(disturbed, shard_keys(shard_count))
    return Result(
        [attempt for attempt in known if attempt.shard_id == shard_id],
        exit_codes,
        sum(attempt.status is Status.SUCCEEDED for attempt in known),
        sum(attempt.status is Status.REUSED for attempt in known),
        proofs,
    )


def _environment(sources: Path, home: Home, shard_count: int) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _is_ours(name)}
    limits = {name: value for name in ("ETL_WORKERS", "ETL_MEMORY_LIMIT") if (value := os.environ.get(name))}
    return (
        kept
        | limits
        | {
            "ETL_SOURCES": str(sources),
            "ETL_HOME": str(home.root),
            "ETL_NUM_SHARDS": str(shard_count),
            "ETL_MAX_REJECT_RATIO": os.environ.get("ETL_MAX_REJECT_RATIO") or "1",
            "DAGSTER_HOME": str(home.root.with_name(f"{home.root.name}-dagster")),
        }
    )


def _is_ours(name: str) -> bool:
    return name.startswith("ETL_") or name in ("DAGSTER_HOME", "CHAOS_FAIL_SHARD")


def _run(environment: Mapping[str, str], tell: Callable[[str], None]) -> int:
    """One `etl-assets run` in a process of its own; returns its exit code, negative for the signal that ended it."""
    command = [sys.executable, "-m", "etl_assets.cli.main", "run"]
    fault = environment.get(FAULT_VARIABLE)
    tell("etl-assets run" + (f"   with {FAULT_VARIABLE}='{fault}'" if fault else ""))
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tell(line.rstrip())
        code = process.wait(timeout=RUN_TIMEOUT_S)
    tell(_exit(code))
    return code


def _exit(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def _proofs(
    undisturbed: Home, disturbed: Home, shard_count: int, kind: str, shard_id: str, exit_codes: list[int]
) -> list[Proof]:
    before, after = warehouse.read_publication(undisturbed) or {}, warehouse.read_publication(disturbed) or {}
    known = attempts.read_attempts(disturbed, [shard_id])
    struck = any(attempt.status not in (Status.SUCCEEDED, Status.REUSED) for attempt in known)
    # A corrupted file is found by whoever reads it: the attempt that wrote it has succeeded.
    struck = struck or (kind == "corrupt" and len(known) > 1)
    findings = (
        {check.name: check for check in checks.check_warehouse(disturbed, Limits(memory_mb=256))} if after else {}
    )
    unique = findings.get("customers_unique")
    books = findings.get("accounting_closed")
    problems = shardset.inspect_shards(disturbed, shard_count).problems if after else {"all": "nothing published"}
    return [
        Proof("the fault struck", "yes", "yes" if struck else "no"),
        Proof("the pipeline recovered", "exit 0", _exit(exit_codes[-1])),
        Proof("same customers", str(before.get("record_count")), str(after.get("record_count"))),
        Proof("every customer exactly once", "yes", "yes" if unique is not None and unique.passed else "no"),
        Proof("same digest", str(before.get("digest")), str(after.get("digest"))),
        Proof("rows in = accepted + quarantined", "yes", "yes" if books is not None and books.passed else "no"),
        Proof("quarantine as large", str(_quarantined(undisturbed)), str(_quarantined(disturbed))),
        Proof("every shard current and undamaged", "none to repair", ", ".join(problems) or "none to repair"),
        Proof("no temporary file left", "none", ", ".join(leftovers(disturbed)) or "none"),
    ]


def _quarantined(home: Home) -> int:
    found = [staging.current_snapshot(source, home) for source in SOURCES]
    return sum(snapshot.rows_quarantined for snapshot in found if snapshot is not None)


def leftovers(home: Home) -> list[str]:
    """Temporary files and folders anywhere under an ETL_HOME, relative to it."""
    found = sorted(home.root.rglob(f"{storage.TEMPORARY_PREFIX}*"))
    return [path.relative_to(home.root).as_posix() for path in found]
