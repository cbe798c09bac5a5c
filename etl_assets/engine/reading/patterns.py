"""The files that a source's patterns name, in the order in which a person would number them."""

import re
from collections.abc import Iterable
from pathlib import Path

from etl_assets.engine.reading.other_programs import is_kept_apart, is_mark
from etl_assets.errors import Action, Advice, InputError, shown
from etl_assets.project.contract import Source
from etl_assets.project.file_patterns import files_of

_DIGITS = re.compile(r"(\d+)")
# What a name ends in, such as `.csv.gz`. A part with a digit is no ending: it numbers the file, as in `export.10.csv`.
_ENDING = re.compile(r"(?:\.[^\W\d_]+)+$")


def natural_order(paths: Iterable[Path]) -> list[Path]:
    """Numbers in names count as numbers, and a name comes before its longer ones.

    `parts-9` before `parts-10`, `parts.csv` before `parts (1).csv`; folders before what is in them.
    """
    return sorted(paths, key=_natural_key)


def _natural_key(path: Path) -> tuple[list[tuple[list[tuple[int, str]], str]], str]:
    # The ending last: otherwise `parts (1).csv` comes before `parts.csv`, because a blank comes before a point.
    parts = [(_numbered(_ENDING.sub("", part)), part) for part in path.parts]
    return parts, str(path)


def _numbered(text: str) -> list[tuple[int, str]]:
    """Text and numbers in turn; all are pairs, so that they compare."""
    return [(int(part), "") if part.isascii() and part.isdigit() else (-1, part) for part in _DIGITS.split(text)]


def matching_files(source: Source, root: Path) -> list[Path]:
    """The files in `root` that the source's patterns name; InputError when one of them names none."""
    found: dict[Path, None] = {}
    for pattern in source.files:
        paths = [path for path in root.glob(files_of(pattern)) if not path.is_dir() and not _is_hidden(path, root)]
        if not paths:
            raise InputError(
                f"No file in {root} matches '{pattern}' of source '{source.name}'. Found: {names_in(root)}.",
                Advice(Action.EDIT, value="etl_assets.yaml"),
                Advice(Action.SET, "ETL_SOURCES"),
                subject=source.name,
            )
        found |= dict.fromkeys(paths)
    return natural_order(found)


def _is_hidden(path: Path, root: Path) -> bool:
    # README.csv is read where a pattern names it.
    is_named = path.name.lower().startswith("readme")
    return (is_mark(path.name) and not is_named) or any(map(is_kept_apart, path.relative_to(root).parts))


def names_in(root: Path) -> str:
    """The first names in a folder, for a message that a file is missing; `nothing` when it is empty."""
    return ", ".join(shown(name) for name in sorted(path.name for path in root.iterdir())[:20]) or "nothing"
