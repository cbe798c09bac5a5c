"""The drill: break a shard on purpose, let the pipeline recover, and prove that the result is the same.

Two whole pipelines in processes of their own, on the same exports but each with an ETL_HOME in a temporary folder: one
undisturbed, one with a fault. The second result is compared with the first. No file of the user is written to.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from etl_assets.engine.duck import Limits
from etl_assets.engine.faults import CHAOS_VARIABLE, FAULT_VARIABLE, Action
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.sweeping import leftovers
from etl_assets.engine.published.attempts import Attempt, read_attempts
from etl_assets.engine.published.checks import check_warehouse, warehouse_checks
from etl_assets.engine.published.shards import inspect_shards
from etl_assets.engine.published.snapshots import current_snapshot
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.site import Site

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
_LIMITS = Limits(memory_mb=256)
# Takes an event of a step, or a note.
_Reporter = Callable[[Mapping[str, Any] | None, str | None], None]
# Settings of the user that hold in a drill, too.
_KEPT_SETTINGS = ("ETL_WORKERS", "ETL_MEMORY_LIMIT", "ETL_MAX_UNPACKED", "ETL_SOURCE_TIMEOUT_S")


@dataclass(frozen=True)
class Moment:
    """One thing that happened in a run, `at_s` seconds after the drill began.

    Either an event of a step, as `run --events jsonl` writes it, or a `note`: the command, its end, a line of stderr.
    """

    at_s: float
    run: str
    step: Mapping[str, Any] | None = None
    note: str | None = None


@dataclass(frozen=True)
class Proof:
    """A claim that must hold after recovery."""

    claim: str
    expected: str
    found: str

    @property
    def holds(self) -> bool:
        """Whether it holds."""
        return self.expected == self.found


@dataclass(frozen=True)
class Result:
    """The attempts at the shard, and the proofs."""

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
    site: Site,
    *,
    kind: str,
    shard_id: str,
    failing: int,
    on_moment: Callable[[Moment], None],
) -> Result:
    """Run undisturbed, run with the fault, recover, and compare.

    `folder` is empty and the caller's to remove; of `site` the project and the number of shards are used.
    """
    began_s = time.monotonic()
    undisturbed = replace(site, home=Home(folder / "undisturbed"))
    disturbed = replace(site, home=Home(folder / "disturbed"))

    def reporter(run: str) -> _Reporter:
        return lambda step, note: on_moment(Moment(time.monotonic() - began_s, run, step, note))

    plain = _environment(sources, undisturbed)
    code = _run(plain, reporter("undisturbed"))
    exit_codes: list[int] = []
    environment = _environment(sources, disturbed) | {
        FAULT_VARIABLE: fault_text(kind, shard_id, failing),
        "ETL_SHARD_TIMEOUT_S": str(HANG_TIMEOUT_S if kind == "hang" else 0),
    }
    for number in range(MAX_RUNS):
        # Only the first run has the fault, as in an accident. Then the drill does what a person would do: it runs
        # again.
        armed = environment if number == 0 else _environment(sources, disturbed)
        exit_codes.append(_run(armed, reporter("disturbed" if number == 0 else "recovery")))
        if exit_codes[-1] == 0:
            break
    proofs = [Proof("the undisturbed run published", "exit 0", _exit(code))]
    proofs += _proofs(undisturbed, disturbed, kind, shard_id, exit_codes)
    known = read_attempts(disturbed.home, disturbed.shard_ids)
    return Result(
        [attempt for attempt in known if attempt.shard_id == shard_id],
        exit_codes,
        sum(attempt.status is Status.SUCCEEDED for attempt in known),
        sum(attempt.status is Status.REUSED for attempt in known),
        proofs,
    )


def _environment(sources: Path, site: Site) -> dict[str, str]:
    home = site.home.root
    kept = {name: value for name, value in os.environ.items() if not _is_ours(name)}
    limits = {name: value for name in _KEPT_SETTINGS if (value := os.environ.get(name))}
    return (
        kept
        | limits
        | {
            "ETL_PROJECT": str(site.project.folder or ""),
            "ETL_SOURCES": str(sources),
            "ETL_HOME": str(home),
            "ETL_NUM_SHARDS": str(site.shard_count),
            "ETL_MAX_REJECT_RATIO": os.environ.get("ETL_MAX_REJECT_RATIO") or "1",
            "DAGSTER_HOME": str(home.with_name(f"{home.name}-dagster")),
        }
    )


def _is_ours(name: str) -> bool:
    return name.startswith("ETL_") or name in ("DAGSTER_HOME", CHAOS_VARIABLE)


def _run(environment: Mapping[str, str], report: _Reporter) -> int:
    """One `etl-assets run` in a process of its own; returns its exit code, negative for the signal that ended it."""
    command = [sys.executable, "-m", "etl_assets.cli.main", "run", "--events", "jsonl"]
    fault = environment.get(FAULT_VARIABLE)
    report(None, "etl-assets run" + (f"   with {FAULT_VARIABLE}='{fault}'" if fault else ""))
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None, "it is a pipe"
        for line in process.stdout:
            _report_line(line.rstrip(), report)
        code = process.wait(timeout=RUN_TIMEOUT_S)
    report(None, _exit(code))
    return code


def _report_line(line: str, report: _Reporter) -> None:
    """A line of the run: an event on stdout, or a message on stderr."""
    try:
        document = json.loads(line)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        report(None, line)
    elif document.get("event") == "step":
        report(document, None)


def _exit(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def _proofs(undisturbed: Site, disturbed: Site, kind: str, shard_id: str, exit_codes: list[int]) -> list[Proof]:
    before, after = read_publication(undisturbed.home), read_publication(disturbed.home)
    known = read_attempts(disturbed.home, [shard_id])
    struck = any(not attempt.status.is_done for attempt in known)
    # A corrupted file is found by its next reader: the attempt that wrote it has succeeded.
    struck = struck or (kind == "corrupt" and len(known) > 1)
    found = check_warehouse(disturbed, _LIMITS, warehouse_checks(disturbed.project)) if after else []
    failed = [finding.name for finding in found if not finding.passed]
    obstacles = inspect_shards(disturbed).obstacles if after else {"all shards": "nothing published"}
    left = leftovers(disturbed.home)
    return [
        Proof("the fault struck", "yes", "yes" if struck else "no"),
        Proof("the pipeline recovered", "exit 0", _exit(exit_codes[-1])),
        Proof("same number of profiles", _text(before and before.record_count), _text(after and after.record_count)),
        Proof("same digest", _text(before and before.digest), _text(after and after.digest)),
        Proof("checks of the warehouse", "all passed", "all passed" if found and not failed else _text(failed)),
        Proof("quarantine as large", str(_quarantined(undisturbed)), str(_quarantined(disturbed))),
        Proof("every shard current and undamaged", "none to repair", ", ".join(obstacles) or "none to repair"),
        Proof("no temporary file left", "none", ", ".join(left) or "none"),
    ]


def _text(value: object) -> str:
    return str(value) if value else "nothing published"


def _quarantined(site: Site) -> int:
    found = [current_snapshot(site.home, name) for name in site.contract.source_names]
    return sum(snapshot.rows_quarantined for snapshot in found if snapshot is not None)
