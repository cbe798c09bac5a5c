"""Names: the layout of a lake, the keys below its URL.

lake.json                                      whose lake this is; made with the first run, never changed
staged/<source>/<snapshot>/…                   as under ETL_HOME; snapshot.json is sent last and says that all is there
staged/<source>/current.json                   the snapshot that shards use; only a run that has read it replaces it
manifests/shard_NN/<hash of its inputs>.json   what a shard's file holds; created, and replaced only when that is gone
profiles/                                      the Delta table, its log and its Parquet files, and nothing else
publications/<set>-<random>.json               what a version of the table was made from, put before it is committed
attempts/shard_NN/*.json                       one small object for each attempt that has ended
"""

from etl_assets.engine.hashing import stable_hash
from etl_assets.engine.lake.probing import TABLE
from etl_assets.engine.published.shards import ShardInput
from etl_assets.engine.site import Site

STAGED, MANIFESTS, PROFILES_FOLDER = "staged", "manifests", TABLE
PUBLICATIONS, ATTEMPTS = "publications", "attempts"


def pointer_key(source: str) -> str:
    """The pointer to the current snapshot of a source."""
    return f"{STAGED}/{source}/current.json"


def snapshot_key(source: str, folder: str, name: str) -> str:
    """A file of a snapshot."""
    return f"{STAGED}/{source}/{folder}/{name}"


def manifest_key(site: Site, given: ShardInput) -> str:
    """The manifest of a shard that is built from these inputs by this version: a late worker writes another one."""
    inputs = f"{given.shard_id} {given.shard_count} {given.source_data_hash} {site.profile_version}"
    return f"{MANIFESTS}/{given.shard_id}/{stable_hash(inputs)}.json"


def profiles_key(file_name: str) -> str:
    """A Parquet file of the table."""
    return f"{PROFILES_FOLDER}/{file_name}"


def attempt_key(shard_id: str, file_name: str) -> str:
    """The record of an attempt."""
    return f"{ATTEMPTS}/{shard_id}/{file_name}"
