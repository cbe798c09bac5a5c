"""The servers of these tests, each once for all tests of a file, or of all files."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets_tests.cluster import hosts
from etl_assets_tests.cluster.hosts import Network
from etl_assets_tests.cluster.postgres_server import PostgresServer, postgres_server
from etl_assets_tests.cluster.ray_cluster import RayCluster, ray_cluster
from etl_assets_tests.lake.conftest import bucket, proxy, s3_port, served_proxy
from etl_assets_tests.lake.fault_proxy import FaultProxy

__all__ = ["bucket", "cluster", "network", "postgres", "proxy", "proxy_process", "s3_port"]


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """The network of the hosts. All servers listen at the address that this machine has there."""
    with hosts.network() as made:
        yield made


@pytest.fixture(scope="session")
def postgres(network: Network) -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with postgres_server(network.here) as server:
        yield server


@pytest.fixture(scope="session")
def proxy_process(network: Network, s3_port: int) -> Iterator[FaultProxy]:
    """The proxy before the S3 server."""
    with served_proxy(network.here, s3_port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def cluster(network: Network) -> Iterator[RayCluster]:
    """The head of a Ray cluster."""
    # Not in the folder of the tests: the paths of Ray's sockets may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    try:
        with ray_cluster(folder, network) as head:
            yield head
    finally:
        shutil.rmtree(folder, ignore_errors=True)
