"""pandas in one process: read the exports, join them, score each customer in a Python loop, write Parquet."""

import sys
from pathlib import Path

from bench.peers.columns import COLUMNS
from bench.peers.pandas_profiles import profiles, read


def main(sources: Path, out: Path) -> None:
    """Write the profiles to the new Parquet file `out`."""
    profiles({source: read(sources, source) for source in COLUMNS}).to_parquet(out, index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
