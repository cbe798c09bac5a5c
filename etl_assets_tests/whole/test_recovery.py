"""One backfill that outlives every kill: of a run's process, the code server, the daemon, everything at once.

All its shards are held in the middle of their first attempt, by a fault that hangs; each is let go by another accident.
The stages are fixtures that need each other in this order and remember what was seen, and how long it took; what a
person does in between is to start `etl-assets ui` again where it is gone, and nothing else.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus

from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.sweeping import leftovers
from etl_assets.engine.published import attempts
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import read_publication
from etl_assets.engine.routing import shard_keys
from etl_assets.samples.writing import generate
from etl_assets_tests import factory
from etl_assets_tests.command_line import command, environment
from etl_assets_tests.whole.served import WORK_S, Server, serve, wait_until

pytestmark = pytest.mark.slow

SHARDS = shard_keys(4)
OF_WORKER, OF_CODE_SERVER, *OF_EVERYTHING = SHARDS
HELD = "shard.joined hang attempts=1"
POOL = "etl_assets_tests"
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
LAUNCH = """
    mutation Launch($params: LaunchBackfillParams!) {
        launchPartitionBackfill(backfillParams: $params) { ... on LaunchBackfillSuccess { backfillId } }
    }"""


@dataclass
class Story:
    """The folder in which everything happens, and the facts of it that tests ask for."""

    folder: Path
    stack: contextlib.ExitStack
    servers: list[Server] = field(default_factory=list)
    backfill_id: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        """What the pipeline makes."""
        return Home(self.folder / "home")

    @property
    def server(self) -> Server:
        """The UI that was started last."""
        return self.servers[-1]

    def start(self, fault: str = HELD) -> None:
        """Start `etl-assets ui`, as a person does when it is gone."""
        served = serve(self.folder, self.folder / "sources", ETL_NUM_SHARDS=str(len(SHARDS)), ETL_FAULT=fault)
        self.servers.append(self.stack.enter_context(served))

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for it and note how long it took."""
        started = time.monotonic()
        wait_until(condition, WORK_S, lambda: f"{what}; runs: {self.runs_by_shard()}; log: {self.server.log}")
        self.seconds[what] = round(time.monotonic() - started, 1)
        # Seen with -s, and kept in the captured output of a failure.
        print(f"{self.seconds[what]:6.1f} s until {what}", file=sys.stderr)

    def run_cli(self, fault: str = "") -> subprocess.CompletedProcess[str]:
        """`etl-assets run` on the same exports, home and instance."""
        changes = {"ETL_SOURCES": "sources", "ETL_HOME": "home", "DAGSTER_HOME": "dagster", "ETL_FAULT": fault}
        return subprocess.run(
            command("run"),
            cwd=self.folder,
            env=environment(**changes, ETL_NUM_SHARDS=str(len(SHARDS))),
            capture_output=True,
            encoding="utf-8",
            timeout=WORK_S,
            check=False,
        )

    @contextlib.contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Dagster's record of it all."""
        with dg.DagsterInstance.from_config(str(self.folder / "dagster")) as instance:
            yield instance

    def runs(self, shard_id: str | None = None) -> list[dg.DagsterRun]:
        """The backfill's runs, newest first; those of one shard if given."""
        tags = {"dagster/backfill": self.backfill_id} | ({"dagster/partition": shard_id} if shard_id else {})
        with self.instance() as instance:
            return list(instance.get_runs(dg.RunsFilter(tags=tags)))

    def runs_by_shard(self) -> dict[str, list[str]]:
        """What the backfill's runs have come to, newest first."""
        return {shard_id: [run.status.value for run in self.runs(shard_id)] for shard_id in SHARDS}

    def why(self, run: dg.DagsterRun) -> str:
        """What a failed run says of itself."""
        with self.instance() as instance:
            entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
        return " ".join(entry.dagster_event.message or "" for entry in entries if entry.dagster_event)

    def backfill_status(self) -> BulkActionStatus:
        """What the backfill's page shows."""
        with self.instance() as instance:
            backfill = instance.get_backfill(self.backfill_id)
        assert backfill is not None
        return backfill.status

    def held(self, shard_ids: Sequence[str]) -> list[int]:
        """The processes that hang in the middle of these shards."""
        latest = attempts.latest_attempts(self.home, shard_ids)
        ours = {run.run_id for run in self.runs()}
        return [entry.pid for entry in latest if entry.status is Status.RUNNING and entry.run_id in ours]

    def kill_held(self, shard_id: str) -> None:
        """SIGKILL to the process in the middle of this shard."""
        (pid,) = self.held([shard_id])
        os.kill(pid, signal.SIGKILL)

    def is_built(self, shard_id: str) -> bool:
        """Whether a run of the backfill has built it."""
        return any(run.status is dg.DagsterRunStatus.SUCCESS for run in self.runs(shard_id))

    def history(self, shard_id: str) -> list[tuple[int, str]]:
        """Number and end of the attempts that the backfill made, out of the warehouse."""
        marks = ", ".join(f"'{run.run_id}'" for run in self.runs(shard_id))
        return factory.query(
            self.home.warehouse,
            f"SELECT attempt, status FROM shard_attempts WHERE shard_id = ? AND run_id IN ({marks}) ORDER BY attempt",
            [shard_id],
        )

    def digest(self) -> str | None:
        """Of the published warehouse, if there is one."""
        publication = read_publication(self.home)
        return publication.digest if publication else None


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """A small sample; every process that was started is gone at the end."""
    folder = tmp_path_factory.mktemp("recovery")
    generate(folder / "sources", rows=200, dirty=0.02)
    with contextlib.ExitStack() as stack:
        yield Story(folder, stack)


