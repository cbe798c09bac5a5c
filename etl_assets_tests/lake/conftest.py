"""An S3 server on loopback, the proxy before it, and a lake of each kind."""

import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
import pytest

from etl_assets.engine.files.layout import Home
from etl_assets.engine.site import Site
from etl_assets_tests.factory import PROJECT
from etl_assets_tests.lake import fault_proxy
from etl_assets_tests.lake.fault_proxy import FaultProxy

_LOOPBACK = "127.0.0.1"
# Nothing else of AWS may decide: no profile, no role of this machine.
VARIABLES = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """The port of an S3 server, in a process of its own: an emulator."""
    port = _free_port()
    with _served("moto.server", _LOOPBACK, port, ["-H", _LOOPBACK, "-p", str(port)]):
        yield port


@pytest.fixture(scope="session")
def proxy_process(s3_port: int) -> Iterator[FaultProxy]:
    """The proxy before it."""
    with served_proxy(_LOOPBACK, s3_port) as proxy:
        yield proxy


@pytest.fixture
def proxy(proxy_process: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """The proxy without rules, through which this process and its children reach the server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy_process.host}:{proxy_process.port}")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    proxy_process.reset()
    return proxy_process


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((_LOOPBACK, 0))
        return int(free.getsockname()[1])


def _is_served(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@contextmanager
def served_proxy(host: str, s3_port: int) -> Iterator[FaultProxy]:
    """A proxy that listens at this address, before the S3 server."""
    port = _free_port()
    with _served(fault_proxy.__name__, host, port, [host, str(port), str(s3_port)]):
        yield FaultProxy(host, port)


@contextmanager
def _served(module: str, host: str, port: int, arguments: list[str]) -> Iterator[None]:
    command = [sys.executable, "-m", module, *arguments]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline_s = time.monotonic() + 60
        while not _is_served(host, port):
            assert time.monotonic() < deadline_s, f"{module} does not start"
            assert server.poll() is None, f"{module} has ended"
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def bucket(s3_port: int, proxy: FaultProxy) -> str:
    """A bucket of its own."""
    name = f"lake-{uuid.uuid4().hex[:12]}"
    boto3.client("s3", endpoint_url=f"http://127.0.0.1:{s3_port}").create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_url(bucket: str) -> str:
    """A lake in that bucket."""
    return f"s3://{bucket}/some/prefix"


@pytest.fixture(params=["file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A lake in a folder, and one in a bucket."""
    if request.param == "file":
        return (tmp_path / "lake").as_uri()
    return str(request.getfixturevalue("s3_url"))


def site_in(url: str, folder: Path, shard_count: int = 3) -> Site:
    """The tests' project with a lake, on a machine whose ETL_HOME is this folder."""
    return Site(PROJECT, Home(folder).of_lake(url), shard_count, lake_url=url)
