"""Slices to a published shard: join, compute, key, validate, publish the file and then its manifest."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.engine import duck, faults
from etl_assets.engine.files import publishing, sweeping
from etl_assets.engine.files.layout import Home
from etl_assets.engine.hashing import STABLE_HASH_MACRO, SetHash, set_hash_sql
from etl_assets.engine.lake.column_types import require_types
from etl_assets.engine.published.promises import promise_rules, promised_text
from etl_assets.engine.published.shards import (
    FILES_A_STATEMENT,
    PROFILES,
    Manifest,
    ShardInput,
    hashed_columns,
    shard_input,
)
from etl_assets.engine.published.snapshots import current_folder, current_snapshots
from etl_assets.engine.routing import route_macro
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, literal
from etl_assets.engine.steps.joining import (
    PROFILES_FILE,
    add_project_macros,
    check_profiles_sql,
    profiles_sql,
    refused_values,
)
from etl_assets.engine.stopping import Stop
from etl_assets.errors import AccountingError, Action, Advice, ProfileError, SourceChangedError
from etl_assets.project.contract import IDEMPOTENCY_COLUMN, SHARD_COLUMN, SOURCES_COLUMN, ProfileColumn

_TABLE = f"shard.{PROFILES}"
# Rows of all sources up to which a shard's file takes small blocks.
_SMALL_ROWS = 20_000


@contextlib.contextmanager
def workbenches(site: Site, limits: duck.Limits, scratch: Path) -> Iterator[duck.Workbenches]:
    """The connections that shards are built on; `limits` are those of each shard that is built at once."""

    def prepare(connection: duckdb.DuckDBPyConnection) -> None:
        duck.add_hashing(connection)
        connection.execute(STABLE_HASH_MACRO)
        connection.execute(route_macro(site.shard_count))
        add_project_macros(connection, site.project)
        types = check_profiles_sql(connection, site)
        if site.lake is not None:
            require_types(types, PROFILES_FILE)

    # Once for all shards: their folder has two files for each.
    sweeping.sweep(site.home.shards)
    sweeping.sweep(site.home.scratch)
    folders = [scratch, *site.home.staged_folders(site.contract.source_names), site.home.shards]
    with contextlib.closing(duck.Workbenches(limits, scratch, folders=folders, prepare=prepare)) as benches:
        yield benches


def build_shard(
    site: Site,
    given: ShardInput,
    benches: duck.Workbenches,
    stop: Stop,
    *,
    run_id: str,
    attempt: int,
    joined: Path | None = None,
) -> Manifest:
    """Build, validate and publish one shard, from its slices or from the database of `join_small`.

    Its rows are in no order: sorting them takes as much memory again as joining them, and the records are the same.

    Raises SourceChangedError when its slices are no longer the current ones (a newer attempt may have published),
    AccountingError when a key would be lost or doubled, ProfileError when a profile breaks what the project declares,
    duckdb.Error and OSError from the machine.
    """
    started_at, started_s = datetime.now(UTC), time.perf_counter()
    home = site.home
    with (
        publishing.publish_file(
            home.shard_file(given.shard_id), what="shard", check=lambda: check_current(site, given)
        ) as target,
        benches.one(stop) as connection,
    ):
        duck.attach_writable(connection, target, "shard", is_small=is_small(given))
        open_ms = elapsed_ms(started_s)
        write_profiles(connection, site, given, joined, f"CREATE TABLE {_TABLE} AS {{query}}")
        faults.point("shard.joined", target)
        build_ms = elapsed_ms(started_s) - open_ms
        content = validate(connection, site, given, _TABLE)
        faults.point("shard.validated", target)
        connection.execute("CHECKPOINT shard")
        connection.execute("DETACH shard")
        size_bytes = publishing.size_bytes(target) or 0
    manifest = Manifest(
        **what_it_is_made_from(site, given, content),
        run_id=run_id,
        attempt=attempt,
        started_at=started_at,
        ended_at=datetime.now(UTC),
        elapsed_ms=elapsed_ms(started_s),
        open_ms=open_ms,
        build_ms=build_ms,
        size_bytes=size_bytes,
    )
    _publish_manifest(home, manifest)
    return manifest


def what_it_is_made_from(site: Site, given: ShardInput, content: SetHash) -> dict[str, Any]:
    """What a manifest says of a shard's inputs and rows."""
    return {
        "shard_id": given.shard_id,
        "shard_count": given.shard_count,
        "source_snapshots": {name: snapshot.id for name, snapshot in given.snapshots.items()},
        "source_data_hash": given.source_data_hash,
        "code_version": site.profile_version,
        "record_count": content.count,
        "content_hash": str(content),
    }


def is_small(given: ShardInput) -> bool:
    """Whether planning its query takes longer than running it."""
    return sum(given.slice_counts.values()) <= _SMALL_ROWS


