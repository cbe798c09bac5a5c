"""Looks again and again whether something still holds for runs: a process is alive, or a cluster has the job."""

import logging
import threading
from collections.abc import Callable

_LOG = logging.getLogger("dagster.etl_assets")


class RunWatch:
    """Calls what was given with a run once its condition no longer holds, and forgets the run; one thread for all."""

    def __init__(self, poll_s: float) -> None:
        self._poll_s = poll_s
        self._lock = threading.Lock()
        self._watched: dict[str, tuple[Callable[[], bool], Callable[[], None]]] = {}
        self._thread: threading.Thread | None = None

    def __contains__(self, run_id: str) -> bool:
        with self._lock:
            return run_id in self._watched

    def add(self, run_id: str, holds: Callable[[], bool], on_end: Callable[[], None]) -> None:
        """Watch a run."""
        with self._lock:
            self._watched[run_id] = (holds, on_end)
            if self._thread is None:
                self._thread = threading.Thread(target=self._poll, name="etl-assets-run-watch", daemon=True)
                self._thread.start()

    def _poll(self) -> None:
        wait = threading.Event()
        while not wait.wait(self._poll_s):
            with self._lock:
                watched = list(self._watched.items())
            for run_id, (holds, on_end) in watched:
                try:
                    if holds():
                        continue
                    on_end()
                except Exception:  # noqa: BLE001
                    # The database may be away for a moment. The watch goes on with the other runs, and comes back.
                    _LOG.exception("A run that is gone could not be reported: %s", run_id)
                    continue
                with self._lock:
                    self._watched.pop(run_id, None)
