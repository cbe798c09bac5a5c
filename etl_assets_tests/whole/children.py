"""The engine in a process of its own, whose peak memory and time are measured; and what sizes the heavy cases have.

A child gets the environment a user would set, so that memory is bounded by the settings and not by a test's wiring.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import merge
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import EtlError
from etl_assets.project.contract import SOURCES
from etl_assets.project.settings import load_settings
from etl_assets_tests import factory

# The default run of the tests takes smaller cases of the same kind.
IS_FULL_SIZE = os.environ.get("HARNESS_ALL") == "1"


@dataclass(frozen=True)
class Outcome:
    """How a child ended: its snapshot of crm as a document, or the name and text of its error."""

    snapshot: dict[str, Any] | None
    error: str | None
    peak_mb: int
    elapsed_s: float


def environment(sources: Path, home: Path, **changes: str) -> dict[str, str]:
    """A small machine: one worker, 256 MB for DuckDB, two shards, any share of rejects."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETL_", "DAGSTER_", "CHAOS_"))}
    return kept | {
        "ETL_SOURCES": str(sources),
        "ETL_HOME": str(home),
        "ETL_NUM_SHARDS": "2",
        "ETL_WORKERS": "1",
        "ETL_MEMORY_LIMIT": "256MB",
        "ETL_MAX_REJECT_RATIO": "1",
        **changes,
    }


def command(*arguments: str) -> list[str]:
    """The command line that starts this module with these arguments."""
    return [sys.executable, "-m", "etl_assets_tests.whole.children", *arguments]


def measured(action: str, env: Mapping[str, str], timeout_s: float) -> Outcome:
    """Run one action in a child and say how it ended and what it took."""
    done = subprocess.run(
        command(action), env=env, capture_output=True, encoding="utf-8", timeout=timeout_s, check=False
    )
    assert done.returncode == 0, done.stderr
    outcome = Outcome(**json.loads(done.stdout))
    # Seen with -s, and kept in the captured output of a failure.
    print(f"{action}: peak {outcome.peak_mb} MB, {outcome.elapsed_s:.1f} s", file=sys.stderr)
    return outcome


def files_under(folder: Path) -> Iterator[Path]:
    """Every file under a folder; none when there is no folder."""
    return (path for path in folder.rglob("*") if path.is_file())


def _peak_mb() -> int:
    """The most memory this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: there, a child starts with the peak of the process that started it.
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20


def _stage_crm() -> dict[str, Any]:
    snapshot, _ = staging.stage(SOURCES[0], load_settings().staging_request())
    return staging.describe(snapshot) | {"reasons": snapshot.reasons}


def _run_all() -> dict[str, Any]:
    settings = load_settings()
    for source in SOURCES:
        staging.stage(source, settings.staging_request())
    _build_and_merge(run_id="child", attempt=1)
    return _stage_crm()


def _build_and_merge(*, run_id: str, attempt: int) -> None:
    settings = load_settings()
    for shard_id in shard_keys(settings.shard_count):
        given = shard.shard_input(settings.home, shard_id, settings.shard_count)
        factory.build_shard(settings.home, given, run_id=run_id, attempt=attempt, limits=settings.worker_limits())
    merge.merge_shards(settings.home, settings.shard_count, settings.merge_limits(), run_id=run_id)


def main(action: str) -> None:
    """Do it and print the outcome as JSON."""
    started = time.perf_counter()
    snapshot, error = None, None
    try:
        snapshot = {"stage": _stage_crm, "all": _run_all}[action]()
    except EtlError as refused:
        error = f"{type(refused).__name__}: {refused}"
    outcome = {"snapshot": snapshot, "error": error, "peak_mb": _peak_mb()}
    print(json.dumps(outcome | {"elapsed_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main(sys.argv[1])
