"""`make bench ARGS=--ui`: a backfill of all shards in a running Dagster UI, for this pipeline and an idiomatic project.

Each project is started as its user starts it, with daemon and run queue. The benchmark sends the GraphQL request that
the UI's button sends, and takes all times from Dagster's own record. The backfill daemon polls every 30 s, so that a
request waits for it at random; here every request comes equally long after a poll.
"""

import contextlib
import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from bench import measure
from bench.server import Server, ServerError, free_port, serve
from bench.ways import CHECKOUT, Case, Kind, Start, environment, etl_assets, settings, warehouse
from etl_assets.engine.files.layout import Home
from etl_assets.engine.routing import shard_keys
from etl_assets.orchestration.partitions import shards_a_run

# Half of the daemon's polling interval: a request waits as long for the next poll as a random request does on average.
AFTER_POLL_S = 15.0
# In dagster.yaml: the launcher that forks runs, and the one it is measured against.
FORKING = ("instance.warm_launcher", "instance.launcher")
FORKING_CLASS = ("WarmRunLauncher", "WatchedRunLauncher")
_BACKFILL_DAEMON = "BACKFILL"
_MERGE = "merged_profiles"
# The measures of one backfill, in the order of the table; the last four are means over its runs.
MEASURES = (
    "first_run_s",
    "last_shard_s",
    "merged_s",
    "shown_s",
    "queue_s",
    "process_start_s",
    "work_s",
    "engine_s",
)

_READY = """{
    workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
        __typename ... on PythonError { message }
    } } } }
    instance { daemonHealth { allDaemonStatuses { daemonType required healthy lastHeartbeatTime } } }
}"""
_REQUEST = """mutation($parameters: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $parameters) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
} }"""
# Sent every second, so it asks for no more than is needed.
_PROGRESS = """query($backfill: String!, $since: Float!) {
    partitionBackfillOrError(backfillId: $backfill) { ... on PartitionBackfill { status endTimestamp } }
    runsOrError(filter: {createdAfter: $since}) { ... on Runs { results { status assetSelection { path } } } }
}"""
_RUNS = """query($since: Float!) { runsOrError(filter: {createdAfter: $since}) { ... on Runs { results {
    status creationTime assetSelection { path } tags { key value }
    stats { ... on RunStatsSnapshot { launchTime startTime endTime } }
} } } }"""


@dataclass(frozen=True)
class Run:
    """One run as Dagster recorded it, in Unix times: created, process launched, started by its process, ended."""

    created: float
    launched: float
    started: float
    ended: float


@dataclass(frozen=True)
class Backfill:
    """The times of one backfill, in seconds.

    The first four count from the request: until the first run was created, the last shard was built, the merge was done
    (None for a project that does not merge) and the UI showed the backfill as completed. The others are means over all
    runs: time in the queue, time until the process had started, time at work. `engine_s` is the engine's part of the
    work (None when it is not known).
    """

    first_run_s: float
    last_shard_s: float
    merged_s: float | None
    shown_s: float
    queue_s: float
    process_start_s: float
    work_s: float
    engine_s: float | None = None


@dataclass(frozen=True)
class Project:
    """A Dagster project that is served, the partitions of its asset `shard_profiles`, and whether it merges them.

    `run_count` is how many runs a backfill of so many shards has.
    `prepare` gets a case, a scratch folder, a port, a log and a timeout in seconds. It makes everything that the
    backfill needs, and nothing of its result.
    """

    name: str
    title: str
    kind: Kind
    prepare: Callable[[Case, Path, int, Path, float], Start]
    partitions: Callable[[int], Sequence[str]]
    merges: bool = False
    needs_peer_python: bool = False
    run_count: Callable[[int], int] = int


@dataclass
class UiLine:
    """The backfills of one project so far; `problem` is the reason why its figures do not count."""

    project: Project
    backfills: list[Backfill] = field(default_factory=list)
    problem: str | None = None

    def median(self, measure: str) -> float | None:
        """The median of the backfills; None when they do not count or lack the measure."""
        values = [getattr(backfill, measure) for backfill in self.backfills]
        if self.problem or not values or None in values:
            return None
        return float(statistics.median(values))


