"""The hosts of the tests of clusters are what they are taken for."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from etl_assets_tests.cluster.hosts import Host, Network
from etl_assets_tests.whole.served import wait_until

_REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)"


@pytest.fixture
def server(network: Network) -> Iterator[tuple[str, int]]:
    """Something that listens on this machine."""
    with closing(socket.create_server((network.here, 0))) as listening:
        host, port = listening.getsockname()
        yield host, port


def reaches(host: Host, server: tuple[str, int]) -> bool:
    """Whether a process on the host gets a connection."""
    command = [*host.prefix, sys.executable, "-c", _REACH, *map(str, server)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_host_reaches_this_machine_and_has_an_address_of_its_own(network: Network, server: tuple[str, int]) -> None:
    host, other = network.add_host(), network.add_host()
    assert reaches(host, server)
    assert len({host.address, other.address, network.here}) == 3


def test_an_unplugged_host_reaches_nothing_until_it_is_plugged_in_again(
    network: Network, server: tuple[str, int]
) -> None:
    """Fails: the accidents of the network are none, and their test shows nothing."""
    if not network.has_cables:
        pytest.skip("this user may not make network namespaces")
    host = network.add_host()
    names = subprocess.run([*host.prefix, "hostname"], capture_output=True, text=True, check=True).stdout.split()
    assert names != [socket.gethostname()]
    host.unplug()
    assert not reaches(host, server)
    host.plug()
    wait_until(lambda: reaches(host, server), 60, lambda: "the host to reach this machine again")
