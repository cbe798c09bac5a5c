"""The files that a source was read from: rows and date of each, and what in them was passed over.

A report lists them, so that a missing file is noticed at once.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import Snapshot, read_pointer
from etl_assets.project.columns import plain_name
from etl_assets.project.contract import Source


@dataclass(frozen=True)
class ReadFile:
    """A file: its rows, blank lines left out, and when it was last changed (ISO 8601, UTC). None where not known."""

    name: str
    row_count: int | None
    modified_at: str | None


@dataclass(frozen=True)
class IgnoredColumn:
    """A column that the contract does not name; `near` is a declared one that no record has, and that it may be."""

    name: str
    near: str | None = None


def read_files(home: Home, snapshot: Snapshot) -> tuple[ReadFile, ...]:
    """The files of a snapshot in the order in which they were read."""
    times = dict(zip(snapshot.files, snapshot.file_times, strict=False)) | _times_now(home, snapshot)
    rows = dict(zip(snapshot.files, snapshot.file_rows, strict=False))
    return tuple(ReadFile(name, rows.get(name), times.get(name)) for name in snapshot.files)


def _times_now(home: Home, snapshot: Snapshot) -> dict[str, str]:
    """Those of the files that were looked at last: the same bytes may have been exported again."""
    pointer = read_pointer(home, snapshot.source)
    if pointer is None or pointer.folder != snapshot.folder:
        return {}
    return {stat.name: stat.modified_at for stat in pointer.files}


def ignored_columns(source: Source, snapshot: Snapshot) -> tuple[IgnoredColumn, ...]:
    """The columns of a snapshot's files that were ignored, in order of their names."""
    absent = {plain_name(column.headers[0]): column.name for column in source.columns}
    absent = {plain: name for plain, name in absent.items() if name in snapshot.absent_columns}
    near = {name: get_close_matches(plain_name(name), absent, n=1) for name in snapshot.extra_columns}
    return tuple(IgnoredColumn(name, absent[found[0]] if found else None) for name, found in near.items())
