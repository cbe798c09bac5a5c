"""The `etl-assets` command: finds the subcommand, imports that one only, and turns errors into messages and exit codes.

What a subcommand does is in its own module (`add_parser`, `command`). Imported lazily: `--help` and `query` must not
wait for Dagster, which takes longer to import than most queries to run.
"""

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Protocol, cast

from etl_assets.cli.arguments import (
    EXIT_BROKEN_PIPE,
    EXIT_CODES,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    Parser,
    Subparsers,
)
from etl_assets.errors import ConfigError, EtlError, InputError

COMMANDS = {
    "run": "run the pipeline: stage the sources, build the shards, publish the warehouse",
    "status": "show what is published, what is stale and what went wrong, shard by shard",
    "query": "run read-only SQL against the published warehouse",
    "generate": "write sample exports of the four sources",
    "ui": "serve the Dagster UI on this machine",
    "drill": "break a shard on purpose and prove that the result is the same",
}

_EPILOG = f"""\
examples:
  etl-assets generate --rows 100_000 --dirty 0.02
  etl-assets run
  etl-assets query "SELECT churn_risk, count(*) FROM merged_profiles GROUP BY ALL"

environment:
  ETL_SOURCES         folder of the exports (data/sources)
  ETL_HOME            folder of what the pipeline makes (data)
  ETL_NUM_SHARDS      number of shards (10)
  ETL_MAX_REJECT_RATIO, ETL_WORKERS, ETL_MEMORY_LIMIT, DAGSTER_HOME   see the README

{EXIT_CODES}"""

_GO_ON = "What is finished is kept. Mend the cause, for example a full disk, and run the same command again."


class Subcommand(Protocol):
    """What each module of this package offers to `main`."""

    def add_parser(self, subparsers: Subparsers) -> Parser:
        """Declare the subcommand's arguments."""

    def command(self, args: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns its exit code."""
    try:
        code = _dispatch(list(sys.argv[1:] if argv is None else argv))
        sys.stdout.flush()
    except (ConfigError, InputError) as error:
        return _complain(error, EXIT_USAGE)
    except EtlError as error:
        return _complain(error, EXIT_FAILED)
    except KeyboardInterrupt:
        return _complain("interrupted", EXIT_INTERRUPTED, prefix="")
    except BrokenPipeError:
        # Whoever read our output has enough. Without this the interpreter complains when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        return _complain(f"the system refused: {error.strerror or error}{where}. {_GO_ON}", EXIT_FAILED)
    except Exception:
        print("error: this is a defect of etl-assets; please report it with the lines below.", file=sys.stderr)
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
            subcommand = cast("Subcommand", importlib.import_module(f"etl_assets.cli.{name}_command"))
            subcommand.add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=summary)
    args = parser.parse_args(argv)
    if subcommand is None:
        parser.error(f"a command is missing; {_listed()}")
    return subcommand.command(args)


def _parser() -> Parser:
    parser = Parser(
        prog="etl-assets",
        description="Merge a customer's records from CRM, Billing, Product and Support into one enriched profile.",
        epilog=_EPILOG,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    return parser


class _Version(argparse.Action):
    """Reads the version only when it is asked for: importlib.metadata is a third of the start-up time."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"etl-assets {version('etl_assets')}")
        parser.exit()


def _listed() -> str:
    return f"the commands are {', '.join(COMMANDS)}"


def _complain(what: object, code: int, prefix: str = "error: ") -> int:
    # Messages quote names, headers and statements: what moves a terminal's cursor must not come from somebody's file.
    shown = "".join(c if c.isprintable() or c in "\n\t" else ascii(c)[1:-1] for c in str(what))
    sys.stderr.write(f"{prefix}{shown}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
