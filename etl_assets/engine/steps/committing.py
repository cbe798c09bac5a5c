"""Manifests to a version of the lake's table: admit only a complete, consistent set of shards, commit the names.

No row is read or copied. The table's version is read before the manifests and must still be the last when this one is
committed, so that a merge that was overtaken publishes nothing. The document that the version names is put before.
"""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cached_property

import duckdb

from etl_assets.engine import duck, faults
from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.hashing import SetHash, digest, total
from etl_assets.engine.lake.delta import TableFile, Version
from etl_assets.engine.lake.store import Store
from etl_assets.engine.published import tables
from etl_assets.engine.published.attempts import read_attempts
from etl_assets.engine.published.checks import require_publishable, warehouse_checks
from etl_assets.engine.published.failing_rows import sources_named
from etl_assets.engine.published.holding import inspected_held, sweep_unused
from etl_assets.engine.published.lake_names import PUBLICATIONS, snapshot_key
from etl_assets.engine.published.lake_shards import LakeManifest, lake_manifests
from etl_assets.engine.published.lake_versions import (
    Document,
    close_copy,
    fetch_profiles,
    fetch_publication,
    lake_table,
    note_files,
    note_version,
    table_rows,
    write_copy,
)
from etl_assets.engine.published.mirroring import fetch_attempts, fetch_sources, fetch_whole
from etl_assets.engine.published.overlap import overlap_rows
from etl_assets.engine.published.publication_figures import PublishedFigures, figure_rows
from etl_assets.engine.published.restored import refuse_restored
from etl_assets.engine.published.shard_figures import ShardFigures, total_figures
from etl_assets.engine.published.shards import ShardSet, refusal
from etl_assets.engine.published.snapshots import QUARANTINE_FILE
from etl_assets.engine.published.status import Status
from etl_assets.engine.published.warehouse import Publication, add_profiles_view
from etl_assets.engine.site import Site
from etl_assets.engine.steps.lake_noticing import emptied_in_lake, notice_in_lake
from etl_assets.engine.steps.merge import Merged
from etl_assets.engine.steps.noticing import Noticed
from etl_assets.engine.steps.refusing import refusing_merge
from etl_assets.engine.steps.shrinking import ANY_SIZE, ShrinkLimit, check_result
from etl_assets.engine.steps.vacuuming import vacuum
from etl_assets.errors import AccountingError, Action, Advice, EtlError, ShardSetError

_LOG = logging.getLogger(__name__)


def commit_shards(
    site: Site,
    limits: duck.Limits,
    *,
    run_id: str,
    allow_partial: bool = False,
    keep_count: int = 0,
    replace_restored: bool = False,
    shrink: ShrinkLimit = ANY_SIZE,
) -> Merged:
    """Publish a version of the table from the shards in the lake; the `keep_count` versions before it stay whole.

    Raises what `merge_shards` does for the same reasons, ShardSetError when another merge came first, too, and
    StoreError from the store.
    """
    started_s = time.perf_counter()
    store = site.lake
    assert store is not None, "only for a lake"
    # First of all: what is read after it belongs to this version or to a later one, which the commit then refuses.
    before = fetch_publication(site.home, store, site.contract)
    if not replace_restored:
        refuse_restored(site.home)
    fetch_sources(site)
    with inspected_held(site) as found:
        if found.obstacles and not (allow_partial and found.manifests):
            raise refusal(found.obstacles)
        sweeping.sweep_home(site.home)
        fetch_attempts(site)
        with refusing_merge(site.home, found.set_hash):
            merged = _Commit(site, store, limits, found, run_id, started_s, shrink, before).publish()
    sweep_unused(site)
    try:
        vacuum(site, keep_count)
    except (EtlError, OSError) as error:
        # It is published; the next merge removes what this one could not.
        _LOG.warning("warning: what the lake does not need any more is not removed (%s).", error)
    return merged


