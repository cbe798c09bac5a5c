"""Ctrl-C while Dagster runs in this process: Dagster handles the signal itself and does not report it.

Dagster turns an interrupt inside a step into one more attempt (it "respects the retry policy"), and an interrupted run
looks like a failed one. The interpreter writes the number of every signal to its wakeup descriptor, whichever handler
runs; this module reads it there.
"""

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator


class Interrupts:
    """Whether Ctrl-C was pressed since `watch` began."""

    def __init__(self, wakeup: socket.socket) -> None:
        self._wakeup = wakeup
        self._happened = False

    @property
    def happened(self) -> bool:
        """Whether SIGINT has arrived; may be read from any thread."""
        with contextlib.suppress(BlockingIOError):
            self._happened |= signal.SIGINT in self._wakeup.recv(4096)
        return self._happened


@contextlib.contextmanager
def watch() -> Iterator[Interrupts]:
    """Watch for interrupts while the block runs. Python gives them to the main thread: on any other there are none."""
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        if threading.current_thread() is not threading.main_thread():
            yield Interrupts(reader)
            return
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield Interrupts(reader)
        finally:
            signal.set_wakeup_fd(before)
