"""Slices to a published shard: join, compute, key, validate, publish the file and then its manifest."""

import contextlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb

from etl_assets.engine import duck, faults
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.hashing import STABLE_HASH_MACRO, SetHash, set_hash_sql
from etl_assets.engine.published.promises import broken_sql
from etl_assets.engine.published.shards import PROFILES, Manifest, ShardInput, hashed_columns, shard_input
from etl_assets.engine.published.snapshots import current_snapshots
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier
from etl_assets.engine.steps.joining import PROFILES_FILE, add_project_macros, check_profiles_sql, profiles_sql
from etl_assets.engine.stopping import Stop
from etl_assets.errors import AccountingError, Action, Advice, ProfileError, SourceChangedError
from etl_assets.project.contract import IDEMPOTENCY_COLUMN, SHARD_COLUMN

_TABLE = f"shard.{PROFILES}"
# Rows of all sources up to which a shard's file takes small blocks.
_SMALL_ROWS = 20_000


@contextlib.contextmanager
def workbenches(site: Site, limits: duck.Limits) -> Iterator[duck.Workbenches]:
    """The connections that shards are built on; `limits` are those of each shard that is built at once."""

    def prepare(connection: duckdb.DuckDBPyConnection) -> None:
        duck.add_hashing(connection)
        connection.execute(STABLE_HASH_MACRO)
        add_project_macros(connection, site.project)
        check_profiles_sql(connection, site)

    with publishing.scratch_directory(site.home) as scratch:
        benches = duck.Workbenches(limits, scratch, folders=[site.home.staged, site.home.shards], prepare=prepare)
        with contextlib.closing(benches):
            yield benches


def build_shard(
    site: Site, given: ShardInput, benches: duck.Workbenches, stop: Stop, *, run_id: str, attempt: int
) -> Manifest:
    """Build, validate and publish one shard.

    Its rows are in no order: sorting them takes as much memory again as joining them, and the records are the same.

    Raises SourceChangedError when its slices are no longer the current ones (a newer attempt may have published),
    AccountingError when a key would be lost or doubled, ProfileError when a profile breaks what the project declares,
    duckdb.Error and OSError from the machine.
    """
    started_at, started_s = datetime.now(UTC), time.perf_counter()
    home = site.home
    publishing.sweep(home.shards)
    publishing.sweep(home.scratch)
    is_small = sum(given.slice_counts.values()) <= _SMALL_ROWS
    with (
        publishing.publish_file(
            home.shard_file(given.shard_id), what="shard", check=lambda: _check_current(site, given)
        ) as target,
        benches.one(stop) as connection,
    ):
        duck.attach_writable(connection, target, "shard", is_small=is_small)
        open_ms = _elapsed_ms(started_s)
        connection.execute(f"CREATE TABLE {_TABLE} AS {profiles_sql(site, given)}")
        faults.point("shard.joined", target)
        build_ms = _elapsed_ms(started_s) - open_ms
        content = _validate(connection, site, given)
        faults.point("shard.validated", target)
        connection.execute("CHECKPOINT shard")
        connection.execute("DETACH shard")
        size_bytes = publishing.size_bytes(target) or 0
    manifest = Manifest(
        shard_id=given.shard_id,
        shard_count=given.shard_count,
        source_snapshots={name: snapshot.id for name, snapshot in given.snapshots.items()},
        source_data_hash=given.source_data_hash,
        code_version=site.profile_version,
        record_count=content.count,
        content_hash=str(content),
        run_id=run_id,
        attempt=attempt,
        started_at=started_at,
        ended_at=datetime.now(UTC),
        elapsed_ms=_elapsed_ms(started_s),
        open_ms=open_ms,
        build_ms=build_ms,
        size_bytes=size_bytes,
    )
    _publish_manifest(home, manifest)
    return manifest


def _publish_manifest(home: Home, manifest: Manifest) -> None:
    publishing.publish_json(home.manifest(manifest.shard_id), manifest.to_json(), what="manifest")


def _check_current(site: Site, given: ShardInput) -> None:
    if shard_input(site, current_snapshots(site), given.shard_id).source_data_hash != given.source_data_hash:
        raise SourceChangedError(
            f"The sources of {given.shard_id} were staged again while it was built; it is not published. The next "
            "attempt reads the new snapshot.",
            subject=given.shard_id,
        )


def _validate(connection: duckdb.DuckDBPyConnection, site: Site, given: ShardInput) -> SetHash:
    """Check the shard before anyone can see it; returns the hash of its rows."""
    contract, columns = site.contract, hashed_columns(connection, _TABLE)
    key, idempotency_key = identifier(contract.key.name), identifier(IDEMPOTENCY_COLUMN)
    presence = ", ".join(f"count(*) FILTER (list_contains(sources, '{name}'))" for name in contract.source_names)
    is_other = f"{SHARD_COLUMN} IS DISTINCT FROM ? OR NOT starts_with({idempotency_key}, {key} || ':')"
    row = connection.execute(
        f"SELECT (SELECT count(DISTINCT {key}) FROM {_TABLE}), "
        f"(SELECT count(DISTINCT {idempotency_key}) FROM {_TABLE}), "
        f"count(*) FILTER ({is_other}), {set_hash_sql(columns)}, {presence} FROM {_TABLE}",
        [given.shard_id],
    ).fetchone()
    assert row is not None, "an aggregate always returns a row"
    key_count, idempotency_count, other_count, *sums = row
    content, present = SetHash.of_row(sums[:3]), list(sums[3:])
    if other_count:
        raise ProfileError(
            f"{given.shard_id}: {other_count} profiles whose {contract.key.name}, {SHARD_COLUMN} or "
            f"{IDEMPOTENCY_COLUMN} is not that of base. Expected these columns as they are. Nothing was published.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=given.shard_id,
        )
    expected = [given.slice_counts[name] for name in contract.source_names]
    if content.count != key_count or content.count != idempotency_count or present != expected:
        raise AccountingError(
            f"{given.shard_id}: {content.count} profiles for {key_count} values of {contract.key.name} and "
            f"{idempotency_count} idempotency keys; rows joined by source {present}, staged {expected}. Nothing was "
            "published.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            Advice(Action.REPORT),
            subject=given.shard_id,
        )
    _check_promises(connection, site, given.shard_id)
    return content


def _check_promises(connection: duckdb.DuckDBPyConnection, site: Site, shard_id: str) -> None:
    """ProfileError when a profile breaks what the project declares of its columns."""
    rules = {column.name: broken_sql(column) for column in site.contract.profile}
    checked = {name: rule for name, rule in rules.items() if rule is not None}
    if not checked:
        return
    counts = ", ".join(f"count(*) FILTER ({rule})" for rule in checked.values())
    row = connection.execute(f"SELECT {counts} FROM {_TABLE}").fetchone()
    assert row is not None, "an aggregate always returns a row"
    broken = {name: count for name, count in zip(checked, row, strict=True) if count}
    if broken:
        listed = ", ".join(f"{name} {count}" for name, count in broken.items())
        raise ProfileError(
            f"{shard_id}: profiles whose value is not what the contract promises (column and number of profiles: "
            f"{listed}). Nothing was published.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=shard_id,
        )


def _elapsed_ms(started_s: float) -> int:
    return round((time.perf_counter() - started_s) * 1000)
