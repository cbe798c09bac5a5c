"""Staged rows at rest: one immutable folder for each snapshot of a source, and the pointer to the current one.

A snapshot is complete when its `snapshot.json` is there, and current when the source's `current.json` names it.
Making one is `steps.stage`, keeping and sweeping them `holding`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from etl_assets.engine.files.documents import Count, Form, Moment, SecondText, SmallCount
from etl_assets.engine.files.layout import Home
from etl_assets.engine.files.publishing import publish_json
from etl_assets.engine.hashing import stable_hash
from etl_assets.engine.reading.mapping import KeyMapFigures
from etl_assets.engine.reading.verified import FileStat
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.site import Site
from etl_assets.errors import Action, Advice, ConfigError, shown
from etl_assets.project.contract import Source

ACCOUNTING_FILE = "snapshot.json"
QUARANTINE_FILE = "quarantine.parquet"
# The keys of rejected rows, and the number of the shard of each.
REJECTED_KEYS_FILE = "rejected_keys.parquet"
SUPERSEDED = "superseded"
# The names of snapshots' folders: the id, and more where a folder of that id was taken.
FOLDER_NAME = re.compile(r"[0-9a-f]{16}(-[0-9a-f]{6})?")


@dataclass(frozen=True)
class Slice:
    """One shard's accepted rows of one source; the content hash does not depend on the order of rows."""

    shard_id: str
    record_count: Count
    key_count: Count
    content_hash: str
    # Rows that lost a cell.
    issue_count: Count = 0
    # Rows of its keys that were rejected, and a hash of these keys: their profiles say so.
    rejected_count: Count = 0
    rejected_hash: str = ""

    @property
    def version(self) -> str:
        """Changes with everything that a profile is made from."""
        return f"{self.content_hash}{self.rejected_hash and '+'}{self.rejected_hash}"


@dataclass(frozen=True)
class Snapshot:
    """The result of staging one source's files, and its accounting (`rows_in` = accepted + quarantined).

    `id` is a hash of its inputs. `folder` is its folder, which has another name when the snapshot was made again.
    """

    source: str
    id: str
    folder: str
    data_hash: str
    shard_count: SmallCount
    files: tuple[str, ...]
    size_bytes: Count
    extra_columns: tuple[str, ...]
    rows_in: Count
    rows_accepted: Count
    rows_quarantined: Count
    reasons: dict[str, Count]
    cell_reasons: dict[str, Count]
    slices: tuple[Slice, ...]
    key_map: KeyMapFigures | None = None
    # Rows of empty cells only, which are no rows.
    rows_empty: Count = 0
    # Of each of `files`: its rows, and when it was last changed (ISO 8601, UTC).
    file_rows: tuple[Count, ...] = ()
    file_times: tuple[SecondText, ...] = ()
    # Columns of the contract that the first records of no file have.
    absent_columns: tuple[str, ...] = ()
    # Of a source with one record a key: rows whose key another row of the same file has, one of each left out.
    rows_repeated: Count = 0
    # Text files whose last line has no line break: it may have been cut.
    unended_files: tuple[str, ...] = ()
    # The first keys that are words for a sum, such as `Total`.
    total_keys: tuple[str, ...] = ()
    # The first keys that are the key's own header, or a line of dashes.
    header_keys: tuple[str, ...] = ()

    @property
    def is_consistent(self) -> bool:
        """Whether its figures add up, and there is a slice for each shard."""
        return (
            [part.shard_id for part in self.slices] == shard_keys(len(self.slices))
            and len(self.slices) == self.shard_count
            and sum(part.record_count for part in self.slices) == self.rows_accepted
            and sum(self.reasons.values()) == self.rows_quarantined
            and self.rows_accepted + self.rows_quarantined == self.rows_in
        )

    @property
    def cells_quarantined(self) -> int:
        """Cells that broke the contract and are null in their rows."""
        return sum(self.cell_reasons.values())

    @property
    def key_count(self) -> int:
        """Distinct keys of the accepted rows."""
        return sum(part.key_count for part in self.slices)

    @property
    def reject_ratio(self) -> float:
        """Share of the rows that broke the contract, be it in one cell; superseded rows are sound ones."""
        broken = self.rows_quarantined - self.reasons.get(SUPERSEDED, 0) + sum(part.issue_count for part in self.slices)
        return broken / self.rows_in if self.rows_in else 0.0

    def slice_of(self, shard_id: str) -> Slice:
        """The slice of one shard."""
        return self._slices_by_shard[shard_id]

    @cached_property
    def _slices_by_shard(self) -> dict[str, Slice]:
        return {part.shard_id: part for part in self.slices}


@dataclass(frozen=True)
class Pointer:
    """A source's `current.json`: the folder of its current snapshot, and the files that this was made from.

    `looked_at_ns` is the Unix time before the files' stats were taken. `is_shrink_accepted` says that it has far fewer
    rows than what was published then, and someone accepted that.
    """

    folder: Annotated[str, Field(pattern=f"^{FOLDER_NAME.pattern}$")]
    looked_at_ns: int
    files: tuple[FileStat, ...]
    is_shrink_accepted: bool = False


