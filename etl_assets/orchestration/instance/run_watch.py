"""Looks twice a second whether the processes of runs are alive; a thread that asks the system, and no database."""

import threading
from collections.abc import Callable

POLL_S = 0.5


class RunWatch:
    """Calls `on_end` with a run and its pid, once its process is gone, whether the run has ended or was killed."""

    def __init__(self, on_end: Callable[[str, int], None]) -> None:
        self._on_end = on_end
        self._lock = threading.Lock()
        self._alive: dict[str, tuple[int, Callable[[], bool]]] = {}
        self._thread: threading.Thread | None = None

    def __contains__(self, run_id: str) -> bool:
        with self._lock:
            return run_id in self._alive

    def add(self, run_id: str, pid: int, is_alive: Callable[[], bool]) -> None:
        """Watch the process of a run."""
        with self._lock:
            self._alive[run_id] = (pid, is_alive)
            if self._thread is None:
                self._thread = threading.Thread(target=self._poll, name="etl-assets-run-watch", daemon=True)
                self._thread.start()

    def _poll(self) -> None:
        wait = threading.Event()
        while not wait.wait(POLL_S):
            with self._lock:
                watched = list(self._alive.items())
            for run_id, (pid, is_alive) in watched:
                if is_alive():
                    continue
                with self._lock:
                    self._alive.pop(run_id, None)
                self._on_end(run_id, pid)
