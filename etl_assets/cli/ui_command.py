"""`etl-assets ui`: the Dagster UI and daemon for this project, with its instance's settings.

This process becomes `dagster dev` (see `orchestration/instance/dev.py`), so that Dagster itself receives the signals.
"""

import argparse
import errno
import os
import shlex
import signal
import socket
import sys
from importlib import resources
from pathlib import Path

from etl_assets.cli.arguments import Parser, Subparsers, add_project, add_subcommand, whole_number
from etl_assets.cli.environment import warn_of_unknown
from etl_assets.cli.output import printable, write_error
from etl_assets.cli.program import command as command_line
from etl_assets.errors import ConfigError
from etl_assets.orchestration.instance.guard import ANY_ADDRESS, HOSTS_VARIABLE, is_host, is_loopback, is_unspecified
from etl_assets.orchestration.instance.home import dagster_home
from etl_assets.project.setting_origins import origin
from etl_assets.project.settings import load_settings

_DESCRIPTION = """
    Serve the Dagster UI, with the daemon that runs backfills, sensors and the schedule. Ctrl-C stops everything.
    The instance is in $DAGSTER_HOME, else in the project's dagster_home, else in .dagster in the current folder. A
    workspace.yaml in the current folder is used if there is one. The UI has no log-in: keep it on this machine, or put
    --read-only behind a proxy that has one. It answers to localhost and the --host; for a proxy's name add
    --allow-host. Start it in folders you trust: workspace.yaml, .env and .dagster there decide what runs.
"""
_EXAMPLES = """
    etl-assets ui
    etl-assets ui --port 3001
    etl-assets ui --read-only --port 3002
    etl-assets ui --read-only --allow-host profiles.example.com
"""
_WORKSPACE = "workspace.yaml"
# If the backfill daemon polls (every 30 s) while a killed code server restarts, it takes the assets for removed and
# fails the backfill. This setting makes it retry.
_PATIENT = {"DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR": "1"}
# Matches the beginning of the warning. Deliberately not its category: Python reads this variable before it can import
# one from site-packages.
_QUIET = "ignore:Function `dev_command` is superseded"


def add_parser(subparsers: Subparsers) -> Parser:
    """Declare the arguments."""
    parser = add_subcommand(subparsers, "ui", _DESCRIPTION, _EXAMPLES)
    add_project(parser)
    parser.add_argument("--port", type=whole_number(1, 65535), default=3000, help="port to listen on (3000)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        type=_host_name,
        metavar="NAME",
        help="another name or address under which browsers reach the UI, such as a proxy's; can be repeated",
    )
    parser.add_argument(
        "--read-only", action="store_true", help="the UI alone, to view: no daemon, no launches, no changes"
    )
    return parser


def command(args: argparse.Namespace) -> int:
    """Check the settings and the port, then become Dagster; does not return."""
    settings = load_settings()
    warn_of_unknown()
    _check_port(args.host, args.port)
    home = dagster_home(os.environ)
    url = _url(args.host, args.port)
    print(printable(f"Dagster UI: {url}  (ready in about 10 s; Ctrl-C stops it; instance in {home})"))
    for what, path, name in (("Exports", settings.sources, "sources"), ("Results", settings.home, "home")):
        print(printable(f"{what}: {path} ({origin(name)})"))
    if not (home / "dagster.yaml").is_file():
        shipped = resources.files("etl_assets.orchestration.instance") / "dagster.yaml"
        write_error(
            f"warning: {home} has no dagster.yaml, and by default Dagster does not retry killed runs. "
            f"Copy the shipped one: cp {shlex.quote(str(shipped))} {shlex.quote(str(home))}/"
        )
    if not is_loopback(args.host) and not args.read_only:
        write_error(
            f"warning: anyone who can reach {args.host}:{args.port} can start and delete runs: the UI has no log-in."
        )
    sys.stdout.flush()
    # A shell starts background jobs with SIGINT ignored. Dagster would copy that to SIGTERM, and only SIGKILL would end
    # it.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    os.execve(sys.executable, [sys.executable, *_arguments(args)], _environment(args, home))


def _environment(args: argparse.Namespace, home: Path) -> dict[str, str]:
    """What this process and all that Dagster starts get."""
    environment = {
        **_PATIENT,
        **os.environ,
        "DAGSTER_HOME": str(home),
        "PYTHONWARNINGS": _warnings(os.environ),
        # `python -m` would take modules from the current folder first: a yaml.py there would be run as Dagster's.
        "PYTHONSAFEPATH": "1",
        HOSTS_VARIABLE: ",".join([ANY_ADDRESS if is_unspecified(args.host) else args.host, *args.allow_host]),
    }
    if environment.get("PYTHONPATH"):
        # Dagster takes the first entry of the path for the one that `python -m` adds, and leaves it out while it loads
        # the definitions. With PYTHONSAFEPATH it would leave out the user's first folder.
        environment["PYTHONPATH"] = os.pathsep.join([os.devnull, environment["PYTHONPATH"]])
    if not Path(_WORKSPACE).is_file():
        # The code server would look there for the modules of the definitions, as it does for a workspace of the user's.
        environment["DAGSTER_EMPTY_WORKING_DIRECTORY"] = "1"
    if not (home / "dagster.yaml").is_file():
        # Nor is anything sent that an earlier Dagster, with its telemetry on, has left in this folder.
        environment.setdefault("DAGSTER_DISABLE_TELEMETRY", "yes")
    return environment


def _arguments(args: argparse.Namespace) -> list[str]:
    dev = ["-m", "etl_assets.orchestration.instance.dev", "dev"]
    program = ["-m", "etl_assets.orchestration.instance.webserver", "--read-only"] if args.read_only else dev
    workspace = _WORKSPACE
    if not Path(workspace).is_file():
        workspace = str(resources.files("etl_assets.orchestration.instance") / workspace)
    return [*program, "--host", args.host, "--port", str(args.port), "-w", workspace]


def _warnings(environment: "os._Environ[str]") -> str:
    """The user's own filters come last, so that they win."""
    return ",".join(filter(None, [_QUIET, environment.get("PYTHONWARNINGS", "")]))


def _check_port(host: str, port: int) -> None:
    """Fail now: Dagster would report a busy port below a hundred lines of its daemon's log."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # Like the server: a port that was just closed can be used again.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"Port {port} of {host} is in use, perhaps by another Dagster UI. Choose another: "
                + command_line(f"ui --port {port % 65535 + 1}")
            ) from error
        raise ConfigError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}. See --host and --port."
        ) from error


def _host_name(text: str) -> str:
    if not is_host(text):
        raise argparse.ArgumentTypeError(f"expected a name or an address without scheme and port, not {text}")
    return text


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"
