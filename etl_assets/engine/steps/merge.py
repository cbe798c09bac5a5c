"""Shard files to warehouse: admit only a complete, consistent, undamaged set, keep one record a key, publish.

The merge never changes what is published until its own result is complete; a refused or failed merge leaves the last
good warehouse in place. It opens a bounded number of shard files at a time, so the number of shards costs neither
memory nor handles.

Where most shards are those of the published warehouse, it begins with a copy of that and replaces the others' rows.
Either way the result is read back and held against the manifests before it is published, so that what it was made
from makes no difference to what it is.
"""

import contextlib
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from etl_assets.engine import duck, faults
from etl_assets.engine.files.publishing import Home, publish_file, scratch_directory, sweep_home
from etl_assets.engine.published import attempts, warehouse
from etl_assets.engine.published import shards as shardset
from etl_assets.engine.published.shards import ShardSet
from etl_assets.engine.published.tables import TABLES
from etl_assets.engine.routing import shard_keys
from etl_assets.engine.steps import build as shard
from etl_assets.engine.steps.stage import EMPTY_CONTENT_HASH, content_hash_sql, require_undamaged
from etl_assets.errors import AccountingError, ShardSetError, WriteError

# Beyond this share of shards to replace, a merge begins with nothing.
_MAX_REPLACED = 0.25
# Beyond this many rows for each that is not deleted, it does too.
_MAX_STORED = 1.25
_STORED_ROWS = """
    SELECT coalesce(sum(count), 0)::BIGINT FROM pragma_storage_info('merged_profiles')
    WHERE column_name = 'customer_id' AND segment_type <> 'VALIDITY'
"""
_ENTRIES = """
    SELECT name FROM (
        SELECT table_name AS name, database_name, internal FROM duckdb_tables()
        UNION ALL SELECT view_name, database_name, internal FROM duckdb_views()
        UNION ALL SELECT function_name, database_name, internal FROM duckdb_functions()
        UNION ALL SELECT schema_name, database_name, internal FROM duckdb_schemas()
        UNION ALL SELECT type_name, database_name, internal FROM duckdb_types()
        UNION ALL SELECT sequence_name, database_name, false FROM duckdb_sequences()
        UNION ALL SELECT index_name, database_name, false FROM duckdb_indexes()
    ) WHERE database_name = 'opened' AND NOT internal
"""
_LEVELS = ("LOW", "MEDIUM", "HIGH")


@dataclass(frozen=True)
class Publication:
    """What was published; `score_counts` maps `churn_risk HIGH` and the like to customers."""

    record_count: int
    digest: str
    set_hash: str
    is_partial: bool
    missing_shards: tuple[str, ...]
    duplicates_dropped: int
    quarantined_count: int
    score_counts: dict[str, int]
    mean_health_score: float
    elapsed_ms: int
    size_bytes: int


def merge_shards(
    home: Home, shard_count: int, limits: duck.Limits, *, run_id: str, allow_partial: bool = False
) -> Publication:
    """Publish the warehouse from the shard files.

    Raises ShardSetError, naming the shards and the repair, unless every shard is there, current and undamaged;
    `allow_partial` leaves such shards out instead and marks the result.
    """
    started = time.perf_counter()
    found = shardset.inspect_shards(home, shard_count)
    if found.problems and not (allow_partial and found.manifests):
        raise shardset.refusal(found.problems)
    sweep_home(home)
    kept = _shards_to_keep(home, shard_count, found)
    if kept:
        with contextlib.suppress(_UnfitBaseError):
            return _publish(home, shard_count, limits, found, kept, run_id, started)
    return _publish(home, shard_count, limits, found, frozenset(), run_id, started)


class _UnfitBaseError(Exception):
    """What the published warehouse holds is not what it says; the merge begins with nothing instead."""


@contextlib.contextmanager
def _blamed_on_base(kept: frozenset[str]) -> Iterator[None]:
    """Any fault found inside may come from the copied warehouse, if there is one."""
    try:
        yield
    except (duckdb.Error, WriteError, ShardSetError, AccountingError) as error:
        if kept:
            raise _UnfitBaseError from error
        raise


