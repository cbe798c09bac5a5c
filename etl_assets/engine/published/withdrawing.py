"""Snapshots whose files do not hold what was written: they are withdrawn, or fetched again from the lake.

A withdrawn snapshot has no accounting any more, so no one takes it for one: the exports are read again.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import duckdb

from etl_assets.engine.duck import Limits, scalar, workbench
from etl_assets.engine.files.publishing import is_regular, scratch_directory
from etl_assets.engine.files.sweeping import discard, remove
from etl_assets.engine.published.measuring import measure_rejected_keys, measure_slices
from etl_assets.engine.published.mirroring import fetch_files, withdraw_from_lake
from etl_assets.engine.published.snapshots import ACCOUNTING_FILE, QUARANTINE_FILE, REJECTED_KEYS_FILE, Snapshot
from etl_assets.engine.routing import shard_number
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import pattern_literal
from etl_assets.errors import Action, Advice, DamagedSnapshotError, StoreError


def require_undamaged(
    site: Site, limits: Limits, snapshots: Mapping[str, Snapshot], shard_ids: Iterable[str] | None = None
) -> None:
    """Withdraw snapshots whose files do not hold what was written, and raise DamagedSnapshotError for them.

    It reads the files of these shards, or all files, so it is called only when reading one failed. With a lake the
    files are copies: those that are damaged are fetched again, and StoreError says that the next attempt reads them.
    """
    wanted = None if shard_ids is None else {_slice_file(shard_id) for shard_id in shard_ids} | {REJECTED_KEYS_FILE}
    fetched, damaged = [], []
    for snapshot in snapshots.values():
        names = [name for name in _files_of(snapshot) if wanted is None or name in wanted]
        if site.lake is not None:
            # The others were not fetched, as no shard of this machine needed them.
            names = [name for name in names if is_regular(_folder(site, snapshot) / name)]
        if _hold_what_was_written(site, limits, snapshot, names):
            continue
        if site.lake is not None and _heal(site, limits, snapshot, names):
            fetched.append(snapshot.source)
            continue
        withdraw_from_lake(site, snapshot)
        remove(_folder(site, snapshot) / ACCOUNTING_FILE)
        damaged.append(snapshot.source)
    if damaged:
        place = site.lake_url or site.home.staged
        raise DamagedSnapshotError(
            f"The staged rows of {', '.join(damaged)} are damaged: their files in {place} do not hold what was "
            "written. They are withdrawn; nothing was published from them. The exports must be read again.",
            Advice(Action.RUN),
            subject=damaged[0],
        )
    if fetched:
        raise StoreError(
            f"The copies of staged rows of {', '.join(fetched)} in {site.home.staged} were damaged. They were fetched "
            f"again from {site.lake_url}; the next attempt reads these.",
            Advice(Action.CHECK_DISK),
            subject=fetched[0],
        )


def _heal(site: Site, limits: Limits, snapshot: Snapshot, names: Iterable[str]) -> bool:
    """Fetch the damaged ones of these files again; whether they hold what was written now."""
    damaged = [name for name in names if not _hold_what_was_written(site, limits, snapshot, [name])]
    for name in damaged:
        discard(_folder(site, snapshot) / name)
    fetch_files(site, [(snapshot, name) for name in damaged])
    return _hold_what_was_written(site, limits, snapshot, damaged)


def _hold_what_was_written(site: Site, limits: Limits, snapshot: Snapshot, names: Collection[str]) -> bool:
    folder, source = _folder(site, snapshot), site.contract.source(snapshot.source)
    parts = [part for part in snapshot.slices if _slice_file(part.shard_id) in names]
    promised = [(part.record_count, part.key_count, part.content_hash, part.issue_count) for part in parts]
    with (
        scratch_directory(site.home) as scratch,
        workbench(limits, scratch, folders=site.home.staged_folders(site.contract.source_names)) as connection,
    ):
        try:
            paths = [folder / _slice_file(part.shard_id) for part in parts]
            measured = measure_slices(connection, source, paths)
            return (
                [measured[path] for path in paths] == promised
                and (QUARANTINE_FILE not in names or _quarantined(connection, folder) == _entries(snapshot))
                and (REJECTED_KEYS_FILE not in names or _rejected(connection, folder) == _rejected_keys(snapshot))
            )
        except duckdb.InterruptException:
            raise
        except (duckdb.Error, OSError):
            return False


def _quarantined(connection: duckdb.DuckDBPyConnection, folder: Path) -> object:
    rows = pattern_literal(folder / QUARANTINE_FILE)
    return scalar(connection, f"SELECT count(*) + 0 * count(hash(row)) FROM read_parquet({rows}) row")


def _entries(snapshot: Snapshot) -> int:
    return snapshot.rows_quarantined + snapshot.cells_quarantined


def _rejected(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[int, tuple[int, str]]:
    return measure_rejected_keys(connection, folder / REJECTED_KEYS_FILE)


def _rejected_keys(snapshot: Snapshot) -> dict[int, tuple[int, str]]:
    parts = [part for part in snapshot.slices if part.rejected_count]
    return {shard_number(part.shard_id): (part.rejected_count, part.rejected_hash) for part in parts}


def _files_of(snapshot: Snapshot) -> list[str]:
    return [*(_slice_file(part.shard_id) for part in snapshot.slices), QUARANTINE_FILE, REJECTED_KEYS_FILE]


def _slice_file(shard_id: str) -> str:
    return f"{shard_id}.parquet"


def _folder(site: Site, snapshot: Snapshot) -> Path:
    return site.home.snapshot(snapshot.source, snapshot.folder)
