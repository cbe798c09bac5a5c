"""Hosts on this machine, each with a name, an address and a network cable of its own: Linux's namespaces on a bridge.

Where namespaces cannot be made (another system, not root), hosts are addresses of the loopback device, without cables,
and a warning says so. All hosts share the disk; their environments keep apart what must not be shared.
"""

import random
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

_LOOPBACK = "127.0.0."
# This machine is the first of its network.
_HERE = 1


@dataclass(frozen=True)
class Host:
    """A host of a network. What is to run on it is a command behind `prefix`."""

    address: str
    prefix: tuple[str, ...] = ()
    _cable: str | None = None

    @property
    def has_cable(self) -> bool:
        """Whether it can be unplugged."""
        return self._cable is not None

    def unplug(self) -> None:
        """Cut it off: packets in both directions are lost, without an error."""
        self._set("down")

    def plug(self) -> None:
        """Connect it again."""
        self._set("up")

    def _set(self, state: str) -> None:
        assert self._cable is not None, "a host without a cable"
        _ip("link", "set", self._cable, state)


@dataclass
class Network:
    """A network on which this machine has an address, too."""

    prefix: str = _LOOPBACK
    _bridge: str | None = None
    _count: int = _HERE
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def here(self) -> str:
        """The address of this machine, where servers listen that hosts of the network are to reach."""
        return f"{self.prefix}{_HERE}"

    @property
    def has_cables(self) -> bool:
        """Whether its hosts are namespaces."""
        return self._bridge is not None

    def add_host(self) -> Host:
        """A host with the next address."""
        self._count += 1
        address = f"{self.prefix}{self._count}"
        if self._bridge is None:
            return Host(address)
        name, cable = f"{self._bridge}-{self._count}", f"{self._bridge}v{self._count}"
        _ip("netns", "add", name)
        self._stack.callback(_ip, "netns", "delete", name)
        _ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", cable, "master", self._bridge, "up")
        _ip("-n", name, "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")
        named = ("unshare", "--uts", "sh", "-c", f'hostname {name} && exec "$@"', "-")
        return Host(address, ("ip", "netns", "exec", name, *named), cable)

    def close(self) -> None:
        """Remove it with its hosts."""
        self._stack.close()

    def separate(self) -> None:
        """Give it a bridge. CalledProcessError where this user may not."""
        # Two tests at once may have one each.
        number = random.SystemRandom().randrange(2**16)
        bridge = f"etl{number:04x}"
        _ip("link", "add", bridge, "type", "bridge")
        self._stack.callback(_ip, "link", "delete", bridge)
        prefix = f"10.{192 + number // 2**10}.{number % 2**8}."
        _ip("address", "add", f"{prefix}{_HERE}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        self.prefix, self._bridge = prefix, bridge


@contextmanager
def network() -> Iterator[Network]:
    """A network of its own where this user may make one, and the loopback device elsewhere."""
    made = Network()
    try:
        obstacle = _separated(made)
        if obstacle:
            warnings.warn(f"No network namespaces, so no host is cut off in these tests: {obstacle}", stacklevel=3)
        yield made
    finally:
        made.close()


def _separated(made: Network) -> str:
    """Give a network its bridge; returns what is in the way."""
    missing = [name for name in ("ip", "unshare") if shutil.which(name) is None]
    if missing:
        return f"there is no program {missing[0]}"
    try:
        made.separate()
    except subprocess.CalledProcessError as error:
        return str(error.stderr).strip()
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