@dataclass(frozen=True)
class _Commit:
    """One merge of one set of shards into the version after `before`."""

    site: Site
    store: Store
    limits: duck.Limits
    found: ShardSet
    run_id: str
    started_s: float
    shrink: ShrinkLimit
    before: Version | None

    @cached_property
    def manifests(self) -> list[LakeManifest]:
        return lake_manifests(self.found.manifests)

    @cached_property
    def figures(self) -> ShardFigures:
        return total_figures(one.figures for one in self.manifests)

    @property
    def columns(self) -> Mapping[str, str]:
        return self.manifests[0].columns

    def publish(self) -> Merged:
        """Check, put the document, commit; the scratch's warehouse becomes a copy of the new version."""
        home, contract = self.site.home, self.site.contract
        rows = self._total()
        shrunk = check_result(
            self.site,
            self.found,
            rows.count,
            self.shrink,
            lambda _: emptied_in_lake(self.site, self.figures, list(self.columns)),
        )
        publication = self._publication(rows)
        noticed, carried = notice_in_lake(
            self.site, self.found.snapshots, publication, self.figures, self.columns, shrunk
        )
        document = self._document(publication, noticed, carried)
        key = f"{PUBLICATIONS}/{self.found.set_hash}-{uuid.uuid4().hex[:8]}.json"
        with (
            publishing.scratch_directory(home) as scratch,
            publishing.publish_file(home.warehouse, what=None, is_durable=False) as target,
            duck.workbench(
                self.limits, scratch, folders=[home.root, *home.staged_folders(contract.source_names)]
            ) as connection,
        ):
            write_copy(connection, self.store, contract, document, target, scratch)
            self._check(connection)
            faults.point("merge.tables", target)
            self.store.put(key, document.encoded())
            faults.point("commit.document")
            faults.point("warehouse.before_swap")
            now = lake_table(self.store).commit(self.before, self.columns, self._files(), key, contract.name)
            faults.point("warehouse.after_swap")
            note_version(connection, now.number, now.document, now.files)
            close_copy(connection)
        sweeping.discard(home.restored_mark)
        return Merged(
            publication,
            sum(snapshot.rows_quarantined for snapshot in self.found.snapshots.values()),
            {
                column.name: {
                    value: self.figures.value_counts.get(column.name, {}).get(value, 0) for value in column.values
                }
                for column in contract.profile
                if column.values
            },
            {name: round(amount / count, 2) if count else 0.0 for name, (count, amount) in self.figures.sums.items()},
            round((time.perf_counter() - self.started_s) * 1000),
            sum(now.files.values()),
            noticed,
        )

    def _total(self) -> SetHash:
        """The hash of all rows: those of the shards add up, and each has proved that its rows belong to it alone."""
        rows = total(SetHash.of_text(one.content_hash) for one in self.manifests)
        if rows.count != sum(one.record_count for one in self.manifests):
            raise AccountingError(
                f"The shards' hashes are of {rows.count} records, their manifests say another number. Nothing was "
                "published.",
                Advice(Action.REPORT),
            )
        others = [one.shard_id for one in self.manifests if one.columns != self.columns]
        if others:
            raise ShardSetError(
                f"The columns of {', '.join(others)} are not those of {self.manifests[0].shard_id}: the query gives "
                "other types for other rows. Nothing was published.",
                Advice(Action.EDIT, value="sql/profiles.sql"),
                subject=others[0],
            )
        return rows

    def _publication(self, rows: SetHash) -> Publication:
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
            0,
        )

    def _document(self, publication: Publication, noticed: Noticed, carried: Sequence[PublishedFigures]) -> Document:
        site, snapshots = self.site, self.found.snapshots
        attempts = [one for one in read_attempts(site.home, site.shard_ids) if one.status is not Status.RUNNING]
        contents: list[tuple[tables.Table, Sequence[object]]] = [
            (tables.SHARD_MANIFEST, self.manifests),
            (tables.SOURCE_SNAPSHOTS, list(snapshots.values())),
            (tables.SHARD_ATTEMPTS, attempts),
            (tables.PUBLICATION, [publication]),
            (tables.SOURCE_OVERLAP, list(overlap_rows(noticed.overlap))),
            (tables.PUBLICATION_NOTICES, noticed.notices),
            (tables.PUBLICATION_FIGURES, list(figure_rows(carried))),
            (tables.MERGED_FILES, []),
        ]
        return Document(
            self.columns,
            {table.name: table_rows(table, rows) for table, rows in contents},
            [snapshot_key(name, one.folder, QUARANTINE_FILE) for name, one in snapshots.items()],
            [asdict(one) for one in self._files()],
        )

    def _files(self) -> list[TableFile]:
        return [TableFile(one.file, one.size_bytes, one.record_count, self._null_counts(one)) for one in self.manifests]

    def _null_counts(self, one: LakeManifest) -> dict[str, int]:
        # Of lists, engines count the elements.
        return {
            name: one.record_count - one.figures.filled.get(name, 0)
            for name, kind in one.columns.items()
            if not kind.endswith("[]")
        }

    def _check(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Bind the project's checks; the rows are fetched only for checks that block a publication."""
        checks = [check for check in warehouse_checks(self.site.project) if check.file]
        if not checks:
            return
        names = sources_named(self.site.contract, [check.statement for check in checks])
        fetch_whole(self.site, [self.found.snapshots[name] for name in names if name in self.found.snapshots])
        is_blocking = any(check.is_blocking for check in checks)
        if is_blocking:
            fetch_profiles(self.site.home, self.store, [one.file for one in self.manifests])
        note_files(connection, {one.file: one.size_bytes for one in self.manifests} if is_blocking else {})
        add_profiles_view(connection, self.site.home)
        require_publishable(connection, self.site, self.found.snapshots)
