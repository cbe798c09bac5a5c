"""Dagster's webserver with the guard before it: what `etl-assets ui` serves, with the daemon or with `--read-only`.

`etl-assets ui --read-only` becomes this. `dagster dev` starts it in place of `dagster_webserver` (dev.py).
"""

import os
from typing import Any

from dagster_webserver import app
from dagster_webserver.cli import main
from dagster_webserver.webserver import DagsterWebserver
from starlette.middleware import Middleware

from etl_assets.orchestration.instance.guard import Guard, Hosts
from etl_assets.orchestration.instance.opening import read_paths_literally


class GuardedWebserver(DagsterWebserver[Any, Any]):
    """Dagster's webserver, which answers its own pages only."""

    def build_middleware(self) -> list[Middleware]:
        """The guard is the first to see a request."""
        return [Middleware(Guard, hosts=Hosts.parse(os.environ)), *super().build_middleware()]


def serve() -> None:
    """Run `dagster-webserver` with this process's arguments."""
    read_paths_literally()
    app.DagsterWebserver = GuardedWebserver  # type: ignore[attr-defined]
    main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    serve()
