"""Small exports and whole engine runs, for tests of every room."""

import contextlib
import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published import shards
from etl_assets.engine.published.shards import Manifest, Obstacle, ShardInput, shard_input
from etl_assets.engine.published.snapshots import Snapshot, current_snapshots
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import literal
from etl_assets.engine.steps import build
from etl_assets.engine.steps.merge import Merged, merge_shards
from etl_assets.engine.steps.shrinking import ANY_SIZE, ShrinkLimit
from etl_assets.engine.steps.stage import StagingRequest, stage
from etl_assets.project.contract import Source
from etl_assets.project.loading import Project, load_project
from etl_assets.samples.writing import generate

LIMITS = duck.Limits(memory_mb=256)
# A project of the tests' own: changing a weight of the shipped one, or adding a source to it, turns no test red.
PROJECT_FOLDER = Path(__file__).parent / "projects" / "customers"
PROJECT = load_project(PROJECT_FOLDER)
SOURCES = PROJECT.contract.sources
# The sample, for these sources.
generate_sample = partial(generate, sources=SOURCES)

# A sound value for every column of the contract, as text in an export.
SOUND: Mapping[str, str] = {
    "email": "ada@alpine.example",
    "company_name": "Alpine Labs",
    "industry": "Software",
    "employee_count": "12",
    "deal_stage": "closed_won",
    "deal_value": "1200.5",
    "sales_owner": "Alice Morgan",
    "last_contact": "2026-05-01",
    "plan": "starter",
    "mrr": "29.0",
    "payment_status": "active",
    "subscription_start": "2025-01-31",
    "last_payment": "2026-05-31",
    "signup_date": "2025-01-01",
    "last_active": "2026-06-01",
    "total_sessions": "40",
    "features_used": "7",
    "usage_pct": "65",
    "account_status": "active",
    "total_tickets": "3",
    "open_tickets": "1",
    "avg_resolution_hrs": "4.5",
    "last_ticket_date": "2026-04-30",
    "nps_score": "9",
    "csat_score": "4.2",
}


def row(customer_id: str, **changes: str) -> dict[str, str]:
    """A sound row of any source for this customer, with some cells changed."""
    return {"customer_id": customer_id, **SOUND, **changes}


def write_csv(path: Path, source: Source, rows: Iterable[Mapping[str, str]], columns: Sequence[str] = ()) -> Path:
    """Write an export with a source's columns (or those named, in that order)."""
    names = columns or source.required
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_exports(folder: Path, **rows: Iterable[Mapping[str, str]]) -> Path:
    """Write one CSV a source; a source that is not named gets a header and no rows."""
    for source in SOURCES:
        write_csv(folder / f"{source.name}.csv", source, rows.get(source.name, ()))
    return folder


def site_at(home: Home, shard_count: int = 3, project: Project = PROJECT) -> Site:
    """The tests' project at work in an ETL_HOME."""
    return Site(project, home, shard_count)


def staging_request(sources: Path, site: Site, max_reject_ratio: float = 1.0) -> StagingRequest:
    """A request that lets any share of rejects pass unless told otherwise."""
    return StagingRequest(site, sources, max_reject_ratio, LIMITS)


def stage_all(request: StagingRequest) -> dict[str, Snapshot]:
    """Stage every source."""
    return {source.name: stage(source, request)[0] for source in request.site.contract.sources}


def input_of(site: Site, shard_id: str) -> ShardInput:
    """What the shard is to be built from now."""
    return shard_input(site, current_snapshots(site), shard_id)


def build_shard(
    site: Site, given: ShardInput, *, run_id: str = "run", attempt: int = 1, limits: duck.Limits = LIMITS
) -> Manifest:
    """Build one shard on a workbench of its own."""
    with publishing.scratch_directory(site.home) as scratch, build.workbenches(site, limits, scratch) as benches:
        return build.build_shard(site, given, benches, limits.stop, run_id=run_id, attempt=attempt)


def reusable(site: Site, given: ShardInput) -> Manifest | None:
    """What would be reused instead of building this shard, asked over a connection of its own."""
    with duck.reader(site.home.shards) as connection:
        return shards.reusable(site, given, connection)


def verify_shard(home: Home, manifest: Manifest) -> Obstacle | None:
    """What is wrong with the published shard's file, asked over a connection of its own."""
    with duck.reader(home.shards) as connection:
        return shards.verify_shard(home, manifest, connection)


def run_engine(sources: Path, site: Site, *, run_id: str = "run", shrink: ShrinkLimit = ANY_SIZE) -> Merged:
    """The whole engine without Dagster: stage, build every shard, merge."""
    stage_all(staging_request(sources, site))
    for shard_id in site.shard_ids:
        build_shard(site, input_of(site, shard_id), run_id=run_id)
    return merge_shards(site, LIMITS, run_id=run_id, shrink=shrink)


def query(path: Path, statement: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
    """All rows of a query over a published file, which is opened read-only and let go again."""
    with duck.opened(path) as connection:
        return connection.execute(statement, list(parameters)).fetchall()


def alter(path: Path, *statements: str) -> None:
    """Change a published file in place, as no part of the pipeline does."""
    with contextlib.closing(duckdb.connect()) as connection:
        connection.execute(f"ATTACH {literal(str(path))} AS altered")
        connection.execute("USE altered")
        for statement in statements:
            connection.execute(statement)
        connection.execute("CHECKPOINT altered")


def csv_line(source: Source, customer_id: str, **changes: str) -> str:
    """A sound row of this source as a line of CSV, without its line end; cells are written as they are given."""
    cells = row(customer_id, **changes)
    return ",".join(cells[column] for column in source.required)


def read_parquet(path: Path) -> list[dict[str, Any]]:
    """The rows of a Parquet file, in file order."""
    with contextlib.closing(duckdb.connect()) as connection:
        return _rows_of(connection, path)


def _rows_of(connection: duckdb.DuckDBPyConnection, path: Path) -> list[dict[str, Any]]:
    cursor = connection.execute("SELECT * FROM read_parquet(?)", [str(path)])
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def read_quarantine(home: Home, snapshot: Snapshot) -> list[dict[str, Any]]:
    """The rejected rows of a snapshot."""
    return read_parquet(home.snapshot(snapshot.source, snapshot.folder) / "quarantine.parquet")


def read_slices(home: Home, snapshot: Snapshot) -> list[list[dict[str, Any]]]:
    """The accepted rows of a snapshot, one list a shard, in shard order."""
    folder = home.snapshot(snapshot.source, snapshot.folder)
    # One connection for all of them: making one takes longer than reading a small file.
    with contextlib.closing(duckdb.connect()) as connection:
        return [_rows_of(connection, folder / f"{part.shard_id}.parquet") for part in snapshot.slices]