@pytest.fixture(scope="module")
def undisturbed(story: Story) -> str:
    """The digest of these exports when nothing happens."""
    site = factory.site_at(Home(story.folder / "undisturbed"), len(SHARDS))
    return factory.run_engine(story.folder / "sources", site).publication.digest


@pytest.fixture(scope="module")
def killed_cli(story: Story) -> dg.DagsterRun:
    """Stage 1: an `etl-assets run` is killed among its shards. Returns its run, which was not ended."""
    assert story.run_cli("shard.joined kill shard=shard_03").returncode == -signal.SIGKILL
    shutil.rmtree(story.home.shards)
    with story.instance() as instance:
        (run,) = instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))
    return run


@pytest.fixture(scope="module")
def requested(story: Story, killed_cli: dg.DagsterRun) -> int:
    """Stage 2: a backfill is requested, and the daemon is killed before it looks. Returns the UI's exit code."""
    story.start()
    params = {"partitionNames": SHARDS, "assetSelection": [{"path": ["shard_profiles"]}]}
    story.backfill_id = story.server.ask(LAUNCH, params=params)["launchPartitionBackfill"]["backfillId"]
    os.kill(story.server.pid_of("dagster._daemon"), signal.SIGKILL)
    story.wait(lambda: story.server.process.poll() is not None, "the UI to end after its daemon was killed")
    return story.server.process.wait()


@pytest.fixture(scope="module")
def begun(story: Story, requested: int) -> Story:
    """Stage 3: the UI is started again; all shards are begun and held."""
    story.start()
    story.wait(lambda: len(story.held(SHARDS)) == len(SHARDS), "the backfill to begin after the UI was started again")
    return story


@pytest.fixture(scope="module")
def worker_killed(begun: Story) -> Story:
    """Stage 4: one run's process is killed; it held a slot of a pool."""
    with begun.instance() as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots(POOL, 1)
        storage.claim_concurrency_slot(POOL, begun.runs(OF_WORKER)[0].run_id, "shard_profiles")
        assert storage.get_concurrency_info(POOL).active_slot_count == 1
    begun.kill_held(OF_WORKER)
    begun.wait(lambda: begun.is_built(OF_WORKER), "the shard of a killed process to be built")
    return begun


@pytest.fixture(scope="module")
def code_server_killed(worker_killed: Story) -> Story:
    """Stage 5: the process that holds the code is killed, and the process of a run with it."""
    story = worker_killed
    before = story.server.pid_of("dagster api grpc")
    os.kill(before, signal.SIGKILL)
    story.kill_held(OF_CODE_SERVER)

    def is_replaced() -> bool:
        return any("dagster api grpc" in args and pid != before for pid, args in story.server.processes().items())

    story.wait(is_replaced, "a new code server")
    story.wait(lambda: story.is_built(OF_CODE_SERVER), "the shard of a process killed with its code server to be built")
    return story


@pytest.fixture(scope="module")
def daemon_killed(code_server_killed: Story) -> dict[str, list[str]]:
    """Stage 6: the daemon is killed again, the UI started again. Returns the runs that the new daemon has looked at."""
    story = code_server_killed
    os.kill(story.server.pid_of("dagster._daemon"), signal.SIGKILL)
    story.wait(lambda: story.server.process.poll() is not None, "the UI to end")
    offset = story.server.log.stat().st_size
    story.start()
    # At the second it would give up a run whose process is gone.
    looks = b"runs for monitoring"
    story.wait(lambda: story.server.log.read_bytes()[offset:].count(looks) >= 3, "three looks at the runs")
    return story.runs_by_shard()


