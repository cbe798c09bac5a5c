"""The parser, exit codes and argument types that all subcommands share.

`--help` imports this module, so it imports nothing slow.
"""

import argparse
import re
import textwrap
from collections.abc import Callable
from typing import NoReturn, TypeAlias

from etl_assets.cli.output import write_error
from etl_assets.cli.program import spell

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
# A shell's exit codes for commands ended by SIGINT and by SIGPIPE.
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141

EXIT_CODES = """\
exit codes:
  0    done (run: the warehouse is published)
  1    it ran and something failed; the failure and the way to recover are printed
  2    bad usage, configuration or input files; nothing was changed
  130  interrupted by Ctrl-C (143 by SIGTERM, 129 by SIGHUP)"""


class Parser(argparse.ArgumentParser):
    """Argparse with errors in this program's form, and help that keeps the line breaks of its examples."""

    def __init__(self, *args: object, **options: object) -> None:
        options.setdefault("formatter_class", _formatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(*args, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print the mistake and where to find help; the usage of every option would bury it."""
        write_error(f"error: {message}\n{spell(f'See: {self.prog} --help')}")
        self.exit(EXIT_USAGE)


# What `Parser.add_subparsers` returns has no public name.
Subparsers: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_subcommand(subparsers: Subparsers, name: str, description: str, examples: str) -> Parser:
    """A subcommand's parser with its description, examples and the exit codes."""
    return subparsers.add_parser(
        name,
        description=textwrap.dedent(description).strip(),
        epilog=spell(f"examples:\n{textwrap.indent(textwrap.dedent(examples).strip(), '  ')}\n\n{EXIT_CODES}"),
    )


def add_project(parser: Parser) -> None:
    """The option `--project`, which `environment.adopt_project` takes over before the command starts."""
    parser.add_argument(
        "--project",
        metavar="FOLDER",
        help="folder of your project (ETL_PROJECT, else the nearest one upwards, else the only one in this folder)",
    )


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: a whole number from `low` to `high`; `1_000_000` may be written for 1000000."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]+(_[0-9]+)*", text.strip()) or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, found '{text}'")
        return int(text)

    return parse


def share(high: float) -> Callable[[str], float]:
    """An argparse type: a number from 0 to `high`."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"[0-9]*\.?[0-9]+", text.strip()) or float(text) > high:
            raise argparse.ArgumentTypeError(f"expected a share from 0 to {high}, found '{text}'")
        return float(text)

    return parse


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28)