def measure_backfill(
    project: Project, case: Case, scratch: Path, log: Path, timeout_s: float
) -> tuple[Start, Backfill]:
    """Serve the project, backfill all its shards and stop the server; the caller has to compare the result.

    Raises ServerError when it fails or takes more than `timeout_s` seconds, including the start of the server.
    """
    deadline = time.monotonic() + timeout_s
    port = free_port()
    start = project.prepare(case, scratch, port, log, timeout_s)
    # This backfill must not pay for data of an earlier run that is still waiting to be written.
    os.sync()
    with serve(start.command, environment=start.environment, folder=scratch, log=log, port=port) as server:
        polled = server.wait(lambda: _last_poll(server.ask(_READY)), deadline, "the server and its daemon")
        time.sleep(max(0.0, polled + AFTER_POLL_S - time.time()))
        requested = time.time()
        backfill_id = _request(server, project.partitions(case.shards))
        shown = server.wait(
            lambda: _completed(server.ask(_PROGRESS, backfill=backfill_id, since=requested), with_merge=project.merges),
            deadline,
            "the backfill and its merge" if project.merges else "the backfill",
        )
        recorded = server.wait(lambda: server.ask(_RUNS, since=requested), deadline, "the record of the runs")
    runs, merges = sort_runs(recorded, backfill_id)
    expected = project.run_count(case.shards)
    if len(runs) != expected:
        raise ServerError(f"{len(runs)} runs for {case.shards} shards, expected {expected}")
    return start, times(requested, runs, merges, shown)


def times(requested: float, runs: Sequence[Run], merges: Sequence[Run], shown: float) -> Backfill:
    """The times of a backfill from its recorded runs; `requested` and `shown` are Unix times."""
    return Backfill(
        first_run_s=min(run.created for run in runs) - requested,
        last_shard_s=max(run.ended for run in runs) - requested,
        merged_s=max(run.ended for run in merges) - requested if merges else None,
        shown_s=shown - requested,
        queue_s=statistics.fmean(run.launched - run.created for run in runs),
        process_start_s=statistics.fmean(run.started - run.launched for run in runs),
        work_s=statistics.fmean(run.ended - run.started for run in runs),
    )


def sort_runs(recorded: Mapping[str, Any], backfill_id: str) -> tuple[list[Run], list[Run]]:
    """The runs of the backfill and the merges, sorted out from all runs.

    Raises ServerError when one of them did not succeed.
    """
    shards, merges = [], []
    for run in recorded["runsOrError"]["results"]:
        if {"key": "dagster/backfill", "value": backfill_id} in run["tags"]:
            shards.append(_succeeded(run))
        elif _is_merge(run):
            merges.append(_succeeded(run))
    return shards, merges


def document(rows: int, shards: int, lines: Sequence[UiLine]) -> dict[str, Any]:
    """The backfills as a JSON document; times in seconds."""
    return {
        "rows": rows,
        "shards": shards,
        "request_after_daemon_poll_s": AFTER_POLL_S,
        "projects": [
            {
                "name": line.project.name,
                "title": line.project.title,
                "kind": line.project.kind.value,
                "problem": line.problem,
                "median": None if line.problem else {measure: line.median(measure) for measure in MEASURES},
                "backfills": [] if line.problem else [asdict(backfill) for backfill in line.backfills],
            }
            for line in lines
        ],
    }


def engine_s(result: Path) -> float | None:
    """Mean seconds of the engine for one shard; None when the result has no manifest of its shards."""
    with contextlib.closing(duckdb.connect(result, read_only=True)) as connection:
        try:
            row = connection.execute("SELECT avg(elapsed_ms) / 1000 FROM shard_manifest").fetchone()
        except duckdb.CatalogException:
            return None
    return None if row is None or row[0] is None else float(row[0])


def _last_poll(answer: Mapping[str, Any]) -> float | None:
    """The time of the backfill daemon's last poll (Unix time); None while the daemon or the code is not ready."""
    entries = answer["workspaceOrError"].get("locationEntries") or []
    locations = [entry["locationOrLoadError"] for entry in entries]
    for location in locations:
        if location and location["__typename"] == "PythonError":
            raise ServerError(f"the code does not load: {location['message']}")
    daemons = [daemon for daemon in answer["instance"]["daemonHealth"]["allDaemonStatuses"] if daemon["required"]]
    if not locations or None in locations or not all(daemon["healthy"] for daemon in daemons):
        return None
    polls: list[float] = [d["lastHeartbeatTime"] for d in daemons if d["daemonType"] == _BACKFILL_DAEMON]
    return polls[0] if polls else None


