"""The engine in a process of its own, whose peak memory and time are measured; and the sizes of the heavy cases.

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

from etl_assets.engine.published import snapshots
from etl_assets.engine.site import Site
from etl_assets.engine.steps.merge import merge_shards
from etl_assets.engine.steps.stage import stage
from etl_assets.errors import EtlError
from etl_assets.pipeline.configuration import merge_limits, run_limits, site_of, staging_request
from etl_assets.project.loading import load_project
from etl_assets.project.settings import Settings, load_settings
from etl_assets_tests import factory

# The default run of the tests takes smaller cases of the same kind.
IS_FULL_SIZE = os.environ.get("HARNESS_ALL") == "1"


@dataclass(frozen=True)
class Outcome:
    """How a child ended: with its snapshot of crm as a document, or with the facts of its error."""

    snapshot: dict[str, Any] | None
    error: dict[str, Any] | None
    peak_mb: int
    elapsed_s: float


def environment(sources: Path, home: Path, **changes: str) -> dict[str, str]:
    """A small machine: one worker, 256 MB for DuckDB, two shards, any share of rejects; the tests' own project."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ETL_", "DAGSTER_", "CHAOS_"))}
    return kept | {
        "ETL_PROJECT": str(factory.PROJECT_FOLDER),
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
    """Run one action in a child; returns how it ended, its peak memory and its time."""
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


def error_facts(error: EtlError) -> dict[str, Any]:
    """An error as another process can read it: its kind, finding and advice."""
    advice = [
        {"action": str(one.action), "setting": one.setting, "value": one.value, "shards": list(one.shards)}
        for one in error.advice
    ]
    return {"kind": error.kind, "finding": error.finding, "advice": advice}


def configured() -> tuple[Site, Settings]:
    """The site and the settings of this process's environment."""
    settings = load_settings()
    return site_of(load_project(settings.project), settings), settings


def stage_source(site: Site, settings: Settings, name: str, *, force: bool = False) -> snapshots.Snapshot:
    """Stage one source with the limits of the settings."""
    return stage(site.contract.source(name), staging_request(site, settings), force=force)[0]


def build_shard(site: Site, settings: Settings, shard_id: str, run_id: str) -> None:
    """Build one shard with the limits that a worker has."""
    limits = run_limits(settings).share(settings.workers)
    factory.build_shard(site, factory.input_of(site, shard_id), run_id=run_id, limits=limits)


def merge(site: Site, settings: Settings, run_id: str) -> None:
    """Merge with the limits of the settings."""
    merge_shards(site, merge_limits(settings), run_id=run_id)


def _peak_mb() -> int:
    """The most memory this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():
        # Not getrusage: there, a child starts with the peak of the process that started it.
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) >> 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20


def _stage_crm() -> dict[str, Any]:
    snapshot = stage_source(*configured(), "crm")
    return snapshots.describe(snapshot) | {"reasons": snapshot.reasons}


def _run_all() -> dict[str, Any]:
    site, settings = configured()
    for name in site.contract.source_names:
        stage_source(site, settings, name)
    for shard_id in site.shard_ids:
        build_shard(site, settings, shard_id, "child")
    merge(site, settings, "child")
    return _stage_crm()


def main(action: str) -> None:
    """Do it and print the outcome as JSON."""
    started = time.perf_counter()
    snapshot, error = None, None
    try:
        snapshot = {"stage": _stage_crm, "all": _run_all}[action]()
    except EtlError as refused:
        error = error_facts(refused)
    outcome = {"snapshot": snapshot, "error": error, "peak_mb": _peak_mb()}
    print(json.dumps(outcome | {"elapsed_s": time.perf_counter() - started}))


if __name__ == "__main__":
    main(sys.argv[1])
