"""Names: the layout of `ETL_HOME`.

staged/<source>/<snapshot>/shard_NN.parquet    accepted rows of a source by shard, and quarantine.parquet
staged/<source>/<snapshot>/snapshot.json       its accounting
staged/<source>/current.json                   which snapshot the shards are to use
staged/<source>/refused.json                   why its exports were refused since, and the snapshot if one was made
shards/shard_NN.duckdb, shards/shard_NN.json   a published shard and, published after it, its manifest
attempts/shard_NN/*.json                       one small file for each attempt at a shard
warehouse.duckdb                               the published result
warehouses/<time>-<digest>.duckdb              results that it replaced, the last few
restored.json                                  that the published result is a restored one, which is not merged over
refused_merge.json                             why the last merge was refused, until one is published
exports/<hash of the URL>/                     a copy of exports in an object store; beside it, what was copied
lake/<hash of the URL>/                        such a layout as the scratch of a lake (ETL_LAKE)
scratch/                                       where DuckDB may spill; swept like any leftover
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from etl_assets.engine.hashing import stable_hash


@dataclass(frozen=True)
class Home:
    """The layout of `ETL_HOME`; with `is_lake`, of the scratch copy of what lies in an object store."""

    root: Path
    is_lake: bool = False

    def of_lake(self, url: str) -> "Home":
        """The scratch of one lake: apart from what is published here, and from every other lake's."""
        return Home(self.root / "lake" / stable_hash(url)[:16], is_lake=True)

    def exports(self, url: str) -> Path:
        """The copy of the exports in an object store."""
        return self.root / "exports" / stable_hash(url)[:16]

    @property
    def staged(self) -> Path:
        """Snapshots of the sources."""
        return self.root / "staged"

    @property
    def shards(self) -> Path:
        """Published shard files and their manifests."""
        return self.root / "shards"

    @property
    def attempts(self) -> Path:
        """The record of attempts."""
        return self.root / "attempts"

    @property
    def warehouse(self) -> Path:
        """The published result."""
        return self.root / "warehouse.duckdb"

    @property
    def kept(self) -> Path:
        """Warehouses that were replaced."""
        return self.root / "warehouses"

    @property
    def restored_mark(self) -> Path:
        """The file that says that the warehouse was restored."""
        return self.root / "restored.json"

    @property
    def refused_merge(self) -> Path:
        """The file that says why the last merge was refused."""
        return self.root / "refused_merge.json"

    @property
    def scratch(self) -> Path:
        """Where DuckDB may spill."""
        return self.root / "scratch"

    def shard_file(self, shard_id: str) -> Path:
        """The published file of one shard."""
        return self.shards / f"{shard_id}.duckdb"

    def manifest(self, shard_id: str) -> Path:
        """The manifest of one shard, beside its file."""
        return self.shards / f"{shard_id}.json"

    def attempts_at(self, shard_id: str) -> Path:
        """The folder of the attempts at one shard."""
        return self.attempts / shard_id

    def staged_folders(self, sources: Iterable[str]) -> list[Path]:
        """The folders of staged rows, each of which a user may have replaced by a link to another disk."""
        return [self.staged, *(self.staged / source for source in sources)]

    def source_pointer(self, source: str) -> Path:
        """The file that names the current snapshot of a source."""
        return self.staged / source / "current.json"

    def refused_pointer(self, source: str) -> Path:
        """The file that says why the exports of a source were refused last."""
        return self.staged / source / "refused.json"

    def snapshot(self, source: str, folder: str) -> Path:
        """The folder of one snapshot."""
        return self.staged / source / folder
