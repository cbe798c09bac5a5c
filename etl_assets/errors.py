"""Every error this package raises on purpose, as facts: what is wrong, with what, and what helps.

An error's text states the finding and nothing else. The wings that show it, cli and orchestration, turn `advice` into
commands and actions in the Dagster UI. `orchestration.retry` decides which error is retried. Imports no other module of
the package, so that every wing can raise these. Names that come from files are put into a text with `shown`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

# Marks and letters that Unicode says to show as nothing; not the selectors of an emoji's look, U+FE0E and U+FE0F.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]")


def escape(character: str) -> str:
    """The escape that Python's `ascii` writes for a character beyond ASCII or that is not printable."""
    if not character.isprintable():
        return ascii(character)[1:-1]
    return f"\\u{ord(character):04x}" if character <= "\uffff" else f"\\U{ord(character):08x}"


def escaped(text: str, write: Callable[[str], str] = escape) -> str:
    """`text` with every character that cannot be seen as `write` writes it, by default as an escape.

    The one rule for messages and terminals. What Python does not call printable acts instead of being seen: it moves
    the cursor, ends a line, reverses the text after it or has no width. There are no exceptions for sequences of emoji
    that a joiner holds together, nor for spaces that are not ASCII.
    """
    if text.isprintable() and not _INVISIBLE.search(text):
        return text
    return "".join(
        write(character) if not character.isprintable() or _INVISIBLE.match(character) else character
        for character in text
    )


def shown(name: str) -> str:
    """A name out of a file or of a file, for a message: a character that is not seen as such is written as an escape.

    A column's name may hold line breaks that would pass for lines of a log, codes that a terminal obeys, and marks that
    reverse the direction of the text after them. Dagster's page of a failed run turns an address into a link.
    """
    return escaped(name).replace("://", r":\x2f/")


class Action(StrEnum):
    """An action that helps against an error."""

    RUN = "run"  # run the pipeline; with `shards`, those only
    RUN_FORCED = "run_forced"  # run and replace what is published
    STAGE = "stage"  # materialize the sources
    GENERATE = "generate"  # write sample exports; `value` is the folder
    EXPORT_AGAIN = "export_again"
    ACCEPT_SHRUNK = "accept_shrunk"  # run and accept that there are far fewer rows than before
    SET = "set"  # change the setting `setting`; `value` is one that works
    UNSET = "unset"  # remove the setting `setting`
    EDIT = "edit"  # change the file `value` of the project
    REPORT = "report"  # report a defect of this package
    RELEASE = "release"  # let the next merge replace a restored warehouse
    LIST_KEPT = "list_kept"  # list the kept warehouses
    REJECTS = "rejects"  # look at the rejected rows of the source `value`
    QUERY = "query"  # another statement; `value` is one that works
    ALLOW = "allow"  # let this user read the file or folder `value`
    CHECK_DISK = "check_disk"
    CHECK_STORE = "check_store"  # look whether the store at the URL `value` can be reached and has room
    INSTALL = "install"  # install the package `value`


@dataclass(frozen=True)
class Advice:
    """One thing that helps; which fields are set depends on the action."""

    action: Action
    setting: str | None = None
    value: str | None = None
    shards: tuple[str, ...] = ()


class EtlError(Exception):
    """Base of every error this package raises on purpose.

    Args:
        finding: what is wrong: the thing, what was expected and what was found, in one or two sentences.
        subject: the source, shard, file or setting it is about.
        advice: what helps, the most likely first.
    """

    def __init__(self, finding: str, *advice: Advice, subject: str | None = None) -> None:
        super().__init__(finding)
        self.finding = finding
        self.subject = subject
        self.advice = advice

    @property
    def kind(self) -> str:
        """The kind of error in words that scripts can compare: `input`, `config`, `shard_set` and the like."""
        name = type(self).__name__.removesuffix("Error")
        return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).lstrip("_")


class ConfigError(EtlError):
    """A setting, an option, the project or the state of `ETL_HOME` makes the request impossible (exit code 2)."""


class InputError(EtlError):
    """An export is missing, unreadable or breaks the contract as a whole (exit code 2)."""


def all_in_one(errors: Sequence[InputError]) -> InputError:
    """One error with the findings of all, each once: whoever mends one export should not meet the next one then."""
    if len(errors) == 1:
        return errors[0]
    findings = dict.fromkeys(error.finding for error in errors)
    advice = dict.fromkeys(one for error in errors for one in error.advice)
    return InputError("\n".join(findings), *advice, subject=errors[0].subject)


class RejectRatioError(EtlError):
    """More rows of a source broke the contract than the settings allow."""


class ShrunkError(EtlError):
    """An export or the result has far fewer rows than the last publication, and no one has said that this is right."""


class CollapsedError(EtlError):
    """Most rows of an export replace each other: its ids are damaged, or stand for something else."""


class SourceChangedError(EtlError):
    """An export or a staged snapshot changed while it was being read; reading it again heals this."""


class DamagedSnapshotError(EtlError):
    """Staged rows are not what was written; the snapshot is withdrawn, the next run reads the exports again."""


class AccountingError(EtlError):
    """Rows in is not rows accepted plus rows quarantined, or a shard lost or gained a customer: always a defect."""


class ProfileError(EtlError):
    """The project's query is refused by DuckDB, or gives profiles that break what the project declares of them."""


class CheckError(EtlError):
    """A check of the project's own is refused by DuckDB, or one that blocks fails on the warehouse to be published."""


class ShardSetError(EtlError):
    """The published shards are incomplete, stale or damaged, so they may not be merged."""


class WriteError(EtlError):
    """A file that was just written cannot be read back: the machine's disk or memory is not to be trusted."""


class StoreError(EtlError):
    """The object store did not answer, or failed; trying again can help."""


class GoneError(StoreError):
    """An object that was put is in the store no more."""


class StoppedError(EtlError):
    """The work was stopped before it was published: its run was cancelled, or another part of it failed for good."""


class AttemptTimeoutError(EtlError):
    """An attempt at a shard or a source took longer than the time limit; it was interrupted."""
