"""What is published in a folder, by its entries: names with a dot are not published."""

import os
import re
from pathlib import Path

# Below a path that is a file nothing exists, either.
ABSENT = (FileNotFoundError, NotADirectoryError)
# What sources and shards are named like.
_OWN_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


def list_files(folder: Path, suffix: str) -> list[Path]:
    """The published files of a folder with this ending, in name order; none when there is no folder."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(suffix))
    except ABSENT:
        return []
    return [folder / name for name in names if not name.startswith(".")]


def list_folders(folder: Path, *, with_links: bool = False) -> list[Path]:
    """The published folders in a folder, `with_links` to folders too; none when there is no folder."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=with_links))
    except ABSENT:
        return []
    return [folder / name for name in names if not name.startswith(".")]


def list_own_folders(folder: Path) -> list[Path]:
    """The folders, and links to folders, that a source or a shard may have made: not a disk's `lost+found`."""
    return [path for path in list_folders(folder, with_links=True) if _OWN_NAME.fullmatch(path.name)]