def _shards_to_keep(home: Home, shard_count: int, found: ShardSet) -> frozenset[str]:
    """The shards whose rows the published warehouse holds as they are to be merged; none when it is no good base.

    Such a shard's file is still the one that was read for it, and held against its manifest, by the merge that did so:
    one that was damaged by whatever writes to it is read again, and refused. The warehouse is no good base when much
    would have to be replaced, when what was replaced before takes too much of its file, or when somebody made
    something of his own in it.
    """
    publication = warehouse.read_publication(home)
    made_by = publication and (publication["code_version"], publication["shard_count"])
    if publication is None or made_by != (shard.code_version(), shard_count):
        return frozenset()
    try:
        with contextlib.closing(shard.open_read_only(home.warehouse)) as connection:
            held = dict(connection.execute("SELECT shard_id, file_stamp FROM merged_files").fetchall())
            stored_rows = duck.scalar(connection, _STORED_ROWS)
            entries = {row[0] for row in connection.execute(_ENTRIES).fetchall()}
    except (duckdb.Error, OSError):
        return frozenset()
    shard_ids = [manifest.shard_id for manifest in found.manifests]
    kept = frozenset(name for name in shard_ids if held.get(name) == found.stamps[home.shard_file(name)])
    replaced = len(held.keys() | set(shard_ids)) - len(kept)
    record_count = publication["record_count"]
    assert isinstance(stored_rows, int)
    assert isinstance(record_count, int)
    if entries != TABLES.keys() or replaced > _MAX_REPLACED * shard_count or stored_rows > _MAX_STORED * record_count:
        return frozenset()
    return kept


def _publish(
    home: Home,
    shard_count: int,
    limits: duck.Limits,
    found: ShardSet,
    kept: frozenset[str],
    run_id: str,
    started: float,
) -> Publication:
    """Publish the set, its rows copied from the published warehouse where they are to be kept, else from the shards."""
    with (
        scratch_directory(home) as scratch,
        publish_file(home.warehouse, check=lambda: _check_same_set(home, shard_count, found)) as target,
        duck.workbench(limits, scratch, folders=[home.root], keep_order=False) as connection,
    ):
        with _blamed_on_base(kept):
            if kept:
                _open_base(connection, home, target, kept)
            else:
                _open_warehouse(connection, target)
            _copy_shards(connection, home, [m for m in found.manifests if m.shard_id not in kept], append=bool(kept))
            faults.point("merge.copied", target)
            _write_quarantine(connection, home, found)
            _write_snapshots(connection, found)
            _write_attempts(connection, home, shard_count)
            _write_files(connection, home, found)
            faults.point("merge.tables", target)
            _close_warehouse(connection)
            # What is checked is what its readers will see: read back from the file.
            with _read_back():
                _open_warehouse(connection, target)
                digest, record_count = warehouse.digest_profiles(connection)
                _check_shards(connection, home, found)
                duplicates_dropped = _drop_duplicates(connection)
                if duplicates_dropped:
                    digest, record_count = warehouse.digest_profiles(connection)
                quarantined = _check_accounts(connection, found, record_count + duplicates_dropped)
                scores, mean_health = _score_counts(connection)
        connection.execute(
            "CREATE TABLE publication AS SELECT ?::TIMESTAMPTZ AS published_at, ? AS run_id, "
            "?::BIGINT AS record_count, ? AS digest, ?::INTEGER AS shard_count, ? AS code_version, "
            "? AS set_hash, ?::BOOLEAN AS is_partial, ?::VARCHAR[] AS missing_shards, ?::BIGINT AS duplicates_dropped",
            [
                datetime.now(UTC),
                run_id,
                record_count,
                digest,
                shard_count,
                shard.code_version(),
                found.set_hash,
                bool(found.problems),
                list(found.problems),
                duplicates_dropped,
            ],
        )
        _comment(connection)
        _close_warehouse(connection)
    return Publication(
        record_count,
        digest,
        found.set_hash,
        bool(found.problems),
        tuple(found.problems),
        duplicates_dropped,
        quarantined,
        scores,
        mean_health,
        round((time.perf_counter() - started) * 1000),
        home.warehouse.stat().st_size,
    )


def _open_base(connection: duckdb.DuckDBPyConnection, home: Home, target: Path, kept: frozenset[str]) -> None:
    """Copy the published warehouse, and leave nothing in it but the profiles and manifests of the shards to keep."""
    shutil.copyfile(home.warehouse, target)
    _open_warehouse(connection, target)
    with duck.transaction(connection):
        for table in TABLES:
            if table in ("merged_profiles", "shard_manifest"):
                connection.execute(f"DELETE FROM {table} WHERE NOT list_contains(?, shard_id)", [sorted(kept)])
            else:
                connection.execute(f"DROP TABLE {table}")


def _open_warehouse(connection: duckdb.DuckDBPyConnection, target: Path) -> None:
    duck.attach_writable(connection, target, "warehouse")
    connection.execute("USE warehouse")


def _close_warehouse(connection: duckdb.DuckDBPyConnection) -> None:
    """Write all of it to the file, and let go of the file."""
    connection.execute("CHECKPOINT warehouse")
    connection.execute("USE memory")
    connection.execute("DETACH warehouse")


@contextlib.contextmanager
def _read_back() -> Iterator[None]:
    """WriteError when what was written cannot be read: DuckDB keeps a checksum of every block."""
    try:
        yield
    except (duckdb.InterruptException, duckdb.OutOfMemoryException):
        raise
    except duckdb.Error as error:
        raise WriteError(
            f"The merged warehouse could not be read back after it was written ({str(error).splitlines()[0]}). It is "
            "not published, the last one stays. Check the disk under ETL_HOME, then run again: etl-assets run"
        ) from error


