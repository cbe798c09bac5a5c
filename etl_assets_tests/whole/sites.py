"""An ETL_SOURCES and an ETL_HOME on which real processes meet, held at chosen moments and let go by a test."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from etl_assets.cli import main as command
from etl_assets.engine import faults
from etl_assets.engine.files import publishing as storage
from etl_assets.engine.files.layout import Home
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps import merge
from etl_assets.engine.steps import stage as staging
from etl_assets.errors import EtlError
from etl_assets.project.contract import SOURCES
from etl_assets.project.settings import Settings, load_settings
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
        self.process: subprocess.Popen[str] | None = None

    def wait_until_reached(self) -> None:
        """Until the child stands there; fails at once when it has ended without."""
        wait_for(lambda: self.reached.exists() or self._has_ended(), f"a process to reach {self.reached.parent.name}")
        assert self.reached.exists(), self.process and self.process.communicate()

    def _has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def open(self) -> None:
        """Let it go on."""
        self.opened.touch()


def main(action: str, point: str, folder: str, label: str) -> None:
    """What a child does: an action of the engine, all of them, or the command; stops at a point if one is named."""
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
    if action == "run":
        # Its errors are to be read with the rest of what it says.
        os.dup2(1, 2)
        sys.exit(command.main(["run", *label.split()]))
    try:
        for step in ("stage", *shard_keys(settings.shard_count), "merge") if action == "all" else (action,):
            _do(settings, step, label)
    except EtlError as refused:
        print(f"{type(refused).__name__}: {refused}")
        sys.exit(3)


def _do(settings: Settings, action: str, label: str) -> None:
    if action == "stage":
        for source in SOURCES:
            staging.stage(source, settings.staging_request(), force=label == "force")
    elif action == "merge":
        merge.merge_shards(settings.home, settings.shard_count, settings.merge_limits(), run_id=label)
    else:
        given = shard.shard_input(settings.home, action, settings.shard_count)
        factory.build_shard(settings.home, given, run_id=label, attempt=1, limits=settings.worker_limits())


class Site:
    """An ETL_SOURCES and an ETL_HOME, and the processes that work on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources, self.home = folder / "sources", Home(folder / "home")
        self.env = children.environment(self.sources, self.home.root, DAGSTER_HOME=str(folder / "dagster"))
        self._started: list[subprocess.Popen[str]] = []

    def export(self, generation: str, customers: int = CUSTOMERS) -> None:
        """Write exports whose every row names its generation."""
        rows = [factory.row(f"cust_{number}", email=generation) for number in range(customers)]
        factory.write_exports(self.sources, crm=rows, billing=rows, product=rows, support=rows)

    def gate(self, name: str) -> Gate:
        """A new gate."""
        return Gate(self.folder / name)

    def begin(self, action: str, label: str, point: str = "-", gate: Gate | None = None) -> subprocess.Popen[str]:
        """Start an action in a process."""
        folder = str(gate.reached.parent) if gate else "-"
        program = [sys.executable, "-m", "etl_assets_tests.whole.sites", action, point, folder, label]
        process = self.spawn(program, self.env)
        if gate is not None:
            gate.process = process
        return process

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

    def run(self, *arguments: str) -> str:
        """A whole `etl-assets run`, which must succeed; returns what it says."""
        code, out = ended(self.begin("run", " ".join(arguments)))
        assert code == 0, out
        return out

    def publish(self, generation: str, customers: int = CUSTOMERS) -> None:
        """Export, stage, build and merge."""
        self.export(generation, customers)
        self.do("all", generation)

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
            if process.stdout is not None and not process.stdout.closed:
                process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stdout of a process that ends by itself."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in {0, 1, 3}, err
    return process.returncode, out


if __name__ == "__main__":
    main(*sys.argv[1:])
