"""Ctrl-C while Dagster runs in this process: Dagster takes the signal for itself and tells nobody.

It turns an interrupt inside a step into one more attempt (it "respects the retry policy"), and a run that ends by it
looks like one that failed. The interpreter notes every signal on a descriptor, whoever handles it: that is read here.
"""

import contextlib
import signal
import socket
from collections.abc import Iterator


class Interrupts:
    """Whether Ctrl-C was pressed since the beginning."""

    def __init__(self, noted: socket.socket) -> None:
        self._noted = noted
        self._happened = False

    @property
    def happened(self) -> bool:
        """Whether SIGINT has come; may be asked from any thread."""
        with contextlib.suppress(BlockingIOError):
            self._happened |= signal.SIGINT in self._noted.recv(4096)
        return self._happened


@contextlib.contextmanager
def noticed() -> Iterator[Interrupts]:
    """Note interrupts while the block runs; for the main thread, as all that has to do with signals."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield Interrupts(reader)
        finally:
            signal.set_wakeup_fd(before)
