"""How work is stopped: cancelled runs, time limits and failed neighbours interrupt every running query."""

import contextlib
import threading
import time
from collections.abc import Iterator

import duckdb

from etl_assets.errors import StoppedError

_INTERRUPT_EVERY_S = 0.05


class Stop:
    """A request to stop interrupts every running query; work that depends on it is not published after that."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._connections: set[duckdb.DuckDBPyConnection] = set()
        self._children: list[Stop] = []
        self._error: Exception | None = None

    @property
    def requested(self) -> bool:
        """Whether the stop was requested."""
        return self._error is not None

    def request(self, error: Exception | None = None) -> None:
        """Request it, from any thread; the stopped work raises the `error` of the first request."""
        with self._lock:
            is_first = self._error is None
            self._error = self._error or error or StoppedError("Stopped on request; nothing was published.")
            if is_first and self._connections:
                threading.Thread(target=self._interrupt_until_quiet, daemon=True).start()
            for child in self._children:
                child.request(self._error)

    def _interrupt_until_quiet(self) -> None:
        """Interrupt again and again: DuckDB forgets an interrupt that comes between two statements."""
        while True:
            with self._lock:
                for connection in self._connections:
                    connection.interrupt()
                if not self._connections:
                    return
            time.sleep(_INTERRUPT_EVERY_S)

    def child(self) -> "Stop":
        """A stop for a part of the work: it can be requested alone, and is requested together with this one."""
        child = Stop()
        with self._lock:
            self._children.append(child)
            if self._error is not None:
                child.request(self._error)
        return child

    def check(self) -> None:
        """Raise the stop's error when it was requested."""
        if self._error is not None:
            raise self._error

    @contextlib.contextmanager
    def within(self, limit_s: float, error: Exception) -> Iterator["Stop"]:
        """A child that requests itself with `error` after `limit_s` seconds; 0 means no limit."""
        child = self.child()
        timer = threading.Timer(limit_s, child.request, [error]) if limit_s else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            yield child
        finally:
            if timer is not None:
                timer.cancel()
            with self._lock:
                self._children.remove(child)

    @contextlib.contextmanager
    def watching(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Interrupt this connection's queries too, and end in the stop's error once it was requested."""
        with self._lock:
            self._connections.add(connection)
        try:
            self.check()
            yield
            self.check()
        except Exception:
            # The interrupted statement may have ended in another error.
            self.check()
            raise
        finally:
            with self._lock:
                self._connections.discard(connection)
