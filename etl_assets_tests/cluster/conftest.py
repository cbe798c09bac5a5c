"""The servers of these tests, each once for all of them."""

from collections.abc import Iterator

import pytest

from etl_assets_tests.cluster.postgres_server import PostgresServer, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server."""
    with postgres_server() as server:
        yield server
