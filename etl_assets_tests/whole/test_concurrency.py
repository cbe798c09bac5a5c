"""Runs that meet: real processes on one ETL_HOME, held at chosen moments and let go by files they wait for."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from etl_assets.engine import faults, merge, shard, staging, storage
from etl_assets.engine.contract import SOURCES
from etl_assets.engine.errors import EtlError, SourceChangedError
from etl_assets.engine.storage import Home
from etl_assets.settings import load_settings
from etl_assets_tests import factory
from etl_assets_tests.whole import children

CUSTOMERS = 40
DEADLINE_S = 90.0
# A busy machine runs these; whoever waits looks this often.
_LOOK_S = 0.01


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fail with `what` when it does not in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:.0f} s for {what}"
        time.sleep(_LOOK_S)


class Gate:
    """A moment at which a child stops: it says that it is there, and goes on when told to."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.reached, self.opened = folder / "reached", folder / "opened"

    def wait_until_reached(self) -> None:
        """Until the child stands there."""
        wait_for(self.reached.exists, f"a process to reach {self.reached.parent.name}")

    def open(self) -> None:
        """Let it go on."""
        self.opened.touch()


def main(action: str, point: str, folder: str, label: str) -> None:
    """What a child does: one action of the engine, stopping at a fault point when one is named."""
    settings = load_settings()
    if point != "-":
        gate, passed = Gate(Path(folder)), faults.point

        def stop_there(name: str, path: Path | None = None) -> None:
            passed(name, path)
            if name == point and not gate.opened.exists():
                gate.reached.touch()
                wait_for(gate.opened.exists, "the gate to open")

        # Where publishing passes them; the point itself may only break, not wait.
        storage.faults.point = stop_there
    try:
        if action == "stage":
            for source in SOURCES:
                staging.stage(source, settings.staging_request(), force=label == "force")
        elif action == "merge":
            merge.merge_shards(settings.home, settings.shard_count, settings.merge_limits(), run_id=label)
        else:
            given = shard.shard_input(settings.home, action, settings.shard_count)
            shard.build_shard(settings.home, given, settings.worker_limits(), run_id=label, attempt=1)
    except EtlError as refused:
        print(f"{type(refused).__name__}: {refused}")
        sys.exit(3)


class Site:
    """An ETL_SOURCES and an ETL_HOME, and the processes that work on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources, self.home = folder / "sources", Home(folder / "home")
        self.env = children.environment(self.sources, self.home.root, DAGSTER_HOME=str(folder / "dagster"))
        self._started: list[subprocess.Popen[str]] = []

    def export(self, generation: str) -> None:
        """Write exports whose every row names its generation."""
        rows = [factory.row(f"cust_{number}", email=generation) for number in range(CUSTOMERS)]
        factory.write_exports(self.sources, crm=rows, billing=rows, product=rows, support=rows)

    def gate(self, name: str) -> Gate:
        """A new gate."""
        return Gate(self.folder / name)

    def begin(self, action: str, label: str, point: str = "-", gate: Gate | None = None) -> subprocess.Popen[str]:
        """Start an action in a process."""
        folder = str(gate.reached.parent) if gate else "-"
        program = "import sys; from etl_assets_tests.whole.test_concurrency import main; main(*sys.argv[1:])"
        return self.spawn([sys.executable, "-c", program, action, point, folder, label], self.env)

    def spawn(self, command: list[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a process that ends with the test."""
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", cwd=Path.cwd()
        )
        self._started.append(process)
        return process

    def do(self, action: str, label: str) -> None:
        """Do an action in a process; it must succeed."""
        assert ended(self.begin(action, label)) == (0, "")

    def publish(self, generation: str) -> None:
        """Export, stage, build and merge."""
        self.export(generation)
        for action in ("stage", "shard_00", "shard_01", "merge"):
            self.do(action, generation)

    def generations(self) -> list[tuple[str, int]]:
        """Which generations the warehouse holds, and how many customers of each."""
        return factory.query(self.home.warehouse, "SELECT email, count(*) FROM merged_profiles GROUP BY 1 ORDER BY 1")

    def leftovers(self) -> list[Path]:
        """Temporary files and folders that nobody removed."""
        return list(self.home.root.rglob(f"{storage.TEMPORARY_PREFIX}*"))

    def close(self) -> None:
        """End what is still running."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stdout of a process that ends by itself."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in {0, 3}, err
    return process.returncode, out


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A published first generation."""
    made = Site(tmp_path)
    try:
        made.publish("first")
        yield made
    finally:
        made.close()


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_runs_of_the_same_shard_at_once_leave_one_whole_shard(site: Site, first_out: int) -> None:
    """A backfill and a re-run by hand meet; a torn or mixed shard would go into the warehouse."""
    gates = [site.gate(f"gate_{number}") for number in range(2)]
    runs = [site.begin("shard_00", f"run_{number}", "shard.before_swap", gates[number]) for number in range(2)]
    for gate in gates:
        gate.wait_until_reached()
    for number in (first_out, 1 - first_out):
        gates[number].open()
        assert ended(runs[number]) == (0, "")
        state = shard.read_shard(site.home, "shard_00")
        assert state.manifest is not None
        assert state.manifest.run_id == f"run_{number}"
        assert shard.verify_shard(site.home, state.manifest) is None
    site.do("merge", "after")
    assert site.generations() == [("first", CUSTOMERS)]
    assert site.leftovers() == []


