"""Dice in SQL: the integer hash behind every value of the sample, and the SQL fragments that throw it.

Knows nothing of customers. A die is named by a text, so a new die changes no other value. The fragments need the macros
of `MACROS` and a column `key` (UBIGINT, mixed) in scope.
"""

import zlib
from collections.abc import Sequence

MACROS = (
    # murmur3's 32-bit finaliser: a bijection that mixes every bit into every other. UBIGINT holds its products.
    "CREATE MACRO fold(x, bits) AS xor(x, x >> bits)",
    """CREATE MACRO mix(x) AS
        fold((fold((fold(x, 16) * 2246822507::UBIGINT) & 4294967295::UBIGINT, 13) * 3266489909::UBIGINT)
            & 4294967295::UBIGINT, 16)""",
    # One mixed key throws many dice: each die is a multiplier modulo the largest prime below 2^32, a universal family
    # of hashes. Deliberately not mix() again: DuckDB pastes a macro's text in, and planning 30 mixes for each chunk
    # took 0.07 s (dirty 0.3 s), as long as running them over 50,000 rows.
    "CREATE MACRO roll(key, die, sides) AS (key * die::UBIGINT % 4294967291::UBIGINT % sides::UBIGINT)::BIGINT",
)
_LARGEST_PRIME = 4294967291


def roll(name: str, sides: int | str) -> str:
    """SQL for a number from 0 up to, not including, `sides`, thrown with the die of this name."""
    return f"roll(key, {multiplier(name)}, {sides})"


def multiplier(name: str) -> int:
    """The multiplier that is the die of this name."""
    return max(1, zlib.crc32(name.encode()) % _LARGEST_PRIME)


def pick(name: str, values: Sequence[str]) -> str:
    """SQL for one of the values; a value that is listed twice comes twice as often."""
    return f"{text_list(values)}[1 + {roll(name, len(values))}]"


def mostly(name: str, one_in: int, value: str) -> str:
    """SQL for the value, and for null in one row of `one_in`."""
    return f"CASE WHEN {roll(name, one_in)} > 0 THEN {value} END"


def text_list(values: Sequence[str]) -> str:
    """SQL for a list of these texts."""
    return f"[{', '.join(literal(value) for value in values)}]"


def literal(text: str) -> str:
    """SQL for this text."""
    return "'" + text.replace("'", "''") + "'"
