"""The servers of these tests, each once for all tests of a file, or of all files."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from etl_assets_tests.cluster.postgres_server import PostgresServer, postgres_server
from etl_assets_tests.cluster.ray_cluster import RayCluster, ray_cluster
from etl_assets_tests.lake.conftest import bucket, proxy, proxy_process, s3_port

__all__ = ["bucket", "cluster", "postgres", "proxy", "proxy_process", "s3_port"]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    """The head of a Ray cluster."""
    # Not in the folder of the tests: the paths of Ray's sockets may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    try:
        with ray_cluster(folder) as head:
            yield head
    finally:
        shutil.rmtree(folder, ignore_errors=True)