def test_two_merges_at_once_both_publish_the_same_warehouse(site: Site) -> None:
    gates = [site.gate(f"gate_{number}") for number in range(2)]
    merges = [site.begin("merge", f"merge_{number}", "warehouse.before_swap", gates[number]) for number in range(2)]
    before = merge.read_publication(site.home)
    assert before is not None
    for number in range(2):
        gates[number].wait_until_reached()
    for number in range(2):
        gates[number].open()
        assert ended(merges[number]) == (0, "")
        published = merge.read_publication(site.home)
        assert published is not None
        assert published["digest"] == before["digest"]
        assert site.generations() == [("first", CUSTOMERS)]
    assert site.leftovers() == []


def test_a_merge_that_was_overtaken_does_not_put_the_older_warehouse_back(site: Site) -> None:
    """While one merge waited for its disk, the next generation was published; the older one then replaced it."""
    gate = site.gate("gate")
    late = site.begin("merge", "late", "warehouse.before_swap", gate)
    gate.wait_until_reached()
    site.publish("second")
    gate.open()
    code, out = ended(late)
    assert code == 3
    assert out.startswith("ShardSetError: The set of shards changed while it was merged")
    assert site.generations() == [("second", CUSTOMERS)]
    assert site.leftovers() == []


def test_a_shard_that_was_overtaken_does_not_put_the_older_records_back(site: Site) -> None:
    gate = site.gate("gate")
    late = site.begin("shard_00", "late", "shard.before_swap", gate)
    gate.wait_until_reached()
    site.publish("second")
    gate.open()
    code, out = ended(late)
    assert (code, out.partition(":")[0]) == (3, "SourceChangedError")
    site.do("merge", "again")
    assert site.generations() == [("second", CUSTOMERS)]


def test_a_merge_during_the_publication_of_a_shard_sees_the_old_or_the_new_one(site: Site) -> None:
    """Before the swap the merge takes the old shard; when the swap comes in its middle, it publishes nothing."""
    in_shard, in_merge = site.gate("in_shard"), site.gate("in_merge")
    rebuild = site.begin("shard_00", "rebuilt", "shard.before_swap", in_shard)
    in_shard.wait_until_reached()
    site.do("merge", "before the swap")
    late = site.begin("merge", "late", "warehouse.before_swap", in_merge)
    in_merge.wait_until_reached()
    in_shard.open()
    assert ended(rebuild) == (0, "")
    in_merge.open()
    code, out = ended(late)
    assert code == 3, out
    assert factory.query(site.home.warehouse, "SELECT run_id FROM publication") == [("before the swap",)]
    site.do("merge", "after the swap")
    runs = factory.query(site.home.warehouse, "SELECT run_id FROM shard_manifest ORDER BY shard_id")
    assert runs == [("rebuilt",), ("first",)]


def test_files_that_change_in_the_middle_of_a_run_never_mix_two_snapshots(site: Site) -> None:
    """One shard of yesterday beside one of today: customers would be counted from two states of the business."""
    site.export("second")
    site.do("stage", "second")
    site.do("shard_00", "second")
    refused = site.begin("merge", "mixed")
    code, out = ended(refused)
    assert code == 3
    assert "shard_01: built from other source data" in out
    assert "etl-assets run --shards shard_01" in out
    assert site.generations() == [("first", CUSTOMERS)]
    site.do("shard_01", "second")
    site.do("merge", "second")
    assert site.generations() == [("second", CUSTOMERS)]


def test_a_file_that_changes_while_it_is_staged_is_not_published_under_the_old_name(site: Site) -> None:
    site.export("second")
    gate = site.gate("gate")
    late = site.begin("stage", "second", "snapshot.before_swap", gate)
    gate.wait_until_reached()
    site.export("third")
    gate.open()
    code, out = ended(late)
    # The snapshot holds what its name says; it is only not the current one.
    assert (code, out.partition(":")[0]) == (3, SourceChangedError.__name__)
    for generation in ("third", "second"):
        site.publish(generation)
        assert site.generations() == [(generation, CUSTOMERS)]


def test_a_source_staged_twice_at_once_is_staged_once(site: Site) -> None:
    site.export("second")
    gates = [site.gate(f"gate_{number}") for number in range(2)]
    runs = [site.begin("stage", "force", "snapshot.before_swap", gate) for gate in gates]
    for gate in gates:
        gate.wait_until_reached()
    for gate, run in zip(gates, runs, strict=True):
        gate.open()
        assert ended(run) == (0, "")
    for action in ("shard_00", "shard_01", "merge"):
        site.do(action, "second")
    assert site.generations() == [("second", CUSTOMERS)]
    assert site.leftovers() == []
