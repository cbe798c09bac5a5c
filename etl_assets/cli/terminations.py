"""SIGTERM and SIGHUP as an ordinary end: `with` blocks are left, so temporary files are removed.

The system's own way ends the process at once. What a query had spilled, rows of customers, then stays in the temporary
folder after every `timeout` and every stop of a service.
"""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Terminated(SystemExit):
    """A signal told the process to end. Its exit code is 128 plus the number of the signal, as in a shell."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(self.exit_code)


@contextlib.contextmanager
def ordinary_end() -> Iterator[None]:
    """Raise Terminated in the block when such a signal arrives, once. For the main thread."""
    # `nohup` and some services ignore a signal on purpose.
    handled = [number for number in _SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
    for number in handled:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    # A second one would stop the cleaning up.
    for other in _SIGNALS:
        if signal.getsignal(other) is _terminate:
            signal.signal(other, signal.SIG_IGN)
    raise Terminated(number)


@contextlib.contextmanager
def collected() -> Iterator[list[int]]:
    """Yields a list to which Ctrl-C and the signals of `ordinary_end` are added, instead of raising at any line.

    An exception at any line would close a connection while DuckDB still works on it. For the main thread.
    """
    arrived: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *_SIGNALS)}
    # A shell's background job ignores Ctrl-C and must go on ignoring it.
    handled = [number for number, now in before.items() if now in (signal.default_int_handler, _terminate)]
    for number in handled:
        signal.signal(number, lambda number, _: arrived.append(number))
    try:
        yield arrived
    finally:
        for number in handled:
            signal.signal(number, before[number])


def ending(number: int) -> BaseException:
    """The exception that stands for a collected signal."""
    return KeyboardInterrupt() if number == signal.SIGINT else Terminated(number)