def _check_same_set(home: Home, shard_count: int, found: ShardSet) -> None:
    """A merge that was overtaken must not replace the newer warehouse that another one published meanwhile."""
    if shardset.file_stamps(home, shard_count) == found.stamps:
        return
    now = shardset.inspect_shards(home, shard_count)
    unreadable = {state.shard_id: now.problems[state.shard_id] for state in now.states if state.manifest is None}
    if unreadable.keys() - found.problems.keys():
        raise shardset.refusal(unreadable)
    if now.set_hash != found.set_hash:
        raise ShardSetError(
            "The set of shards changed while it was merged; the last published warehouse stays. "
            "Materialize merged_profiles again, or run: etl-assets run"
        )


def _copy_shards(
    connection: duckdb.DuckDBPyConnection, home: Home, manifests: Sequence[shard.Manifest], *, append: bool
) -> None:
    """Copy profiles, then manifests, many shards a statement; `append` to tables that are there.

    Deliberately not from attached files with UNION ALL: its branches run one after another, so that a shard of one row
    group keeps all threads but one idle.
    """
    for first in range(0, len(manifests), shard.FILES_A_STATEMENT):
        batch = manifests[first : first + shard.FILES_A_STATEMENT]
        paths = ", ".join(duck.pattern_literal(home.shard_file(manifest.shard_id)) for manifest in batch)
        for table, part in (("merged_profiles", "profiles"), ("shard_manifest", "manifest")):
            verb = f"INSERT INTO {table}" if first or append else f"CREATE TABLE {table} AS"
            try:
                connection.execute(f"{verb} SELECT * FROM read_duckdb([{paths}], table_name = '{part}')")
            except duckdb.InterruptException:
                raise
            except duckdb.Error as error:
                # What DuckDB raises for a damaged file has no one type, and it does not name the file.
                damaged = _damaged_among(home, batch)
                if not damaged:
                    raise
                raise shardset.refusal(damaged) from error


def _damaged_among(home: Home, manifests: Sequence[shard.Manifest]) -> dict[str, str]:
    """The shards whose files, each read by itself, are not what their manifests say."""
    problems = {manifest.shard_id: shard.verify_shard(home, manifest) for manifest in manifests}
    return {shard_id: problem for shard_id, problem in problems.items() if problem}


def _check_shards(connection: duckdb.DuckDBPyConnection, home: Home, found: ShardSet) -> None:
    """What was copied must be the shards that were inspected, and hold what their manifests promise."""
    rows = connection.execute("SELECT shard_id, run_id, attempt, content_hash FROM shard_manifest").fetchall()
    copied = {shard_id: facts for shard_id, *facts in rows}
    overtaken = {
        manifest.shard_id: "published anew during the merge"
        for manifest in found.manifests
        if copied.get(manifest.shard_id) != [manifest.run_id, manifest.attempt, manifest.content_hash]
    }
    if overtaken:
        raise shardset.refusal(overtaken)
    rows = connection.execute(
        f"SELECT shard_id, count(*), {content_hash_sql('row_hash')} FROM row_hashes GROUP BY shard_id"
    ).fetchall()
    contents = {shard_id: tuple(facts) for shard_id, *facts in rows}
    damaged = {
        manifest.shard_id: "damaged (its content is not what its manifest says)"
        for manifest in found.manifests
        if contents.get(manifest.shard_id, (0, EMPTY_CONTENT_HASH)) != (manifest.record_count, manifest.content_hash)
    }
    if damaged:
        # A row may say that it belongs to another shard than the one whose file holds it: ask the files.
        raise shardset.refusal(_damaged_among(home, found.manifests) or damaged)


def _drop_duplicates(connection: duckdb.DuckDBPyConnection) -> int:
    """Keep one record a customer and with it one a key (a key names its customer); routing makes this a no-op."""
    customer_count = "SELECT count(DISTINCT customer_id) FROM merged_profiles"
    dropped = duck.scalar(connection, f"SELECT count(*) - ({customer_count}) FROM merged_profiles")
    assert isinstance(dropped, int)
    if dropped:
        connection.execute(
            """
            DELETE FROM merged_profiles WHERE rowid IN (
                SELECT rowid FROM merged_profiles
                QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY idempotency_key, shard_id, rowid) > 1
            )"""
        )
    return dropped


