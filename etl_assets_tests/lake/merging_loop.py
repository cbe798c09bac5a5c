"""A process that commits one generation of all shards after the other, until it is killed: python -m … URL.

It imports little, because it is started many times.
"""

import sys

from etl_assets.engine.lake.delta import LakeTable, TableFile
from etl_assets.engine.lake.store import Store

SHARDS = 20


def main() -> None:
    """The files' names say which generation they are of."""
    table = LakeTable(Store(sys.argv[1]), "profiles")
    while True:
        before = table.current()
        generation = 1 + (int(next(iter(before.files)).split("-")[1]) if before else 0)
        files = [TableFile(f"shard_{number:02d}-{generation}-.parquet", 10, 5, {}) for number in range(SHARDS)]
        table.commit(before, {"id": "VARCHAR"}, files, f"publications/{generation}.json", "any")


if __name__ == "__main__":
    main()
