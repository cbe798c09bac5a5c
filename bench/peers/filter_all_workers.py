"""The way of tutorials: a worker for each shard reads all exports and keeps the customers of its shard.

As many workers run at a time as there are cores. Each writes a Parquet file; at the end these become one file.
"""

import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import pyarrow.dataset as ds
import pyarrow.parquet as pq

from bench.peers.columns import COLUMNS
from bench.peers.pandas_profiles import in_shard, profiles, read


def build(sources: Path, folder: Path, shard_count: int, shard: int) -> None:
    """Write one shard's profiles; rows of other shards are dropped as soon as an export is read."""
    exports = {}
    for source in COLUMNS:
        export = read(sources, source)
        exports[source] = export[in_shard(export, shard, shard_count)]
    profiles(exports).to_parquet(folder / f"shard_{shard:03d}.parquet", index=False)


def main(sources: Path, out: Path, shard_count: int) -> None:
    """Write the profiles to the new Parquet file `out`."""
    with tempfile.TemporaryDirectory(dir=out.parent) as name:
        folder = Path(name)
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            list(pool.map(partial(build, sources, folder, shard_count), range(shard_count)))
        shards = ds.dataset(folder, format="parquet")
        with pq.ParquetWriter(out, shards.schema) as writer:
            for batch in shards.to_batches():
                writer.write_batch(batch)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
