"""Hashes: of one text, and of a set of rows whatever their order.

Hashes of sets add up: those of two shards give the hash of both. So the digest of a warehouse is the same for any
number of shards, and needs no sort (docs/adr/0006). They compare data within one version of DuckDB, which is part of
every version of the code, and are many times cheaper than hashing the text of every row.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import xxhash

from etl_assets.engine.sql_text import identifier

DIGEST_VERSION = "v2"
# `stable_hash` for SQL, over the function that `duck.add_hashing` gives it.
STABLE_HASH_MACRO = "CREATE MACRO stable_hash(text) AS xxh3_128(encode(text))"
_MODULUS = 1 << 64


def file_hash(path: Path) -> str:
    """xxh3_128 of a file's bytes, 32 hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()


def stable_hash(text: str) -> str:
    """xxh3_128 of the UTF-8 bytes, 32 hex digits; the same on every machine and version."""
    return xxhash.xxh3_128_hexdigest(text.encode())


@dataclass(frozen=True)
class SetHash:
    """A set of rows: their number, and the sums modulo 2^64 of two independent 64-bit hashes of each row."""

    count: int = 0
    first: int = 0
    second: int = 0

    def __add__(self, other: "SetHash") -> "SetHash":
        """The hash of both sets together."""
        return SetHash(
            self.count + other.count, (self.first + other.first) % _MODULUS, (self.second + other.second) % _MODULUS
        )

    def __str__(self) -> str:
        """`<count>-<first>-<second>`, the latter as 16 hex digits."""
        return f"{self.count}-{self.first:016x}-{self.second:016x}"

    @classmethod
    def of_text(cls, text: str) -> "SetHash":
        """From its own text."""
        count, first, second = text.split("-")
        return cls(int(count), int(first, 16), int(second, 16))

    @classmethod
    def of_row(cls, values: Sequence[int]) -> "SetHash":
        """From the row of a query with `set_hash_sql`: a count and two sums that may exceed 64 bits."""
        count, first, second = (int(value) for value in values)
        return cls(count, first % _MODULUS, second % _MODULUS)


def total(parts: Iterable[SetHash]) -> SetHash:
    """The hash of all parts together."""
    return reduce(SetHash.__add__, parts, SetHash())


def digest(rows: SetHash) -> str:
    """How a whole result is named: the version of the digest and the hash of its rows."""
    return f"{DIGEST_VERSION}-{rows}"


def set_hash_sql(columns: Sequence[str]) -> str:
    """Three aggregates of a relation with these columns: what `SetHash.of_row` takes.

    DuckDB folds the hashes of a row's cells from left to right, so the same cells in reverse order behind a salt fold
    to an independent value.
    """
    cells = [identifier(column) for column in columns]
    first, second = f"hash({', '.join(cells)})", f"hash('second', {', '.join(reversed(cells))})"
    return f"count(*), coalesce(sum({first}), 0), coalesce(sum({second}), 0)"