def _write_quarantine(connection: duckdb.DuckDBPyConnection, home: Home, found: ShardSet) -> None:
    paths = [
        str(home.snapshot(name, snapshot.snapshot) / "quarantine.parquet") for name, snapshot in found.snapshots.items()
    ]
    try:
        connection.execute(
            "CREATE TABLE quarantine AS SELECT source, file, line_number, customer_id, raw_text, reason "
            f"FROM read_parquet([{', '.join(duck.pattern_literal(path) for path in paths)}])"
        )
    except duckdb.InterruptException:
        raise
    except duckdb.Error:
        require_undamaged(home, found.snapshots.values())
        raise


def _write_snapshots(connection: duckdb.DuckDBPyConnection, found: ShardSet) -> None:
    connection.execute(
        """
        CREATE TABLE source_snapshots (
            source VARCHAR, snapshot VARCHAR, files VARCHAR[], rows_in BIGINT, rows_accepted BIGINT,
            rows_quarantined BIGINT, data_hash VARCHAR, size_bytes BIGINT, extra_columns VARCHAR[]
        )"""
    )
    for snapshot in found.snapshots.values():
        connection.execute(
            "INSERT INTO source_snapshots VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                snapshot.source,
                snapshot.snapshot,
                list(snapshot.files),
                snapshot.rows_in,
                snapshot.rows_accepted,
                snapshot.rows_quarantined,
                snapshot.data_hash,
                snapshot.size_bytes,
                list(snapshot.extra_columns),
            ],
        )


def _write_attempts(connection: duckdb.DuckDBPyConnection, home: Home, shard_count: int) -> None:
    known = [
        attempt
        for attempt in attempts.read_attempts(home, shard_keys(shard_count))
        if attempt.status is not attempts.Status.RUNNING
    ]
    rows = [
        [a.shard_id, a.run_id, a.attempt, a.status, a.started_at, a.ended_at, a.elapsed_ms, a.record_count, a.error]
        for a in known
    ]
    connection.execute(
        "CREATE TABLE shard_attempts (shard_id VARCHAR, run_id VARCHAR, attempt INTEGER, status VARCHAR, "
        "started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, elapsed_ms BIGINT, record_count BIGINT, error VARCHAR)"
    )
    columns = zip(*rows, strict=True) if rows else [()] * 9
    types = ("VARCHAR", "VARCHAR", "INTEGER", "VARCHAR", "TIMESTAMPTZ", "TIMESTAMPTZ", "BIGINT", "BIGINT", "VARCHAR")
    unnested = ", ".join(f"unnest(?::{kind}[])" for kind in types)
    connection.execute(f"INSERT INTO shard_attempts SELECT {unnested}", [list(column) for column in columns])


def _write_files(connection: duckdb.DuckDBPyConnection, home: Home, found: ShardSet) -> None:
    connection.execute("CREATE TABLE merged_files (shard_id VARCHAR, file_stamp VARCHAR)")
    shard_ids = [manifest.shard_id for manifest in found.manifests]
    stamps = [found.stamps[home.shard_file(shard_id)] for shard_id in shard_ids]
    connection.execute("INSERT INTO merged_files SELECT unnest(?), unnest(?)", [shard_ids, stamps])


def _check_accounts(connection: duckdb.DuckDBPyConnection, found: ShardSet, record_count: int) -> int:
    """Merged customers = sum over shards, and the quarantine holds what the sources say; returns its row count."""
    expected = sum(manifest.record_count for manifest in found.manifests)
    quarantined = duck.scalar(connection, "SELECT count(*) FROM quarantine")
    promised = sum(snapshot.rows_quarantined for snapshot in found.snapshots.values())
    if record_count != expected or quarantined != promised:
        raise AccountingError(
            f"The merge holds {record_count} records, the shards {expected}; {quarantined} quarantined rows, the "
            f"sources say {promised}. Nothing was published."
        )
    return promised


def _score_counts(connection: duckdb.DuckDBPyConnection) -> tuple[dict[str, int], float]:
    counts: dict[str, int] = {}
    for column in ("churn_risk", "expansion_potential"):
        rows = dict(connection.execute(f"SELECT {column}, count(*) FROM merged_profiles GROUP BY 1").fetchall())
        counts |= {f"{column} {level}": rows.get(level, 0) for level in _LEVELS}
    mean = duck.scalar(connection, "SELECT coalesce(round(avg(health_score), 2), 0) FROM merged_profiles")
    assert isinstance(mean, float)
    return counts, mean


def _comment(connection: duckdb.DuckDBPyConnection) -> None:
    present = {table: connection.execute(f"DESCRIBE {table}").fetchall() for table in TABLES}
    # One transaction: each of a hundred would be synced by itself.
    with duck.transaction(connection):
        for table, (meaning, columns) in TABLES.items():
            connection.execute(f"COMMENT ON TABLE {table} IS {duck.literal(meaning)}")
            for name in {row[0] for row in present[table]} & columns.keys():
                connection.execute(f"COMMENT ON COLUMN {table}.{name} IS {duck.literal(columns[name])}")
