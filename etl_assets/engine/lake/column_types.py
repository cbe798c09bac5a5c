"""Types that DuckDB, Parquet and Delta Lake hold alike: what is read back is what was written, to the last bit."""

import json
import re
from collections.abc import Mapping
from typing import Any

from etl_assets.errors import ConfigError

# Deliberately without HUGEINT, which Parquet holds as DOUBLE, without the unsigned types and times of day, which Delta
# Lake does not have, and without ENUM, which comes back as text.
_PRIMITIVES = {
    "VARCHAR": "string",
    "BIGINT": "long",
    "INTEGER": "integer",
    "SMALLINT": "short",
    "TINYINT": "byte",
    "FLOAT": "float",
    "DOUBLE": "double",
    "BOOLEAN": "boolean",
    "BLOB": "binary",
    "DATE": "date",
    "TIMESTAMP": "timestamp_ntz",
    "TIMESTAMP WITH TIME ZONE": "timestamp",
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),\s*(\d+)\)")


def require_types(types: Mapping[str, str], file: str) -> None:
    """ConfigError that names every column of another type, and what to cast it to."""
    wrong = [f"{name} is {kind}" for name, kind in types.items() if _delta_type(kind) is None]
    if wrong:
        raise ConfigError(
            f"{file}: {'; '.join(wrong)}, which a Delta table cannot hold exactly. Expected a type of "
            f"{', '.join(_PRIMITIVES)}, DECIMAL, or a list of them: cast it, such as sum(x)::BIGINT.",
            subject=file,
        )


def schema_json(types: Mapping[str, str]) -> str:
    """The schema of a table with these columns, as Delta Lake writes it.

    Every column is nullable: a Parquet file calls a column required that has no null in this shard, and may have some
    in the next.
    """
    fields = [
        {"name": name, "type": _delta_type(kind), "nullable": True, "metadata": {}} for name, kind in types.items()
    ]
    return json.dumps({"type": "struct", "fields": fields})


def _delta_type(kind: str) -> Any:
    if kind.endswith("[]"):
        element = _delta_type(kind[:-2])
        return element and {"type": "array", "elementType": element, "containsNull": True}
    decimal = _DECIMAL.fullmatch(kind)
    return f"decimal({decimal[1]},{decimal[2]})" if decimal else _PRIMITIVES.get(kind)
