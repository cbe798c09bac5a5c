"""Slices to a shard in a lake: profiles written as Parquet straight from the join, proved by reading them back, sent.

The file stays in the scratch, where the checks and queries of this machine find it.
"""

import time
import uuid
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from etl_assets.engine import duck, faults
from etl_assets.engine.files import publishing
from etl_assets.engine.hashing import SetHash, file_hash
from etl_assets.engine.lake.store import Found
from etl_assets.engine.published.lake_shards import LakeManifest, publish_in_lake
from etl_assets.engine.published.shard_figures import ShardFigures, measure
from etl_assets.engine.published.shards import ShardInput
from etl_assets.engine.routing import shard_number
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, literal, parquet_sql
from etl_assets.engine.steps.build import check_current, elapsed_ms, validate, what_it_is_made_from, write_profiles
from etl_assets.engine.steps.counting import MAX_WORDS, columns_with_few_words
from etl_assets.engine.stopping import Stop

# The newer pages, and the smaller of the compressions that every reader has: the bytes travel.
_PARQUET = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2"
_MADE = "made_profiles"


def build_in_lake(
    site: Site,
    given: ShardInput,
    benches: duck.Workbenches,
    stop: Stop,
    *,
    run_id: str,
    attempt: int,
    joined: Path | None = None,
    known: Found | None = None,
) -> LakeManifest:
    """Build, prove and send one shard; `known` is a manifest of the same inputs that this one is to replace.

    Raises what `build_shard` does, and StoreError from the store.
    """
    started_at, started_s = datetime.now(UTC), time.perf_counter()
    # A name that no other attempt uses, in the characters of which Delta Lake encodes none.
    name = f"{given.shard_id}-{uuid.uuid4().hex}.parquet"
    path = site.home.shards / name
    faults.point("shard.begin", path)
    with (
        publishing.publish_file(path, what=None, check=lambda: check_current(site, given), is_durable=False) as target,
        benches.one(stop) as connection,
    ):
        open_ms = elapsed_ms(started_s)
        # Braces of a path would be taken for those of the query.
        place = literal(str(target)).replace("{", "{{").replace("}", "}}")
        write_profiles(connection, site, given, joined, f"COPY ({{query}}) TO {place} ({_PARQUET})")
        faults.point("shard.joined", target)
        build_ms = elapsed_ms(started_s) - open_ms
        # Before the proof: what is put later is what was proved, or it is not published.
        written = file_hash(target)
        content, columns, figures = _proved(connection, site, given, target)
        faults.point("shard.validated", target)
    made = LakeManifest(
        **what_it_is_made_from(site, given, content),
        run_id=run_id,
        attempt=attempt,
        started_at=started_at,
        ended_at=datetime.now(UTC),
        elapsed_ms=elapsed_ms(started_s),
        open_ms=open_ms,
        build_ms=build_ms,
        size_bytes=publishing.size_bytes(path) or 0,
        file=name,
        e_tag=None,
        columns=columns,
        figures=figures,
    )
    stop.check()
    return publish_in_lake(site, given, path, made, known, written)


def _proved(
    connection: duckdb.DuckDBPyConnection, site: Site, given: ShardInput, path: Path
) -> tuple[SetHash, dict[str, str], ShardFigures]:
    """Read the file back: the hash of its rows, each of which belongs to this shard, its columns, its figures."""
    connection.execute(f"CREATE OR REPLACE TEMP VIEW {_MADE} AS FROM {parquet_sql(path)}")
    elsewhere = f"route({identifier(site.contract.key.name)}) <> {shard_number(given.shard_id)}"
    content = validate(connection, site, given, _MADE, elsewhere)
    columns = {str(row[0]): str(row[1]) for row in connection.execute(f"DESCRIBE {_MADE}").fetchall()}
    with_words = columns_with_few_words(connection, site.contract, columns, _MADE)
    figures = measure(connection, _MADE, site.contract, list(columns), with_words, MAX_WORDS)
    connection.execute(f"DROP VIEW {_MADE}")
    return content, columns, figures