def join_small(site: Site, inputs: Sequence[ShardInput], benches: duck.Workbenches, stop: Stop, target: Path) -> None:
    """Write the profiles of many small shards into one database, some dozens a statement.

    Planning the query takes 30 ms whatever the number of rows, a fourth of all that a shard of 200 rows costs.
    """
    with benches.one(stop) as connection:
        duck.attach_writable(connection, target, "joined")
        for first in range(0, len(inputs), FILES_A_STATEMENT):
            verb = f"INSERT INTO joined.{PROFILES}" if first else f"CREATE TABLE joined.{PROFILES} AS"
            connection.execute(f"{verb} {profiles_sql(site, inputs[first : first + FILES_A_STATEMENT])}")
        connection.execute("CHECKPOINT joined")
        connection.execute("DETACH joined")


def write_profiles(
    connection: duckdb.DuckDBPyConnection, site: Site, given: ShardInput, joined: Path | None, into: str
) -> None:
    """Compute the profiles of a shard; `into` is the statement that takes them, with `{query}` for the query."""
    if joined is None:
        try:
            connection.execute(into.format(query=profiles_sql(site, [given])))
        except (duckdb.DataError, duckdb.InvalidInputException) as error:
            # Without its cause, which quotes the value.
            raise refused_values(error, given.shard_id) from None
        return
    with duck.attached(connection, joined):
        mine = f"SELECT * FROM opened.{PROFILES} WHERE {SHARD_COLUMN} = {literal(given.shard_id)}"
        connection.execute(into.format(query=mine))


def _publish_manifest(home: Home, manifest: Manifest) -> None:
    publishing.publish_json(home.manifest(manifest.shard_id), manifest.to_json(), what="manifest")


def check_current(site: Site, given: ShardInput) -> None:
    """SourceChangedError when the shard would be built from other slices now."""
    if all(current_folder(site.home, name) == snapshot.folder for name, snapshot in given.snapshots.items()):
        return
    if shard_input(site, current_snapshots(site), given.shard_id).source_data_hash != given.source_data_hash:
        raise SourceChangedError(
            f"The sources of {given.shard_id} were staged again while it was built; it is not published. The next "
            "attempt reads the new snapshot.",
            subject=given.shard_id,
        )


def validate(
    connection: duckdb.DuckDBPyConnection, site: Site, given: ShardInput, table: str, also_wrong: str = "false"
) -> SetHash:
    """Check the shard before anyone can see it; returns the hash of its rows. `also_wrong` is SQL of a wrong row."""
    contract, columns = site.contract, hashed_columns(connection, table)
    key, idempotency_key = identifier(contract.key.name), identifier(IDEMPOTENCY_COLUMN)
    present = {name: f"list_contains({SOURCES_COLUMN}, '{name}')" for name in contract.source_names}
    broken = promise_rules(contract)
    is_other = f"{SHARD_COLUMN} IS DISTINCT FROM ? OR NOT starts_with({idempotency_key}, {key} || ':') OR {also_wrong}"
    counts = ", ".join(f"count(*) FILTER ({rule})" for rule in [is_other, *present.values(), *broken.values()])
    row = connection.execute(
        f"SELECT (SELECT count(DISTINCT {key}) FROM {table}), "
        f"(SELECT count(DISTINCT {idempotency_key}) FROM {table}), {set_hash_sql(columns)}, {counts} FROM {table}",
        [given.shard_id],
    ).fetchone()
    assert row is not None, "an aggregate always returns a row"
    content, other_count, figures = SetHash.of_row(row[2:5]), row[5], list(row[6:])
    joined, kept = figures[: len(present)], dict(zip(broken, figures[len(present) :], strict=True))
    if other_count:
        raise ProfileError(
            f"{given.shard_id}: {other_count} profiles whose {contract.key.name}, {SHARD_COLUMN} or "
            f"{IDEMPOTENCY_COLUMN} is not that of base. Expected these columns as they are. Nothing was published.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=given.shard_id,
        )
    # A source with many rows of a key has fewer keys than rows.
    expected = [given.snapshots[name].slice_of(given.shard_id).key_count for name in contract.source_names]
    if (content.count, content.count, joined) != (row[0], row[1], expected):
        raise AccountingError(
            f"{given.shard_id}: {content.count} profiles for {row[0]} values of {contract.key.name} and {row[1]} "
            f"idempotency keys; keys joined by source {joined}, staged {expected}. Nothing was published.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            Advice(Action.REPORT),
            subject=given.shard_id,
        )
    _refuse_broken(given.shard_id, {name: count for name, count in kept.items() if count}, contract.profile)
    return content


def _refuse_broken(shard_id: str, broken: Mapping[str, int], promised: Sequence[ProfileColumn]) -> None:
    """ProfileError when profiles break what the project declares of these columns."""
    if broken:
        listed = "; ".join(
            f"{column.name} in {broken[column.name]:,} of them (promised: {promised_text(column)})"
            for column in promised
            if column.name in broken
        )
        raise ProfileError(
            f"{shard_id}: profiles whose values are not what the contract promises: {listed}. Nothing was published.",
            Advice(Action.EDIT, value=PROFILES_FILE),
            subject=shard_id,
        )


def elapsed_ms(started_s: float) -> int:
    """Milliseconds since that moment of `time.perf_counter`."""
    return round((time.perf_counter() - started_s) * 1000)