def _request(server: Server, partitions: Sequence[str]) -> str:
    """Request the backfill, once; returns its id."""
    parameters = {"assetSelection": [{"path": ["shard_profiles"]}], "partitionNames": list(partitions)}
    answer = server.ask(_REQUEST, parameters=parameters)["launchPartitionBackfill"]
    if "backfillId" not in answer:
        raise ServerError(f"the backfill is refused: {answer.get('message') or answer['__typename']}")
    return str(answer["backfillId"])


def _completed(answer: Mapping[str, Any], *, with_merge: bool) -> float | None:
    """The time at which the UI showed the backfill as completed (Unix time); None before that or before the merge."""
    backfill = answer["partitionBackfillOrError"]
    status = str(backfill["status"])
    if "FAIL" in status or "CANCEL" in status:
        raise ServerError(f"the backfill ended as {status}")
    merges = [run["status"] for run in answer["runsOrError"]["results"] if _is_merge(run)]
    ended = [status for status in merges if status in ("SUCCESS", "FAILURE", "CANCELED")]
    if not status.startswith("COMPLETED") or (with_merge and (not merges or len(ended) < len(merges))):
        return None
    return float(backfill["endTimestamp"])


def _is_merge(run: Mapping[str, Any]) -> bool:
    return {"path": [_MERGE]} in (run["assetSelection"] or [])


def _succeeded(run: Mapping[str, Any]) -> Run:
    if run["status"] != "SUCCESS":
        raise ServerError(f"a run ended as {run['status']}")
    stats = run["stats"]
    return Run(run["creationTime"], stats["launchTime"], stats["startTime"], stats["endTime"])


def _run_count(shard_count: int) -> int:
    return -(-shard_count // shards_a_run(shard_count))


def _ours(case: Case, scratch: Path, port: int, log: Path, timeout_s: float) -> Start:
    """Copy the published home without its shards and warehouse: the sources are staged, every shard has to be built."""
    shutil.copytree(case.home, scratch, dirs_exist_ok=True)
    shutil.rmtree(Home(warehouse(scratch).parent).shards)
    warehouse(scratch).unlink()
    command = etl_assets("ui", "--port", str(port))
    return Start(command, settings(case.sources, scratch, case.shards), warehouse(scratch), warehouse(case.home))


def _unforked(case: Case, scratch: Path, port: int, log: Path, timeout_s: float) -> Start:
    """The same with the launcher that starts a Python for each run, as Dagster's own does."""
    start = _ours(case, scratch, port, log, timeout_s)
    path = scratch / "dagster" / "dagster.yaml"
    text = path.read_text(encoding="utf-8")
    path.unlink()
    path.write_text(text.replace(*FORKING).replace(*FORKING_CLASS), encoding="utf-8")
    return start


def _theirs(case: Case, scratch: Path, port: int, log: Path, timeout_s: float) -> Start:
    """Read the sources into the database. Dagster keeps its default settings, except for telemetry."""
    home, result = scratch / "dagster", scratch / "profiles.duckdb"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n", encoding="utf-8")
    variables = environment() | {
        "BENCH_SOURCES": str(case.sources),
        "BENCH_OUT": str(result),
        "BENCH_SHARDS": str(case.shards),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": str(CHECKOUT),
    }
    module, python = "bench.peers.idiomatic_dagster", str(case.peer_python)
    cost = measure.measure(
        (python, "-c", f"from {module} import run; run('sources_job')"),
        environment=variables,
        folder=scratch,
        log=log,
        timeout_s=timeout_s,
    )
    if cost.exit_code != 0:
        raise ServerError("the sources could not be read")
    command = (python, "-m", "dagster", "dev", "--port", str(port), "-m", module)
    return Start(command, variables, result, warehouse(case.home))


PROJECTS: tuple[Project, ...] = (
    Project("etl_assets_ui", "etl-assets ui", Kind.OURS, _ours, shard_keys, merges=True, run_count=_run_count),
    Project(
        "etl_assets_ui_unforked",
        "a Python for each run",
        Kind.OURS,
        _unforked,
        shard_keys,
        merges=True,
        run_count=_run_count,
    ),
    Project(
        "idiomatic_dagster_ui",
        "dagster dev, DuckDB IO manager",
        Kind.PEER,
        _theirs,
        lambda count: [f"shard_{number:03d}" for number in range(count)],
        needs_peer_python=True,
    ),
)
