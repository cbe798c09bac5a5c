"""Where the time of one `etl-assets run` into an empty home goes: `python -m bench.phases SOURCES [SHARDS]`.

Two tables: the wall time of the main thread by phase, and the wall and CPU time spent in some functions, added up over
all threads. Deliberately wrapped functions and not a profiler, which doubles Dagster's time.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


class Clock:
    """Adds up the time spent in wrapped functions, over all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.taken: dict[str, list[float]] = {}

    def wrap(self, owner: ModuleType | type, name: str, label: str) -> None:
        """Add this function's wall seconds, CPU seconds of the calling thread and calls to those of the label."""
        self.taken[label] = [0.0, 0.0, 0]
        function: Callable[..., Any] = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            wall, cpu = time.perf_counter(), time.thread_time()
            try:
                return function(*arguments, **options)
            finally:
                with self._lock:
                    sums = self.taken[label]
                    for index, value in enumerate((time.perf_counter() - wall, time.thread_time() - cpu, 1)):
                        sums[index] += value

        setattr(owner, name, timed)


def _age_s() -> float:
    """Seconds since the start of this process."""
    started = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]) / _TICKS
    return float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0]) - started


def main(sources: Path, shard_count: int) -> None:
    """Run the pipeline once and print both tables."""
    marks: list[tuple[str, float]] = [("interpreter", _age_s())]
    with tempfile.TemporaryDirectory(prefix="phases-", dir=os.environ.get("TMPDIR")) as folder:
        os.environ |= {
            "ETL_SOURCES": str(sources.absolute()),
            "ETL_HOME": f"{folder}/home",
            "DAGSTER_HOME": f"{folder}/dagster",
            "ETL_NUM_SHARDS": str(shard_count),
        }
        from etl_assets.cli import main as command
        from etl_assets.cli import run_command  # noqa: F401  the command would import it later

        marks.append(("import of the engine (DuckDB, pydantic)", _age_s()))
        import dagster as dg

        from etl_assets.orchestration import run as launch

        marks.append(("import of Dagster", _age_s()))
        clock = _wrapped(dg, launch)
        code = command.main(["run"])
        marks.append(("run and report", _age_s()))
    before = 0.0
    print(f"\n{'phase':44} {'wall s':>8}")
    for name, at in marks:
        print(f"{name:44} {at - before:8.2f}")
        before = at
    print(f"{'process start to end':44} {before:8.2f}\n\n{'inside':44} {'wall s':>8} {'CPU s':>8} {'calls':>6}")
    for label, (wall, cpu, calls) in clock.taken.items():
        print(f"{label:44} {wall:8.2f} {cpu:8.2f} {calls:6.0f}")
    times = os.times()
    print(f"\nCPU of the process {times.user + times.system:.2f} s; exit code {code}")


def _wrapped(dg: ModuleType, launch: ModuleType) -> Clock:
    from dagster._core.instance.methods.event_methods import EventMethods

    from etl_assets.engine.reading import quarantine, surveying, verified
    from etl_assets.engine.steps import build, build_many, merge, shard_rows, stage
    from etl_assets.orchestration import merged_profiles, shard_profiles

    clock = Clock()
    # A function is wrapped in the module that calls it: a name that was imported there is a copy.
    for owner, name, label in (
        (dg.DagsterInstance, "from_ref", "Dagster: open the instance"),
        (launch._Pipeline, "__init__", "Dagster: definitions"),
        (launch._Pipeline, "stage", "run 1, sources"),
        (launch._Pipeline, "build", "run 2, shards"),
        (launch._Pipeline, "merge", "run 3, merge and checks"),
        (dg.DagsterInstance, "create_run_for_job", "Dagster: create a run"),
        (EventMethods, "handle_new_event", "Dagster: store an event"),
        (shard_profiles, "table_facts", "Dagster: schema and preview of a shard"),
        (merged_profiles, "table_facts", "Dagster: schema and preview of the merge"),
        (verified, "hash_files", "staging: hash the files"),
        (surveying, "survey", "staging: count and judge records"),
        (stage, "_write_partitions", "staging: parse, validate, route, write"),
        (stage, "finish_slices", "staging: read back, hash, duplicates"),
        (quarantine, "write", "staging: quarantine"),
        (build_many, "_attempted", "shard: all"),
        (build, "validate", "shard: validate"),
        (build, "_publish_manifest", "shard: manifest"),
        (merge, "merge_shards", "merge: all"),
        (shard_rows, "copy_shards", "merge: copy"),
        (merge, "hash_by_shard", "merge: read back, digest"),
        (merge, "drop_duplicates", "merge: duplicates"),
        (merged_profiles, "check_warehouse", "merge: checks of the warehouse"),
    ):
        clock.wrap(owner, name, label)
    return clock


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
