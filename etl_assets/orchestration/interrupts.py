"""Ctrl-C and the signals that stop a service, while Dagster runs in this process: it handles them and does not say so.

Dagster turns an interrupt inside a step into one more attempt (it "respects the retry policy"), and an interrupted run
looks like a failed one. The interpreter writes the number of every signal to its wakeup descriptor, whichever handler
runs; this module reads it there.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType

# A terminal that is closed sends SIGHUP. Dagster gives SIGTERM to the handler of SIGINT, and leaves SIGHUP alone.
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal told the process to end; `number` is that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


class Interrupts:
    """Whether Ctrl-C was pressed, or another signal told this process to end, since `watch` began."""

    def __init__(self, wakeup: socket.socket) -> None:
        self._wakeup = wakeup
        self._number: int | None = None

    @property
    def happened(self) -> bool:
        """Whether such a signal has arrived; may be read from any thread."""
        with contextlib.suppress(BlockingIOError):
            for number in self._wakeup.recv(4096):
                if number in _ENDING and self._number in (None, signal.SIGTERM):
                    # SIGHUP passes itself on as SIGTERM, and which of both is read first is chance.
                    self._number = number
        return self._number is not None

    def ending(self) -> KeyboardInterrupt:
        """What to raise for it."""
        is_known = self.happened and self._number is not None
        return Interrupted(self._number if is_known and self._number is not None else signal.SIGINT)


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


@contextlib.contextmanager
def like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block as Ctrl-C does, so that `with` blocks are left. For the main thread.

    The system's own way ends the process at once, and what it was writing stays until the next run.
    """
    # `nohup` and some services ignore a signal on purpose.
    handled = [number for number in _ENDING[1:] if signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, _pass_on if number == signal.SIGHUP else _interrupt)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, _: FrameType | None) -> None:
    raise Interrupted(number)


def _pass_on(number: int, _: FrameType | None) -> None:
    # Inside a step, Dagster waits for SIGTERM and SIGINT.
    os.kill(os.getpid(), signal.SIGTERM)
