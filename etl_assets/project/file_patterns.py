"""The patterns of files that a contract may have: below the folder of the exports, in the form of `Path.glob`."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

_ANY_DEPTH = "**"


def refusal(pattern: str) -> str | None:
    """What is wrong with a pattern; None for a sound one."""
    steps = PurePosixPath(pattern).parts
    if pattern.startswith(("/", "~")) or ".." in pattern.replace("\\", "/").split("/"):
        return f"a pattern below the folder of the exports is expected, found '{pattern}'"
    if not steps or "\0" in pattern:
        return f"expected a pattern such as accounts-*.csv, found {pattern!r}"
    if any(_ANY_DEPTH in step and step != _ANY_DEPTH for step in steps):
        return f"expected a pattern such as crm/**/*.csv: two stars stand alone between slashes, found '{pattern}'"
    return None


def files_of(pattern: str) -> str:
    """The pattern in the form of `Path.glob`, in which two stars at the end name folders only."""
    return f"{pattern.rstrip('/')}/*" if PurePosixPath(pattern).name == _ANY_DEPTH else pattern


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern names this file, whose path is relative to the folder of the exports."""
    return _matches(PurePosixPath(files_of(pattern)).parts, PurePosixPath(name).parts)


def names_folder(pattern: str, name: str) -> bool:
    """Whether a pattern names everything in this folder, as `old/**` does."""
    steps, parts = PurePosixPath(pattern).parts, PurePosixPath(name).parts
    return steps[-1] == _ANY_DEPTH and (_matches(steps[:-1], parts) or matches(pattern, name))


def _matches(steps: Sequence[str], parts: Sequence[str]) -> bool:
    if not steps or not parts:
        return not steps and not parts
    if steps[0] == _ANY_DEPTH:
        return _matches(steps[1:], parts) or _matches(steps, parts[1:])
    return fnmatchcase(parts[0], steps[0]) and _matches(steps[1:], parts[1:])
