"""A Dagster project as the documentation teaches it: DuckDB IO manager, default executor, a partition for each shard.

The sources are assets that the IO manager (dagster-duckdb-pandas) keeps as tables. Each partition of
`shard_profiles` gets all four of them as frames and keeps the customers of its shard. Its profiles replace the
partition's rows in one table.

Each partition is a run of its own with the default (multiprocess) executor, and as many run at a time as there are
cores. `main` runs without daemon and web server: in `dagster dev`, ticks of up to 30 s would add to the time.
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import dagster as dg
import pandas as pd
from dagster_duckdb_pandas import DuckDBPandasIOManager

from bench.peers.columns import COLUMNS
from bench.peers.pandas_profiles import in_shard, profiles, read, types

SHARD_COUNT = int(os.environ.get("BENCH_SHARDS", "10"))
shards = dg.StaticPartitionsDefinition([f"shard_{number:03d}" for number in range(SHARD_COUNT)])


def source_asset(source: str) -> dg.AssetsDefinition:
    """The asset of one export."""

    @dg.asset(name=source)
    def read_source() -> pd.DataFrame:
        return read(Path(os.environ["BENCH_SOURCES"]), source)

    return read_source


@dg.asset(partitions_def=shards, metadata={"partition_expr": "shard_id"})
def shard_profiles(
    context: dg.AssetExecutionContext,
    crm: pd.DataFrame,
    billing: pd.DataFrame,
    product: pd.DataFrame,
    support: pd.DataFrame,
) -> pd.DataFrame:
    """The profiles of one shard's customers."""
    shard = shards.get_partition_keys().index(context.partition_key)
    tables = {"crm": crm, "billing": billing, "product": product, "support": support}
    exports = {}
    for source, table in tables.items():
        mine = table[in_shard(table, shard, SHARD_COUNT)]
        # DuckDB returns a column of whole numbers with missing values as floats.
        exports[source] = mine.astype(types(source))
    return profiles(exports).assign(shard_id=context.partition_key)


defs = dg.Definitions(
    assets=[*(source_asset(source) for source in COLUMNS), shard_profiles],
    jobs=[
        dg.define_asset_job("sources_job", selection=list(COLUMNS)),
        dg.define_asset_job("shards_job", selection=["shard_profiles"], partitions_def=shards),
    ],
    resources={"io_manager": DuckDBPandasIOManager(database=os.environ.get("BENCH_OUT", ":memory:"), schema="main")},
)


def sources_job() -> dg.JobDefinition:
    """The job that reads all sources."""
    return defs.resolve_job_def("sources_job")


def shards_job() -> dg.JobDefinition:
    """The job that builds one shard."""
    return defs.resolve_job_def("shards_job")


def run(name: str, partition: str | None = None) -> None:
    """Run a job once, with Dagster's default executor."""
    job = dg.reconstructable({"sources_job": sources_job, "shards_job": shards_job}[name])
    tags = {"dagster/partition": partition} if partition else {}
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(job, instance=instance, tags=tags, raise_on_error=True)


def main(sources: Path, out: Path) -> None:
    """Write the table `shard_profiles` to the new DuckDB file `out`."""
    home = out.parent / "dagster"
    home.mkdir()
    os.environ |= {"BENCH_SOURCES": str(sources), "BENCH_OUT": str(out), "DAGSTER_HOME": str(home)}
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "yes"
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        pool.submit(run, "sources_job").result()
        list(pool.map(run, ["shards_job"] * SHARD_COUNT, shards.get_partition_keys()))


if __name__ == "__main__":
    os.environ["BENCH_SHARDS"] = sys.argv[3]
    # Dagster finds jobs by their module's name, which must not be `__main__`.
    from bench.peers import idiomatic_dagster

    idiomatic_dagster.main(Path(sys.argv[1]), Path(sys.argv[2]))
