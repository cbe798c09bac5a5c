"""Backfills in a Dagster UI: the times from Dagster's record, and which of them count. The server here is a fake."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pytest

from bench import backfill, data, run, server
from bench.backfill import Backfill, Project, Run, measure_backfill, sort_runs, times
from bench.server import ServerError
from bench.ways import FLOOR, Case, Kind, Start, environment, warehouse
from etl_assets_tests.bench.linux import needs_proc

# Sends the answers of its argument one after another, and then repeats the last one. Times in them count from the
# request. It refuses the request until it has sent the last answer about the daemon, and it has no runs until it has
# sent the last one about the progress.
SERVER = """
import json, sys, time
from http.server import BaseHTTPRequestHandler, HTTPServer

answers, requested, done = json.loads(sys.argv[2]), 0.0, set()

def shifted(value):
    if isinstance(value, dict):
        return {name: part + requested if name.endswith("Time") or name == "endTimestamp" else shifted(part)
                for name, part in value.items()}
    return [shifted(part) for part in value] if isinstance(value, list) else value

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        global requested
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["query"]
        (name,) = [name for name in answers if name in query] or ["tags"]
        if name == "launchPartitionBackfill":
            requested = time.time()
        if len(answers[name]) == 1:
            done.add(name)
        answer = answers[name].pop(0) if len(answers[name]) > 1 else answers[name][0]
        if name == "launchPartitionBackfill" and "daemonHealth" not in done:
            answer = {name: {"__typename": "TooEarly"}}
        if name == "tags" and "partitionBackfillOrError" not in done:
            answer = {"runsOrError": {"results": []}}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data": shifted(answer)}).encode())

    def log_message(self, *arguments):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def recorded(created: float, *, merge: bool = False, status: str = "SUCCESS") -> dict[str, Any]:
    """A run that is queued for 2 s, is launched in 3 s and works for 4 s."""
    return {
        "status": status,
        "creationTime": created,
        "assetSelection": [{"path": ["merged_profiles" if merge else "shard_profiles"]}],
        "tags": [] if merge else [{"key": "dagster/backfill", "value": "mine"}],
        "stats": {"launchTime": created + 2, "startTime": created + 5, "endTime": created + 9},
    }


def ready(*, healthy: bool = True, loaded: bool = True, polled: float = 0) -> dict[str, Any]:
    kinds = ("BACKFILL", "SENSOR")
    daemons = [
        {"daemonType": kind, "required": True, "healthy": healthy, "lastHeartbeatTime": polled} for kind in kinds
    ]
    location = {"__typename": "RepositoryLocation"} if loaded else None
    return {
        "workspaceOrError": {"locationEntries": [{"locationOrLoadError": location}]},
        "instance": {"daemonHealth": {"allDaemonStatuses": daemons}},
    }


def progress(status: str, *runs: dict[str, Any]) -> dict[str, Any]:
    shown = {"status": status, "endTimestamp": 40.0}
    return {"partitionBackfillOrError": shown, "runsOrError": {"results": list(runs)}}


def answers(**changes: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """The answers of a server whose backfill of two shards succeeds."""
    merge = recorded(20, merge=True)
    return {
        "daemonHealth": [ready(loaded=False), ready(healthy=False), ready()],
        "launchPartitionBackfill": [{"launchPartitionBackfill": {"backfillId": "mine"}}],
        "partitionBackfillOrError": [
            progress("REQUESTED"),
            progress("COMPLETED_SUCCESS"),
            progress("COMPLETED_SUCCESS", {**merge, "status": "STARTED"}),
            progress("COMPLETED_SUCCESS", merge),
        ],
        "tags": [{"runsOrError": {"results": [merge, recorded(11), recorded(10)]}}],
        **changes,
    }


def project(replies: dict[str, list[dict[str, Any]]], *, email: str = "email") -> Project:
    """A project with these answers; its result is the reference with `email` as the expression of the address."""

    def prepare(case: Case, scratch: Path, port: int, log: Path, timeout_s: float) -> Start:
        reference, result = warehouse(case.home), scratch / "profiles.duckdb"
        if reference.exists():
            with duckdb.connect(result) as copied:
                copied.execute(f"ATTACH '{reference}' AS original (READ_ONLY)")
                copied.execute(
                    f"CREATE TABLE profiles AS SELECT * REPLACE ({email} AS email) FROM original.merged_profiles"
                )
        return Start((sys.executable, "-c", SERVER, str(port), json.dumps(replies)), environment(), result, reference)

    return Project(f"answers_{email}", f"answers {email}", Kind.OURS, prepare, lambda count: ["a"] * count, merges=True)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_POLL_EVERY_S", 0.01)
    monkeypatch.setattr(backfill, "AFTER_POLL_S", 0.0)


def measured(folder: Path, replies: dict[str, list[dict[str, Any]]], shards: int = 2) -> Backfill:
    case = Case(1000, shards, folder, folder / "none", folder / "none")
    return measure_backfill(project(replies), case, folder, folder / "log", 30)[1]


def test_the_parts_of_a_backfill_are_taken_from_the_record() -> None:
    runs = [Run(104, 105, 108, 110), Run(104, 111, 112, 118)]
    backfilled = times(100, runs, [Run(119, 120, 121, 125)], 140)
    assert backfilled == Backfill(
        first_run_s=4, last_shard_s=18, merged_s=25, shown_s=40, queue_s=4, process_start_s=2, work_s=4
    )
    assert times(100, runs, [], 140).merged_s is None


def test_runs_of_the_backfill_are_separated_from_merges_and_other_runs() -> None:
    other = recorded(5) | {"tags": [{"key": "dagster/backfill", "value": "other"}]}
    sorted_runs = sort_runs({"runsOrError": {"results": [other, recorded(1), recorded(3, merge=True)]}}, "mine")
    assert sorted_runs == ([Run(1, 3, 6, 10)], [Run(3, 5, 8, 12)])


@needs_proc
def test_a_backfill_is_measured_up_to_its_merge(tmp_path: Path) -> None:
    times_taken = measured(tmp_path, answers())
    assert times_taken.first_run_s == pytest.approx(10, abs=0.5)
    assert times_taken.last_shard_s == pytest.approx(20, abs=0.5)
    assert times_taken.merged_s == pytest.approx(29, abs=0.5)
    assert times_taken.shown_s == pytest.approx(40, abs=0.5)
    assert (times_taken.queue_s, times_taken.process_start_s, times_taken.work_s) == pytest.approx((2, 3, 4))


@needs_proc
def test_every_request_comes_equally_long_after_a_poll_of_the_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(backfill, "AFTER_POLL_S", 15.0)
    monkeypatch.setattr(time, "sleep", slept.append)
    # However long the server takes to start.
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s)
    measured(tmp_path, answers(daemonHealth=[ready(polled=now_s - 5)]))
    assert max(slept) == pytest.approx(10)


