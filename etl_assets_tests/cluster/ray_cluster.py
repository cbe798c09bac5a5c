"""A Ray cluster: a head that runs nothing, and nodes, each on its own host, with its own ETL_HOME and environment."""

import json
import secrets
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from etl_assets_tests.cluster.hosts import Host, Network
from etl_assets_tests.command_line import environment
from etl_assets_tests.living_processes import kill_all, living
from etl_assets_tests.whole.served import wait_until

# On an idle machine the head takes 8 s.
START_S = 400
# A node that does not answer for so long is given up.
HEALTH_CHECK_S = 60
# A node gives up when it has not joined after 30 s, and no setting changes that.
_JOIN_TRIES = 5
_JOINED = "block forever"
_ACTOR_OF_JOB = "_ray_internal_job_actor_"
# The processes of a node inherit it.
_MARK = "ETL_ASSETS_TESTED_NODE"
_SMALL = ("--object-store-memory", "80000000", "--include-log-monitor", "False", "--disable-usage-stats", "--block")
_OURS = {
    "RAY_AUTH_MODE": "token",
    # Its own limits are too short for a busy machine. A node that is gone refuses at once, whatever the last one says.
    "RAY_DASHBOARD_STARTUP_TIMEOUT_S": str(START_S),
    "RAY_worker_register_timeout_seconds": str(START_S),
    "RAY_JOB_START_TIMEOUT_SECONDS": "900",
    "RAY_health_check_timeout_ms": str(HEALTH_CHECK_S * 1000),
    "RAY_health_check_failure_threshold": "1",
    "RAY_enable_worker_prestart": "0",
}


@dataclass(frozen=True)
class Node:
    """A node of the cluster, in a session of its own."""

    process: subprocess.Popen[bytes]
    host: Host
    home: Path
    log: Path
    mark: str

    @property
    def has_joined(self) -> bool:
        """Whether Ray says that the node is part of the cluster."""
        return self.process.poll() is None and _JOINED in self.log.read_text()

    @property
    def tail(self) -> str:
        """The end of what it says, for a message."""
        return self.log.read_text()[-4000:]

    def processes(self) -> dict[int, str]:
        """The command lines of its living processes: Ray's, and the runs that it works on."""
        return living(lambda one: one.environ().get(_MARK) == self.mark)

    def kill(self) -> None:
        """What a host that goes down does: SIGKILL to every process, until none is left."""
        kill_all(self.processes)
        self.process.wait(timeout=START_S)


@dataclass
class RayCluster:
    """A head, to which nodes are added."""

    folder: Path
    network: Network
    host: Host
    port: int
    dashboard: str
    token: str
    nodes: list[Node] = field(default_factory=list)
    _head: Node | None = None
    _node_count: int = 0
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def client_variables(self) -> dict[str, str]:
        """What a client of the cluster needs."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token, "RAY_JOBS_ADDRESS": self.dashboard}

    def add_node(self, cpu_count: int, variables: Mapping[str, str]) -> Node:
        """Start a node with an empty ETL_HOME and these variables, and wait until it has joined."""
        self._node_count += 1
        number = self._node_count
        home = self.folder / f"home_{number}"
        host = self.network.add_host()
        options = (
            "--address",
            f"{self.host.address}:{self.port}",
            "--num-cpus",
            str(cpu_count),
            "--memory",
            "8000000000",
        )
        for _ in range(_JOIN_TRIES):
            node = self._start(host, options, {**variables, "ETL_HOME": str(home)}, home, f"node_{number}")
            if _joins(node):
                self.nodes.append(node)
                return node
            node.kill()
        raise AssertionError(f"The node does not join: {node.tail}")

    def start_head(self) -> None:
        """Start the head, and wait for its dashboard, which takes jobs."""
        dashboard = ("--dashboard-host", self.host.address, "--dashboard-port", self.dashboard.rpartition(":")[2])
        options = ("--head", "--port", str(self.port), *dashboard, "--temp-dir", str(self.folder), "--num-cpus", "0")
        head = self._start(self.host, options, {}, self.folder, "head")
        wait_until(
            lambda: self.ask("/api/version") == 200 or head.process.poll() is not None,
            START_S,
            lambda: f"Ray's head: {head.tail}",
        )
        assert head.process.poll() is None, f"Ray has ended: {head.tail}"
        self._head = head

    def replace_head(self) -> None:
        """Kill the head, and start another one at its address; its nodes end with it."""
        assert self._head is not None, "it was started"
        self._head.kill()
        for node in self.nodes:
            node.kill()
        self.start_head()

    def ask(self, path: str, token: str | None = None) -> int | None:
        """The status with which the dashboard answers; None where it does not."""
        request = urllib.request.Request(self.dashboard + path)
        request.add_header("Authorization", f"Bearer {self.token if token is None else token}")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def resources_of_jobs(self) -> dict[str, dict[str, float]]:
        """What each job has asked for, also those that have ended, by the name of the job."""
        request = urllib.request.Request(f"{self.dashboard}/api/v0/actors?detail=True&limit=1000")
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            actors = json.load(answer)["data"]["result"]["result"]
        named = {one["name"].removeprefix(_ACTOR_OF_JOB): one["required_resources"] for one in actors}
        assert len(named) == len(actors), "each job has an actor"
        return named

    def _start(self, host: Host, options: Sequence[str], variables: Mapping[str, str], home: Path, name: str) -> Node:
        mark, log = uuid.uuid4().hex, self.folder / f"{name}.log"
        # The usual port of the agent may be taken by another cluster of this machine; Ray then goes on without it, and
        # takes no jobs.
        place = ("--node-ip-address", host.address, "--dashboard-agent-listen-port", str(_free_port()))
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*host.prefix, str(Path(sys.executable).with_name("ray")), "start", *options, *_SMALL, *place],
                env=environment(**{**_OURS, **self.client_variables, **variables}) | {_MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        node = Node(process, host, home, log, mark)
        self._stack.callback(node.kill)
        return node

    def close(self) -> None:
        """Kill every process of every node."""
        self._stack.close()


@contextmanager
def ray_cluster(folder: Path, network: Network) -> Iterator[RayCluster]:
    """A head that takes jobs, without a node that could do them; its address asks for a token."""
    host = network.add_host()
    dashboard = f"http://{host.address}:{_free_port()}"
    cluster = RayCluster(folder, network, host, _free_port(), dashboard, secrets.token_hex(24))
    try:
        cluster.start_head()
        yield cluster
    finally:
        cluster.close()


def _joins(node: Node) -> bool:
    wait_until(lambda: node.has_joined or node.process.poll() is not None, START_S, lambda: f"a node: {node.tail}")
    return node.has_joined


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
