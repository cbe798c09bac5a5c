"""The shard of a key, and the names of shards.

The route depends on the key's bytes and the shard count alone, so every source, machine and run agrees on it. It is
pinned by golden vectors: changing it moves records between shards and makes every published shard stale.
"""

import re

import xxhash

# The names of all shards that there can be, of any number of shards.
SHARD_NAME = re.compile(r"shard_[0-9]{2,3}")


def route(key: str, shard_count: int) -> int:
    """The number, 0 ≤ n < `shard_count`, of the shard that holds this key: xxh3_64 of the UTF-8 bytes, modulo."""
    return xxhash.xxh3_64_intdigest(key.encode()) % shard_count


def route_macro(shard_count: int) -> str:
    """`route(key)` for SQL, over the function that `duck.add_hashing` gives it."""
    return f"CREATE MACRO route(key) AS (xxh3_64(encode(key)) % {shard_count})::SMALLINT"


def shard_key(number: int, shard_count: int) -> str:
    """`shard_03`; three digits when there are more than 100 shards, so that names sort as numbers do."""
    width = 2 if shard_count <= 100 else 3
    return f"shard_{number:0{width}d}"


def shard_key_sql(key: str, shard_count: int) -> str:
    """SQL for the name of the shard that holds `key`, an SQL expression; needs `route_macro`."""
    width = len(shard_key(0, shard_count).removeprefix("shard_"))
    return f"printf('shard_%0{width}d', route({key}))"


def shard_keys(shard_count: int) -> list[str]:
    """All shard names, in number order."""
    return [shard_key(number, shard_count) for number in range(shard_count)]


def shard_number(shard_id: str) -> int:
    """The number in a shard's name, or in the bare number that a person may write."""
    return int(shard_id.removeprefix("shard_"))
