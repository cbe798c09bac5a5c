"""The `etl-assets` command: imports the one subcommand it needs, and turns errors into messages and exit codes.

Each subcommand has a module of its own (`add_parser`, `command`), imported lazily: `--help` and `query` must not wait
for Dagster, whose import takes longer than most queries.
"""

import argparse
import difflib
import errno
import importlib
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from etl_assets.cli import environment, output
from etl_assets.cli.arguments import (
    EXIT_BROKEN_PIPE,
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Parser,
    Subparsers,
)
from etl_assets.cli.program import NAME, name_project, spell
from etl_assets.cli.wording import explained
from etl_assets.errors import ConfigError, EtlError, InputError

COMMANDS = {
    "init": "make a project folder: from your exports, or from the shipped example",
    "check": "read a project, its SQL and the headers of its exports; list all mistakes and what a run would do",
    "run": "run the pipeline: stage the sources, build the shards, publish the warehouse",
    "status": "show what is published, what is stale and what went wrong, shard by shard",
    "rejects": "show rejected rows and cells, also those of a source that failed",
    "query": "run read-only SQL against the published warehouse",
    "restore": "bring back a warehouse that was replaced, or list those that are kept",
    "export": "write the result of a lake (ETL_LAKE) to one DuckDB file",
    "generate": "write sample exports for the project",
    "ui": "serve the Dagster UI on this machine",
    "drill": "break a shard on purpose and prove that the result is the same",
}

_EXAMPLES = """\
examples:
  etl-assets init my360 --from exports/
  etl-assets run
  etl-assets query "SELECT sources, count(*) FROM merged_profiles GROUP BY ALL"
"""
_GO_ON = "Then run the same command again; finished work is kept."
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


class Subcommand(Protocol):
    """The interface of a subcommand's module."""

    def add_parser(self, subparsers: Subparsers) -> Parser:
        """Declare the subcommand's arguments."""

    def command(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    output.prepare()
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except (ConfigError, InputError) as error:
        return _complain(explained(error), EXIT_USAGE)
    except EtlError as error:
        return _complain(explained(error), EXIT_FAILED)
    except KeyboardInterrupt as error:
        # Another signal than Ctrl-C has a number of its own; a shell adds 128 to it.
        number = getattr(error, "number", None)
        return _complain("interrupted", 128 + number if number else EXIT_INTERRUPTED, prefix="")
    except BrokenPipeError:
        # The reader has closed the pipe. Without this the interpreter would complain when it flushes at exit.
        output.mute(sys.stdout)
        return EXIT_BROKEN_PIPE
    except OSError as error:
        return _complain(_refused(error), EXIT_FAILED)
    except Exception:
        output.write_error("error: this is a defect of etl-assets. Please report it with the lines below.")
        raise
    return code


def _dispatch(argv: list[str]) -> int:
    wanted = argv[0] if argv and not argv[0].startswith("-") else None
    parser = _parser()
    if wanted is not None and wanted not in COMMANDS:
        close = difflib.get_close_matches(wanted, COMMANDS, n=1)
        parser.error(f"there is no command '{wanted}'; " + (f"did you mean '{close[0]}'?" if close else _listed()))
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    subcommand = None
    for name, summary in COMMANDS.items():
        if name == wanted:
            subcommand = subcommand_named(name)
            subcommand.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    args = parser.parse_args(argv)
    if subcommand is None:
        parser.error(f"a command is missing; {_listed()}")
    named = getattr(args, "project", None)
    name_project(named)
    if hasattr(args, "project"):
        environment.adopt_project(named)
    return subcommand.command(args)


def subcommand_named(name: str) -> Subcommand:
    """Import the module of one of `COMMANDS`."""
    return cast("Subcommand", importlib.import_module(f"etl_assets.cli.{name}_command"))


def _parser() -> Parser:
    parser = Parser(
        prog=NAME,
        description="Merge the exports of several systems into one profile per key, exactly once, shard by shard.",
        epilog=spell(f"{_EXAMPLES}\n{environment.HELP}\n{EXIT_CODES}"),
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    return parser


class _Version(argparse.Action):
    """Reads the version only when it is asked for: importlib.metadata is a third of the start-up time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"{NAME} {version('etl_assets')}")
        parser.exit()


def _listed() -> str:
    return f"the commands are {', '.join(COMMANDS)}"


def _refused(error: OSError) -> str:
    """What the system refused, and advice that fits the reason."""
    path = error.filename if isinstance(error.filename, str) else None
    text = f"{error.strerror or error}{f': {path}' if path else ''}."
    if error.errno in _FULL:
        where = f"the disk of {path}" if path else "the disk"
        return f"{text} Free space on {where}, or raise its quota or file size limit. {_GO_ON}"
    if error.errno in _FORBIDDEN:
        what = path or "ETL_HOME and DAGSTER_HOME"
        return f"{text} Let this user read and write {what}, or choose another folder. {_GO_ON}"
    return f"{text} Fix the cause. {_GO_ON}"


def _complain(what: str, code: int, prefix: str = "error: ") -> int:
    output.write_error(f"{prefix}{what}")
    return code


if __name__ == "__main__":
    sys.exit(main())
