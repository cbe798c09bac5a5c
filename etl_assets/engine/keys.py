r"""The idempotency key: a stable hash over an unambiguous encoding of a customer's source records.

Encoding version 1 is a JSON array of strings and nulls without spaces, in contract order:

    ["v1", "crm", <each crm column but customer_id>, "billing" | null, …]

A source in which the customer does not stand contributes null for its name and for each of its columns, so absence
differs from a record of nulls; a JSON string is quoted and escaped, so null differs from the text `null` and no two
records run together. Escaped are quote, backslash and the control characters below U+0020, by their short form (\b \t
\n \f \r) or else as \u00XX in upper case; nothing else is. Values are DuckDB's text forms (integers in decimal, floats
shortest-round-trip, ISO dates). The encoding is pinned by golden vectors: changing it changes every key, so it gets a
new version.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xxhash

from etl_assets.project.contract import Source

ENCODING_VERSION = "v1"


def stable_hash(text: str) -> str:
    """xxh3_128 of the UTF-8 bytes, 32 hex digits; the same on every machine and version."""
    return xxhash.xxh3_128_hexdigest(text.encode())


# `stable_hash` for SQL, over the function that `duck.add_hashing` gives it.
STABLE_HASH_MACRO = "CREATE MACRO stable_hash(text) AS xxh3_128(encode(text))"


class RowDigest:
    """One xxh3_128 over the 64-bit hashes of many rows, each as eight bytes, the lowest first; in bounded memory."""

    def __init__(self) -> None:
        self._state = xxhash.xxh3_128()

    def add(self, row_hashes: npt.NDArray[np.uint64]) -> None:
        """Take in the next rows."""
        self._state.update(row_hashes.astype("<u8").tobytes())

    def hexdigest(self) -> str:
        """The digest of all rows so far, 32 hex digits."""
        return self._state.hexdigest()


def encoding_sql(sources: Sequence[Source]) -> str:
    """The SQL expression of the encoding, over relations named like the sources, each with its `source_name`."""
    parts = [f"'{ENCODING_VERSION}'"]
    for source in sources:
        parts.append(f"{source.name}.source_name")
        parts.extend(f"{source.name}.{column.name}::VARCHAR" for column in source.columns)
    return f"to_json([{', '.join(parts)}])::VARCHAR"
