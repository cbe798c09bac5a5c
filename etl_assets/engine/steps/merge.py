"""Shard files to warehouse: admit only a complete, consistent, undamaged set, keep one record a key, publish.

Nothing that is published changes before the merge's own result is complete; a refused or failed merge leaves the last
good warehouse. It opens a bounded number of shard files at a time: many shards cost neither memory nor handles.

Where the sources and most shards are those of the published warehouse, it starts from a copy of that and replaces the
others' rows.
Either way the result is read back and compared with the manifests before it is published.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from etl_assets.engine import duck, faults
from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.hashing import SetHash, digest, total
from etl_assets.engine.published import tables
from etl_assets.engine.published.attempts import read_attempts
from etl_assets.engine.published.checks import require_publishable
from etl_assets.engine.published.holding import inspected_held, sweep_unused
from etl_assets.engine.published.kept_warehouses import keep_replaced, sweep_kept
from etl_assets.engine.published.restored import refuse_restored
from etl_assets.engine.published.shards import (
    Obstacle,
    ShardSet,
    Unfit,
    file_stamps,
    inspect_shards,
    refusal,
    verify_shards,
)
from etl_assets.engine.published.snapshots import QUARANTINE_FILE
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import PROFILES_TABLE, Publication, hash_by_shard
from etl_assets.engine.published.withdrawing import require_undamaged
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifiers, pattern_list
from etl_assets.engine.steps import shard_rows
from etl_assets.engine.steps.duplicates import Distinct, drop_duplicates
from etl_assets.engine.steps.figures import figures_of
from etl_assets.engine.steps.keeping import UnfitBaseError, blaming_base, copy_base, shards_to_keep
from etl_assets.engine.steps.noticing import Noticed, notice
from etl_assets.engine.steps.refusing import refusing_merge
from etl_assets.engine.steps.shrinking import ANY_SIZE, ShrinkLimit, check_result, emptied_in
from etl_assets.errors import AccountingError, Action, Advice, ShardSetError, WriteError
from etl_assets.project.contract import SHARD_COLUMN


@dataclass(frozen=True)
class Merged:
    """A publication and its figures: `value_counts` of columns with declared values, `means` of numbers."""

    publication: Publication
    quarantined_count: int
    value_counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    means: Mapping[str, float] = field(default_factory=dict)
    elapsed_ms: int = 0
    size_bytes: int = 0
    noticed: Noticed = field(default_factory=Noticed)


def merge_shards(
    site: Site,
    limits: duck.Limits,
    *,
    run_id: str,
    allow_partial: bool = False,
    keep_count: int = 0,
    replace_restored: bool = False,
    shrink: ShrinkLimit = ANY_SIZE,
) -> Merged:
    """Publish the warehouse from the shard files, and keep the last `keep_count` that were replaced.

    Raises ShardSetError, which lists the shards, unless every shard is there, current and undamaged; `allow_partial`
    leaves such shards out instead and marks the result. Raises ShrunkError for a result below `shrink`, ConfigError for
    a warehouse that was restored and is held, unless `replace_restored`.
    """
    started_s = time.perf_counter()
    if not replace_restored:
        refuse_restored(site.home)
    with inspected_held(site) as found:
        if found.obstacles and not (allow_partial and found.manifests):
            raise refusal(found.obstacles)
        sweeping.sweep_home(site.home)
        with refusing_merge(site.home, found.set_hash):
            merged = _publish(_Merge(site, limits, found, run_id, started_s, shrink, keep_count, replace_restored))
    # Here too: when the sources were staged, shards may still have been reading the snapshots of before.
    sweep_unused(site)
    sweep_kept(site.home, keep_count)
    return merged


def _publish(merge: "_Merge") -> Merged:
    kept = shards_to_keep(merge.site, merge.found)
    if kept:
        with contextlib.suppress(UnfitBaseError):
            return merge.publish(kept)
    return merge.publish(frozenset())


@dataclass(frozen=True)
class _Merge:
    """One merge of one set of shards."""

    site: Site
    limits: duck.Limits
    found: ShardSet
    run_id: str
    started_s: float
    shrink: ShrinkLimit
    keep_count: int
    replace_restored: bool

    def publish(self, kept: frozenset[str]) -> Merged:
        """Publish the set, with the rows of `kept` shards from the published warehouse, the others from their files."""
        home, contract = self.site.home, self.site.contract
        # Folders in it may be links to another disk.
        folders = [home.root, home.shards, *home.staged_folders(contract.source_names)]
        coming: list[Publication] = []
        with (
            publishing.scratch_directory(home) as scratch,
            publishing.publish_file(
                home.warehouse, what="warehouse", check=lambda: self._before_swap(coming[0])
            ) as target,
            duck.workbench(self.limits, scratch, folders=folders, keep_order=False) as connection,
        ):
            with blaming_base(kept):
                self._write(connection, target, kept)
                # The checks read the file back, as its readers will.
                with _reading_back():
                    _open(connection, target)
                    rows, distinct = self._check_profiles(connection)
                    quarantined = self._check_accounts(connection, rows.count + distinct.dropped_count)
                    value_counts, means = figures_of(connection, contract)
            shrunk = check_result(
                self.site, self.found, rows.count, self.shrink, lambda _: emptied_in(connection, self.site)
            )
            publication = self._publication(rows, distinct.dropped_count)
            coming.append(publication)
            noticed = notice(connection, self.site, self.found.snapshots, publication, distinct, shrunk)
            tables.PUBLICATION.create(connection)
            tables.PUBLICATION.insert(connection, [publication])
            require_publishable(connection, self.site, self.found.snapshots)
            for table in tables.warehouse_tables(contract):
                table.comment(connection)
            close(connection)
        elapsed_ms = round((time.perf_counter() - self.started_s) * 1000)
        size_bytes = publishing.size_bytes(home.warehouse) or 0
        return Merged(publication, quarantined, value_counts, means, elapsed_ms, size_bytes, noticed)

    def _publication(self, rows: SetHash, duplicates_dropped: int) -> Publication:
        return Publication(
            datetime.now(UTC),
            self.run_id,
            rows.count,
            digest(rows),
            self.site.shard_count,
            self.site.profile_version,
            self.found.set_hash,
            bool(self.found.obstacles),
            tuple(self.found.obstacles),
            duplicates_dropped,
        )

    def _write(self, connection: duckdb.DuckDBPyConnection, target: Path, kept: frozenset[str]) -> None:
        """Write every table but `publication` into the file and close it."""
        if kept:
            self._open_base(connection, target, kept)
        else:
            _open(connection, target)
        added = [manifest for manifest in self.found.manifests if manifest.shard_id not in kept]
        shard_rows.copy_shards(self.site, connection, added, append=bool(kept))
        faults.point("merge.copied", target)
        self._write_quarantine(connection)
        stamps = [
            _MergedFile(manifest.shard_id, self.found.stamps[self.site.home.shard_file(manifest.shard_id)])
            for manifest in self.found.manifests
        ]
        attempts = [
            attempt
            for attempt in read_attempts(self.site.home, self.site.shard_ids)
            if attempt.status is not Status.RUNNING
        ]
        contents: list[tuple[tables.Table, Sequence[object]]] = [
            (tables.SHARD_MANIFEST, self.found.manifests),
            (tables.SOURCE_SNAPSHOTS, list(self.found.snapshots.values())),
            (tables.SHARD_ATTEMPTS, attempts),
            (tables.MERGED_FILES, stamps),
        ]
        for table, content in contents:
            table.create(connection)
            table.insert(connection, content)
        faults.point("merge.tables", target)
        close(connection)

    def _open_base(self, connection: duckdb.DuckDBPyConnection, target: Path, kept: frozenset[str]) -> None:
        """Copy the published warehouse and leave nothing in it but the profiles of the shards to keep."""
        copy_base(self.site.home, target)
        _open(connection, target)
        with duck.transaction(connection):
            for table in tables.warehouse_tables(self.site.contract):
                if table.name == PROFILES_TABLE:
                    connection.execute(
                        f"DELETE FROM {PROFILES_TABLE} WHERE NOT list_contains(?, {SHARD_COLUMN})", [sorted(kept)]
                    )
                else:
                    connection.execute(f"DROP TABLE {table.name}")

    def _write_quarantine(self, connection: duckdb.DuckDBPyConnection) -> None:
        table = tables.quarantine_table(self.site.contract)
        paths = [
            self.site.home.snapshot(name, snapshot.folder) / QUARANTINE_FILE
            for name, snapshot in self.found.snapshots.items()
        ]
        columns = identifiers(column.name for column in table.columns)
        try:
            connection.execute(
                f"CREATE TABLE {table.name} AS SELECT {columns} FROM read_parquet({pattern_list(paths)})"
            )
        except duckdb.InterruptException:
            raise
        except duckdb.Error:
            require_undamaged(self.site, self.limits, self.found.snapshots)
            raise

    def _before_swap(self, coming: Publication) -> None:
        self._check_same_set()
        if not self.replace_restored:
            # Someone may have restored one meanwhile.
            refuse_restored(self.site.home)
        keep_replaced(self.site.home, coming, self.keep_count)

    def _check_same_set(self) -> None:
        """Refuse to publish after the set changed: another merge may have published a newer warehouse."""
        if file_stamps(self.site) == self.found.stamps:
            return
        now = inspect_shards(self.site)
        unreadable = {state.shard_id: now.obstacles[state.shard_id] for state in now.states if state.manifest is None}
        if unreadable.keys() - self.found.obstacles.keys():
            raise refusal(unreadable)
        changed = [m for m in self.found.manifests if m.shard_id in now.obstacles]
        held = {name: why for name, why in verify_shards(self.site.home, changed).items() if why.kind is Unfit.HELD}
        if held:
            raise refusal(held)
        if now.set_hash != self.found.set_hash:
            raise ShardSetError(
                "The set of shards changed while it was merged; the last published warehouse stays.",
                Advice(Action.RUN),
            )

    def _check_profiles(self, connection: duckdb.DuckDBPyConnection) -> tuple[SetHash, Distinct]:
        """Compare the rows with the manifests; returns their hash, and how distinct their keys are."""
        contents = hash_by_shard(connection)
        damaged = {
            manifest.shard_id: Obstacle(Unfit.DAMAGED, "its content is not what its manifest says")
            for manifest in self.found.manifests
            if str(contents.get(manifest.shard_id, SetHash())) != manifest.content_hash
        }
        if damaged or contents.keys() - {manifest.shard_id for manifest in self.found.manifests}:
            raise refusal(self._why_other(damaged))
        distinct = drop_duplicates(connection, self.site.contract)
        return total((hash_by_shard(connection) if distinct.dropped_count else contents).values()), distinct

    def _why_other(self, damaged: dict[str, Obstacle]) -> dict[str, Obstacle]:
        """Why the rows are not those of the manifests: shards that were published during the merge, else damaged files.

        A row may name another shard than the one whose file holds it, so the files are read.
        """
        now = file_stamps(self.site)
        overtaken = {
            shard_id: Obstacle(Unfit.OVERTAKEN)
            for shard_id in damaged
            if now[self.site.home.shard_file(shard_id)] != self.found.stamps[self.site.home.shard_file(shard_id)]
        }
        return overtaken or verify_shards(self.site.home, self.found.manifests) or damaged

    def _check_accounts(self, connection: duckdb.DuckDBPyConnection, record_count: int) -> int:
        """Merged records = sum over shards, and the quarantine holds what the sources say; returns its row count."""
        expected = sum(manifest.record_count for manifest in self.found.manifests)
        quarantined = duck.scalar(connection, "SELECT count(*) FILTER (cell IS NULL) FROM quarantine")
        promised = sum(snapshot.rows_quarantined for snapshot in self.found.snapshots.values())
        if record_count != expected or quarantined != promised:
            raise AccountingError(
                f"The merge holds {record_count} records, the shards {expected}; {quarantined} quarantined rows, the "
                f"sources say {promised}. Nothing was published.",
                Advice(Action.REPORT),
            )
        return promised


@dataclass(frozen=True)
class _MergedFile:
    shard_id: str
    file_stamp: str


def _open(connection: duckdb.DuckDBPyConnection, target: Path) -> None:
    duck.attach_writable(connection, target, "warehouse")
    connection.execute("USE warehouse")


def close(connection: duckdb.DuckDBPyConnection) -> None:
    """Write all of the warehouse to its file, and let go of the file."""
    connection.execute("CHECKPOINT warehouse")
    connection.execute("USE memory")
    connection.execute("DETACH warehouse")


@contextlib.contextmanager
def _reading_back() -> Iterator[None]:
    """WriteError when what was written cannot be read: DuckDB keeps a checksum of every block."""
    try:
        yield
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        raise WriteError(
            f"The merged warehouse could not be read back after it was written ({str(error).splitlines()[0]}). It is "
            "not published, the last one stays.",
            Advice(Action.CHECK_DISK),
        ) from error
