r"""The idempotency key: a stable hash over an unambiguous encoding of all source records of one key.

Encoding version 1 is a JSON array of strings and nulls without spaces, in contract order:

    ["v1", "<source>", <each of its columns>, "<source>" | null, …]

A source with many records of a key contributes, in the place of its columns, the sorted list of their encodings: each
a JSON array like this one, of its columns only, and the list itself as the text of a JSON array.

A source without a record contributes null for its name and for each of its columns, so absence differs from a record
of nulls; a JSON string is quoted and escaped, so null differs from the text `null` and no two records run together.
Escaped are quote, backslash and the control characters below U+0020, by their short form (\b \t \n \f \r) or else as
\u00XX in upper case; nothing else is. Values are DuckDB's text forms (integers in decimal, floats shortest-round-trip,
ISO dates). The encoding is pinned by golden vectors: changing it changes every key, so it gets a new version.
"""

from collections.abc import Sequence

from etl_assets.engine.sql_text import identifier
from etl_assets.project.contract import Source

ENCODING_VERSION = "v1"
# On every row of a source's relation, so that presence can be seen after the joins.
SOURCE_NAME = "_source"
# The sorted encodings of many records of one key.
RECORDS = "_records"


def encoding_sql(sources: Sequence[Source]) -> str:
    """The SQL expression of the encoding, over relations named like the sources, each with its `_source`."""
    parts = [f"'{ENCODING_VERSION}'"]
    for source in sources:
        relation = identifier(source.name)
        parts.append(f"{relation}.{SOURCE_NAME}")
        if source.has_many:
            parts.append(f"to_json({relation}.{RECORDS})::VARCHAR")
        else:
            parts.extend(f"{relation}.{identifier(column.name)}::VARCHAR" for column in source.columns)
    return f"to_json([{', '.join(parts)}])::VARCHAR"


def records_sql(source: Source) -> str:
    """The SQL aggregate of the encodings of a source's many records, in an order that files do not decide."""
    cells = ", ".join(f"{identifier(column.name)}::VARCHAR" for column in source.columns)
    return f"list_sort(list(to_json([{cells}])::VARCHAR))"
