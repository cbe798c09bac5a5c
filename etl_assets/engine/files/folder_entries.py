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


def entries_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """All files, and all folders with the deepest first; links are files, whatever they lead to."""
    files: list[Path] = []
    folders: list[Path] = []
    for parent, names_of_folders, names in os.walk(folder):
        below = [Path(parent, name) for name in names_of_folders]
        files += [Path(parent, name) for name in names] + [path for path in below if path.is_symlink()]
        folders += [path for path in below if not path.is_symlink()]
    return files, folders[::-1]


def is_folder(path: Path) -> bool:
    """Whether it is a folder, or a link to one."""
    return path.is_dir()


def has_entries(folder: Path) -> bool:
    """Whether anything is in the folder."""
    with os.scandir(folder) as entries:
        return any(True for _ in entries)


def list_own_folders(folder: Path) -> list[Path]:
    """The folders, and links to folders, that a source or a shard may have made: not a disk's `lost+found`."""
    return [path for path in list_folders(folder, with_links=True) if _OWN_NAME.fullmatch(path.name)]
