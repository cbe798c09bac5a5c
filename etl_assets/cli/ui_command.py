"""`etl-assets ui`: the Dagster UI and daemon for this project, with its instance's settings.

This process becomes `dagster dev` (see `dev.py`), so that signals are Dagster's own.
"""

import argparse
import errno
import os
import signal
import socket
import sys
from importlib import resources
from pathlib import Path

from etl_assets.cli.arguments import Parser, Subparsers, add_subcommand, whole_number
from etl_assets.errors import ConfigError
from etl_assets.orchestration.instance.home import dagster_home
from etl_assets.project.settings import load_settings

_DESCRIPTION = """
    Serve the Dagster UI, with the daemon that runs backfills, sensors and the schedule. Ctrl-C stops everything.
    The instance lives in $DAGSTER_HOME, or in .dagster in the current folder. A workspace.yaml in the current
    folder is used if there is one. The UI has no authentication: keep it on this machine, or put --read-only
    behind a proxy.
"""
_EXAMPLES = """
    etl-assets ui
    etl-assets ui --port 3001
    etl-assets ui --read-only --port 3002
"""
# Without it a backfill whose next look (every 30 s) falls into the seconds in which a killed code server is replaced
# fails for good: its assets count as removed from the code.
_PATIENT = {"DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1"}
# Matched against the beginning of the warning. By category it could not be: Python reads this variable before
# anything can be imported from site-packages.
_QUIET = "ignore:Function `dev_command` is superseded"


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "ui", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--port", type=whole_number(1, 65535), default=3000, help="port to listen on (3000)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument(
        "--read-only", action="store_true", help="the UI alone, for looking: no launches, no daemon, nothing is changed"
    )
    return parser


def command(args: argparse.Namespace) -> int:
    """Check what can be checked now and become Dagster; does not return."""
    load_settings()
    _check_port(args.host, args.port)
    home = dagster_home(os.environ)
    print(f"Dagster UI: {_url(args.host, args.port)}  (ready in about 10 s; Ctrl-C stops it; instance in {home})")
    if not (home / "dagster.yaml").is_file():
        print(
            f"warning: {home} has no dagster.yaml; by default Dagster heals no killed run. Copy the shipped one: "
            f"cp {resources.files('etl_assets.orchestration.instance') / 'dagster.yaml'} {home}/",
            file=sys.stderr,
        )
    if not _is_loopback(args.host) and not args.read_only:
        print(
            f"warning: whoever can reach {args.host}:{args.port} can start and delete runs: it has no log-in.",
            file=sys.stderr,
        )
    sys.stdout.flush()
    # A shell that starts a background job lets it ignore SIGINT; Dagster would then ignore SIGTERM as well, because it
    # gives that the same handler, and nothing but SIGKILL would end it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    environment = {**_PATIENT, **os.environ, "DAGSTER_HOME": str(home), "PYTHONWARNINGS": _warnings(os.environ)}
    os.execve(sys.executable, [sys.executable, *_arguments(args)], environment)


def _arguments(args: argparse.Namespace) -> list[str]:
    dev = ["-m", "etl_assets.orchestration.instance.dev", "dev"]
    program = ["-m", "etl_assets.orchestration.instance.read_only", "--read-only"] if args.read_only else dev
    workspace = "workspace.yaml"
    if not Path(workspace).is_file():
        workspace = str(resources.files("etl_assets.orchestration.instance") / workspace)
    return [*program, "--host", args.host, "--port", str(args.port), "-w", workspace]


def _warnings(environment: "os._Environ[str]") -> str:
    """The user's own filters stay, and come later, so that they win."""
    return ",".join(filter(None, [_QUIET, environment.get("PYTHONWARNINGS", "")]))


def _check_port(host: str, port: int) -> None:
    """Find out now: Dagster would say so below a hundred lines of its daemon's log."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server does: a port that was just closed may be used again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"Port {port} of {host} is in use, perhaps by another Dagster UI. Choose another: "
                f"etl-assets ui --port {port % 65535 + 1}"
            ) from error
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. See --host and --port."
        ) from error


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