@dataclass(frozen=True)
class Ruins:
    """The home after everything was killed: its leftovers, and what `etl-assets run` made of a copy."""

    leftovers: list[str]
    exit_code: int
    output: str
    digest: str | None
    leftovers_after: list[str]


@pytest.fixture(scope="module")
def ruins(story: Story, daemon_killed: dict[str, list[str]]) -> Ruins:
    """Stage 7: SIGKILL to every process of all three servers. In a copy, a person goes on at the command line."""
    for server in story.servers:
        server.kill()
    copy = Story(shutil.copytree(story.folder, story.folder.with_name("copy")), story.stack)
    done = copy.run_cli()
    return Ruins(leftovers(story.home), done.returncode, done.stdout + done.stderr, copy.digest(), leftovers(copy.home))


@pytest.fixture(scope="module")
def recovered(story: Story, ruins: Ruins) -> Story:
    """Stage 8: the UI is started again, and everything comes to its end."""
    story.start()
    story.wait(lambda: all(story.is_built(shard_id) for shard_id in SHARDS), "the last shards to be built")
    story.wait(lambda: story.digest() is not None, "the merge")
    story.wait(lambda: story.backfill_status() is not BulkActionStatus.REQUESTED, "the backfill's end")
    return story


def test_a_killed_daemon_ends_the_ui_and_a_requested_backfill_waits_for_the_next(requested: int, begun: Story) -> None:
    """Fails: the UI stays up without a daemon, or a person has to request the backfill once more."""
    assert requested == 1
    assert "Start it again with: etl-assets ui" in begun.server.log.read_text(errors="replace")
    assert all(len(runs) == 1 for runs in begun.runs_by_shard().values())


def test_the_run_of_a_killed_command_is_ended_and_says_what_to_do(begun: Story, killed_cli: dg.DagsterRun) -> None:
    """Fails: the runs' page shows it as in progress for two hours, and it takes one of four places in the queue."""
    with begun.instance() as instance:
        run = instance.get_run_by_id(killed_cli.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "is gone: it was killed, or the machine was restarted" in begun.why(run)
    assert "Go on with: etl-assets run" in begun.why(run)


def test_the_run_of_a_killed_process_is_repeated(worker_killed: Story) -> None:
    assert worker_killed.runs_by_shard()[OF_WORKER] == ["SUCCESS", "FAILURE"]
    assert worker_killed.runs(OF_WORKER)[0].tags["dagster/retry_number"] == "1"


def test_a_killed_code_server_comes_back_and_its_dead_runs_are_repeated(code_server_killed: Story) -> None:
    """Fails: new runs wait for a person to reload the code; a run that no process watches never ends."""
    runs = code_server_killed.runs(OF_CODE_SERVER)
    assert [run.status.value for run in runs] == ["SUCCESS", "FAILURE"]
    assert "is gone: it was killed, or the machine was restarted" in code_server_killed.why(runs[1])


def test_runs_that_live_on_without_code_server_and_daemon_are_left_alone(daemon_killed: dict[str, list[str]]) -> None:
    """Fails: run monitoring ends sound runs, which are then built twice."""
    assert [daemon_killed[shard_id] for shard_id in OF_EVERYTHING] == [["STARTED"]] * 2


def test_after_everything_was_killed_the_command_line_finishes_the_work(ruins: Ruins, undisturbed: str) -> None:
    assert ruins.leftovers
    assert ruins.exit_code == 0, ruins.output
    assert ruins.digest == undisturbed
    assert ruins.leftovers_after == []


def test_after_everything_was_killed_the_ui_finishes_the_backfill(recovered: Story, undisturbed: str) -> None:
    """Fails: a host that went down costs more than starting the UI again."""
    assert recovered.backfill_status() is BulkActionStatus.COMPLETED_SUCCESS
    assert recovered.digest() == undisturbed
    for shard_id in OF_EVERYTHING:
        failed = recovered.runs(shard_id)[-1]
        assert failed.status is dg.DagsterRunStatus.FAILURE
        assert "The daemon repeats the run" in recovered.why(failed)


def test_the_warehouse_says_that_each_first_attempt_was_killed_and_each_second_succeeded(recovered: Story) -> None:
    for shard_id in SHARDS:
        assert recovered.history(shard_id) == [(1, "killed"), (2, "succeeded")], shard_id


def test_nothing_is_left_of_it_all(recovered: Story) -> None:
    """Fails: runs in progress for ever, slots that no process holds, files that no process reads."""
    with recovered.instance() as instance:
        recovered.wait(lambda: not instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)), "every run to end")
        recovered.wait(lambda: not instance.event_log_storage.get_concurrency_run_ids(), "the slots to be free")
        assert instance.event_log_storage.get_concurrency_info(POOL).active_slot_count == 0
    assert leftovers(recovered.home) == []
