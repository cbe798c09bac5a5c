"""Files grouped into sources: `billing-2026-05.csv` and `billing (1).csv` are one, and so is a folder.

Files of one name whose headers have little in common are sources of their own.
"""

import glob
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from etl_assets.drafting.naming import free_name, snake_case
from etl_assets.engine.reading.formats import suffix_of
from etl_assets.engine.reading.patterns import natural_order
from etl_assets.project.columns import plain_name

# What systems and browsers put behind or before a name: counts, copies, dates, parts, words for the act of exporting.
_BEHIND = re.compile(
    r"(\s*\(\d+\)|[-_. ]*(19|20)\d{2}([-_.]?\d{2}){0,2}([-_T. ]*\d{2}([-_:.]?\d{2}){1,2}Z?)?|[-_. ]+\d+"
    r"|[-_. ]+(copy|part|page|v)[-_. ]?\d*)$",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"^(19|20)\d{2}[-_.]?\d{2}([-_.]?\d{2})?[-_. ]+")
_EXPORT = re.compile(r"[-_. ]+(exports?|report|list|data|dump)$|^(exports?|report)[-_. ]+(of[-_. ]+)?", re.IGNORECASE)
# Names that mean something else to the engine or to Dagster.
RESERVED = frozenset({"base", "profiles", "shard_profiles", "merged_profiles"})


@dataclass(frozen=True)
class Group:
    """The files of one source in reading order, and the patterns that match these and no other file."""

    name: str
    patterns: tuple[str, ...]
    files: tuple[Path, ...]


def is_readable(path: Path) -> bool:
    """Whether the ending is that of a format that can be read."""
    return bool(suffix_of(path.name))


def list_files(root: Path) -> list[Path]:
    """Every file in the folder and below it, without hidden ones, in natural order."""
    found = (path for path in root.rglob("*") if path.is_file())
    return natural_order(
        path for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )


def group_files(root: Path, headers: Mapping[Path, Sequence[str]], kinds: Mapping[Path, str]) -> list[Group]:
    """Groups of the files that have a header, in the order of their first files.

    `kinds` says how each is written: a source has one dialect.
    """
    by_name: dict[tuple[str, str, str], list[Path]] = defaultdict(list)
    for path in headers:
        by_name[*_place(path, root, headers), kinds[path]].append(path)
    groups: list[Group] = []
    for (folder, stem, _), paths in by_name.items():
        for files in _with_like_headers(paths, headers):
            name = snake_case(_EXPORT.sub("", stem) or stem, "source")
            if folder and stem != folder:
                name = snake_case(f"{folder}_{name}", "source")
            taken = [*RESERVED, *(group.name for group in groups)]
            groups.append(Group(free_name(name, taken), _patterns(root, folder, files), tuple(files)))
    return groups


def stem_of(name: str) -> str:
    """A file's name without its ending and without what changes from one export to the next."""
    stem = name.removesuffix(suffix_of(name))
    while (shorter := _BEFORE.sub("", _BEHIND.sub("", stem))) != stem and shorter:
        stem = shorter
    return stem


def _place(path: Path, root: Path, headers: Mapping[Path, Sequence[str]]) -> tuple[str, str]:
    """The folder and the name that a file is grouped by; in a folder of one kind, the folder's name."""
    parts = path.relative_to(root).parts
    if len(parts) == 1:
        return "", stem_of(path.name).lower()
    folder = parts[0]
    beside = [other for other in headers if other.relative_to(root).parts[0] == folder]
    is_one_kind = len(_with_like_headers(beside, headers)) == 1
    return folder, folder if is_one_kind else stem_of(path.name).lower()


def _with_like_headers(paths: Sequence[Path], headers: Mapping[Path, Sequence[str]]) -> list[list[Path]]:
    """The files in groups whose headers have at least half of their columns in common."""
    groups: list[tuple[frozenset[str], list[Path]]] = []
    for path in paths:
        names = frozenset(plain_name(header) for header in headers[path])
        for number, (shared, files) in enumerate(groups):
            if 2 * len(shared & names) >= len(shared | names):
                groups[number] = (shared & names, [*files, path])
                break
        else:
            groups.append((names, [path]))
    return [files for _, files in groups]


def _patterns(root: Path, folder: str, files: Sequence[Path]) -> tuple[str, ...]:
    """The widest pattern that matches just these files, so that the next export is read too; else their names."""
    for pattern in _candidates(root, folder, files):
        if _matched(root, pattern) == set(files):
            return (pattern,)
    return tuple(glob.escape(path.relative_to(root).as_posix()) for path in files)


def _candidates(root: Path, folder: str, files: Sequence[Path]) -> Iterable[str]:
    if folder:
        prefix = f"{glob.escape(folder)}/"
        yield f"{prefix}*"
        yield f"{prefix}**/*"
    else:
        prefix = ""
    first = files[0]
    ending = suffix_of(first.name)
    if len(files) == 1 and stem_of(first.name) == first.name.removesuffix(ending):
        yield glob.escape(first.relative_to(root).as_posix())
    stem = stem_of(first.name)
    before, found, behind = first.name.partition(stem)
    if found:
        start = f"{prefix}{'*' if before else ''}{glob.escape(stem)}"
        # `invoices_*.csv` does not match `invoices-old.csv`, which may be another system's.
        yield f"{start}{glob.escape(behind[:1])}*{ending}"
        yield f"{start}*{ending}"
        yield f"{start}*"


def _matched(root: Path, pattern: str) -> set[Path]:
    return {path for path in root.glob(pattern) if path.is_file() and not path.name.startswith(".")}