@dataclass(frozen=True)
class Refused:
    """A source's `refused.json`: why its exports were not taken since the current snapshot was made, or without one.

    `folder` is the snapshot's that was refused, None for exports that were refused before one was made. `finding` is
    the text of the error and may have several lines, `kind` its class (`EtlError.kind`), `share` that of the rows that
    broke the contract. Documents of earlier releases have `folder` only. Written by `steps.refusing`.
    """

    folder: Annotated[str, Field(pattern=f"^{FOLDER_NAME.pattern}$")] | None
    finding: str = ""
    kind: str = ""
    refused_at: Moment | None = None
    share: float | None = None


_POINTER, _REFUSED, _SNAPSHOT = Form(Pointer), Form(Refused), Form(Snapshot)


def snapshot_id(site: Site, source: Source, data_hash: str, files: Iterable[str], map_files: Sequence[str] = ()) -> str:
    """The id of a snapshot: a hash of the bytes, the contract and code that read them, and the shard count.

    The files' names too: quarantine points to files, and a renamed file's old name is no help.
    """
    facts = [data_hash, str(site.shard_count), site.staging_version(source), *files]
    if map_files:
        # No file's name is empty: a file that was an export and is now the map's changes the id.
        facts += ["", *map_files]
    return stable_hash("\0".join(facts))[:16]


def is_of_site(site: Site, snapshot: Snapshot) -> bool:
    """Whether staging the same bytes now would give this snapshot: contract, engine and shard count are the same."""
    source = site.contract.source(snapshot.source)
    map_files = snapshot.key_map.files if snapshot.key_map else ()
    return snapshot.id == snapshot_id(site, source, snapshot.data_hash, snapshot.files, map_files)


def read_pointer(home: Home, source: str) -> Pointer | None:
    """The source's pointer; None without one."""
    return _POINTER.read(home.source_pointer(source))


def read_refused(home: Home, source: str) -> Refused | None:
    """How the source was refused since its exports were last accepted; None when it was not."""
    return _REFUSED.read(home.refused_pointer(source))


def refused_folder(home: Home, source: str) -> str | None:
    """The folder of the snapshot that was refused since the last one was accepted; None without one."""
    refused = read_refused(home, source)
    return refused.folder if refused else None


def load_snapshot(home: Home, source: str, folder: str) -> Snapshot | None:
    """A published snapshot's accounting, or None when there is none that is this folder's and adds up."""
    path = home.snapshot(source, folder)
    snapshot = None if path.is_symlink() else _SNAPSHOT.read(path / ACCOUNTING_FILE)
    if snapshot is None or (snapshot.source, snapshot.folder) != (source, folder) or not snapshot.is_consistent:
        return None
    return snapshot


def write_accounting(folder: Path, snapshot: Snapshot) -> None:
    """Write a snapshot's accounting into its unpublished folder."""
    publish_json(folder / ACCOUNTING_FILE, asdict(snapshot))


def current_folder(home: Home, source: str) -> str | None:
    """The folder of the current snapshot, which its pointer names; None when the source was never staged."""
    pointer = read_pointer(home, source)
    return pointer.folder if pointer else None


def current_snapshot(home: Home, source: str) -> Snapshot | None:
    """The snapshot shards are to use, or None when the source was never staged (or its snapshot is gone)."""
    folder = current_folder(home, source)
    return load_snapshot(home, source, folder) if folder else None


def current_snapshots(site: Site) -> dict[str, Snapshot]:
    """The current snapshot of every source; ConfigError names the sources that must be materialized first."""
    found = {name: current_snapshot(site.home, name) for name in site.contract.source_names}
    unstaged = [name for name, snapshot in found.items() if snapshot is None or not is_of_site(site, snapshot)]
    if unstaged:
        exports = f"; their exports are read from ETL_SOURCES, {shown(str(site.exports))}" if site.exports else ""
        raise ConfigError(
            f"Source{'s' if len(unstaged) > 1 else ''} {', '.join(unstaged)} not staged for {site.shard_count} shards "
            f"by this project and version yet. Looked for them in ETL_HOME, {shown(str(site.home.root))}{exports}.",
            Advice(Action.STAGE),
            subject=unstaged[0],
        )
    return {name: snapshot for name, snapshot in found.items() if snapshot is not None}


def describe(snapshot: Snapshot) -> dict[str, Any]:
    """The accounting of a snapshot as flat numbers, for metadata and reports."""
    return {
        "rows_in": snapshot.rows_in,
        "rows_accepted": snapshot.rows_accepted,
        "rows_quarantined": snapshot.rows_quarantined,
        "cells_quarantined": snapshot.cells_quarantined,
        "reject_ratio": round(snapshot.reject_ratio, 6),
        "size_bytes": snapshot.size_bytes,
    }