@needs_proc
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {
                "daemonHealth": [
                    ready()
                    | {
                        "workspaceOrError": {
                            "locationEntries": [
                                {"locationOrLoadError": {"__typename": "PythonError", "message": "no module"}}
                            ]
                        }
                    }
                ]
            },
            "the code does not load: no module",
        ),
        ({"launchPartitionBackfill": [{"launchPartitionBackfill": {"__typename": "Unauthorized"}}]}, "refused: Unauth"),
        ({"partitionBackfillOrError": [progress("COMPLETED_FAILED")]}, "the backfill ended as COMPLETED_FAILED"),
        ({"tags": [{"runsOrError": {"results": [recorded(1), recorded(2, status="FAILURE")]}}]}, "a run ended as FAIL"),
        ({"tags": [{"runsOrError": {"results": [recorded(1)]}}]}, "1 runs for 2 shards, expected 2"),
    ],
)
def test_a_backfill_that_fails_has_no_times(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ServerError, match=reason):
        measured(tmp_path, answers(**changes))


@pytest.mark.slow
@needs_proc
def test_a_backfill_counts_only_when_its_profiles_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(data, "_SETTLED_S", 0)
    failing = answers(partitionBackfillOrError=[progress("FAILED")])
    projects = (project(answers()), project(answers(), email="upper(email)"), project(failing, email="''"))
    monkeypatch.setattr(backfill, "PROJECTS", projects)
    options = ["--only", FLOOR, "--rows", "1000", "--shards", "2", "--repeat", "1", "--out", str(tmp_path)]
    assert run.main([*options, "--ui", "--ui-repeat", "2", "--peer-python", sys.executable]) == 1

    ui = json.loads((tmp_path / "results.json").read_text())["ui"]
    assert (ui["rows"], ui["shards"]) == (1000, 2)
    right, wrong, failed = ui["projects"]
    assert right["problem"] is None
    assert len(right["backfills"]) == 2
    assert right["median"]["merged_s"] == pytest.approx(29, abs=0.5)
    assert right["median"]["engine_s"] is None
    assert wrong["problem"].startswith("WRONG: email differs")
    assert failed["problem"].startswith("failed: the backfill ended as FAILED; see ")
    for project_ in (wrong, failed):
        assert (project_["median"], project_["backfills"]) == (None, [])
    shown = capsys.readouterr().out
    line = next(line for line in shown.splitlines() if line.startswith("answers email"))
    assert " ".join(line.split()) == "answers email 10.0 s 20.0 s 29.0 s 40.0 s 2.0 s 3.0 s 4.0 s - equal"
    assert "WRONG: email differs" in shown


def test_the_ui_needs_the_environment_of_the_peers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--only", FLOOR, "--ui", "--out", str(tmp_path), "--peer-python", str(tmp_path / "none")]
    assert run.main(options) == 2
    assert "make bench sets it up" in capsys.readouterr().err


def test_the_engines_part_is_read_from_the_manifest(tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "ours.duckdb") as made:
        made.execute("CREATE TABLE shard_manifest AS SELECT unnest([1000, 2000]) AS elapsed_ms")
    with duckdb.connect(tmp_path / "theirs.duckdb"):
        pass
    assert backfill.engine_s(tmp_path / "ours.duckdb") == 1.5
    assert backfill.engine_s(tmp_path / "theirs.duckdb") is None
