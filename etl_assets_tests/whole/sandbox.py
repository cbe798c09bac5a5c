"""An ETL_SOURCES and an ETL_HOME on which real processes meet; a test holds them at chosen moments and lets them go."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from etl_assets.cli import main as command
from etl_assets.engine import faults
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.temporary import TEMPORARY_PREFIX
from etl_assets.errors import EtlError
from etl_assets_tests import factory
from etl_assets_tests.whole import children

CUSTOMERS = 40
SHARD_COUNT = 2
DEADLINE_S = 90.0
# The exit code of a child whose action the engine refused.
REFUSED = 3
# These run on a busy machine; a waiting process looks this often.
_LOOK_S = 0.01


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds; fail with `what` when it does not in time."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {DEADLINE_S:.0f} s for {what}"
        time.sleep(_LOOK_S)


class Gate:
    """A moment at which a child stops: it reports that it has arrived, and goes on when the gate opens."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.reached, self.opened = folder / "reached", folder / "opened"
        self.process: subprocess.Popen[str] | None = None

    def wait_until_reached(self) -> None:
        """Wait until the child has arrived; fails at once when it has ended before."""
        wait_for(lambda: self.reached.exists() or self._has_ended(), f"a process to reach {self.reached.parent.name}")
        assert self.reached.exists(), self.process and self.process.communicate()

    def _has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def open(self) -> None:
        """Let the child go on."""
        self.opened.touch()


def main(action: str, point: str, folder: str, label: str) -> None:
    """A child's work: one action of the engine, all of them, or the command; stops at a point if one is named."""
    if point != "-":
        gate, passed = Gate(Path(folder)), faults.point

        def stop_there(name: str, path: Path | None = None) -> None:
            passed(name, path)
            if name == point and not gate.opened.exists():
                gate.reached.touch()
                wait_for(gate.opened.exists, "the gate to open")

        # An armed fault can only break the work at a point; this one waits there.
        faults.point = stop_there
    if action == "run":
        sys.exit(command.main(["run", "--events", "jsonl", *label.split()]))
    site, settings = children.configured()
    try:
        for step in ("stage", *site.shard_ids, "merge") if action == "all" else (action,):
            if step == "stage":
                for name in site.contract.source_names:
                    children.stage_source(site, settings, name, force=label == "force")
            elif step == "merge":
                children.merge(site, settings, label)
            else:
                children.build_shard(site, settings, step, label)
    except EtlError as refused:
        print(json.dumps(children.error_facts(refused)))
        sys.exit(REFUSED)


@dataclass(frozen=True)
class Ended:
    """How a child ended; `lines` are the JSON documents on its stdout."""

    code: int
    lines: tuple[dict[str, Any], ...]
    stderr: str

    @property
    def error(self) -> dict[str, Any]:
        """The facts of the error with which the engine refused the action."""
        assert self.code == REFUSED, self
        return self.lines[-1]

    @property
    def report(self) -> dict[str, Any]:
        """The last line of a whole run."""
        assert self.lines[-1]["event"] == "report", self
        return self.lines[-1]

    @property
    def merge_error_kinds(self) -> list[str]:
        """The kinds of error with which the merge of a whole run failed."""
        failed = [line for line in self.lines if line.get("step") == "merged_profiles" and line["status"] == "failed"]
        return [line["error_kind"] for line in failed]


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process that ends on its own."""
    out, err = process.communicate(timeout=DEADLINE_S)
    assert process.returncode in {0, 1, REFUSED}, err
    return Ended(process.returncode, tuple(json.loads(line) for line in out.splitlines()), err)


class Sandbox:
    """An ETL_SOURCES and an ETL_HOME, and the processes that work on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources, self.home = folder / "sources", Home(folder / "home")
        self.site = factory.site_at(self.home, SHARD_COUNT)
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
        program = [sys.executable, "-m", "etl_assets_tests.whole.sandbox", action, point, folder, label]
        process = self.spawn(program, self.env)
        if gate is not None:
            gate.process = process
        return process

    def spawn(self, program: list[str], env: Mapping[str, str]) -> subprocess.Popen[str]:
        """Start a process that ends with the test."""
        process = subprocess.Popen(
            program, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", cwd=Path.cwd()
        )
        self._started.append(process)
        return process

    def do(self, action: str, label: str) -> None:
        """Do an action in a process; it must succeed."""
        assert ended(self.begin(action, label)) == Ended(0, (), "")

    def run(self, *arguments: str) -> Ended:
        """A whole `etl-assets run`, which must succeed."""
        done = ended(self.begin("run", " ".join(arguments)))
        assert done.code == 0, done
        return done

    def publish(self, generation: str, customers: int = CUSTOMERS) -> None:
        """Export, stage, build and merge."""
        self.export(generation, customers)
        self.do("all", generation)

    def generations(self) -> list[tuple[str, int]]:
        """Which generations the warehouse holds, and how many customers of each."""
        return factory.query(self.home.warehouse, "SELECT email, count(*) FROM merged_profiles GROUP BY 1 ORDER BY 1")

    def leftovers(self) -> list[Path]:
        """Temporary files and folders that were not removed."""
        return list(self.home.root.rglob(f"{TEMPORARY_PREFIX}*"))

    def close(self) -> None:
        """End what is still running."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            if process.stdout is not None and not process.stdout.closed:
                process.communicate()


if __name__ == "__main__":
    main(*sys.argv[1:])
