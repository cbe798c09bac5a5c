"""What DuckDB says of a value, without the value: it quotes it in its errors, and it may be personal."""

import re

import duckdb

from etl_assets.engine.published.preview import MASK

# Where a quoted value begins (not in "can't"), the type that it was to become, numbers (not those of a name).
_QUOTE = re.compile(r"""(?<![a-z])['"]""")
_TARGET_TYPE = re.compile(r" to (?:type )?[A-Z][A-Z0-9_]*(?:\([0-9, ]*\))?(?: when casting from source column \w+)?\Z")
# Of invalid input, what is known to quote its value: other functions show it as it is, as `error('…')` does.
_INVALID, _QUOTES = "Invalid Input Error: ", ('Could not parse string "',)
_NUMBER = re.compile(r"(?<![A-Za-z0-9_])-?[0-9][0-9.,:e+-]*")


def masked(error: duckdb.Error) -> str:
    """What DuckDB says of a value, without the value.

    All from the first quote on is left out but the type at the end: a value may hold quotes and line ends itself.
    """
    text = str(error).strip()
    # Without the line of the statement, which is last.
    said = text.rpartition("\n\nLINE ")[0] or text
    if said.startswith(_INVALID) and not said.removeprefix(_INVALID).startswith(_QUOTES):
        return _INVALID + MASK
    quote = _QUOTE.search(said)
    if quote is not None:
        target = _TARGET_TYPE.search(said, quote.end())
        said = f"{said[: quote.start()]}'{MASK}'{target[0] if target else ''}"
    return _NUMBER.sub(MASK, said).splitlines()[0]
