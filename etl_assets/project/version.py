"""The version of what a project declares: a hash that changes with the result and with nothing else.

Meanings, titles, comments, blank lines and the order of files are prose: changing them leaves every shard current. What
the engine adds to a version (its own result version, DuckDB's) is in `engine.site`.
"""

import json
import re
from collections.abc import Mapping

import xxhash

from etl_assets.project.contract import Contract, Source

VERSION_CHARS = 12
_PROSE = frozenset({"meaning", "title", "pii"})
# Strings, quoted identifiers and dollar-quoted texts stay as they are; comments and white space become one blank.
_TOKEN = re.compile(
    r"""(?P<kept>\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"""
    r"""|(?:--[^\n]*|/\*.*?\*/|\s)+""",
    re.DOTALL,
)


def source_version(source: Source) -> str:
    """Changes when a row of this source would be read, judged or routed differently."""
    return version_of({"key": source.key.model_dump(mode="json"), "source": _declared(source.model_dump(mode="json"))})


def project_version(contract: Contract, statements: Mapping[str, str]) -> str:
    """Changes when a profile would be another: the contract and the project's SQL, by name."""
    declared = _declared(contract.model_dump(mode="json", exclude={"name"}))
    return version_of({"contract": declared, "sql": {name: plain_sql(text) for name, text in statements.items()}})


def version_of(facts: object) -> str:
    """A short hash of a JSON value, whatever the order of its keys."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return xxhash.xxh3_128_hexdigest(text.encode())[:VERSION_CHARS]


def plain_sql(text: str) -> str:
    """The statement without comments and with single blanks; text in quotes is kept."""
    return _TOKEN.sub(lambda match: match["kept"] or " ", text).strip()


def _declared(value: object) -> object:
    """A dumped model without its prose."""
    if isinstance(value, dict):
        return {name: _declared(entry) for name, entry in value.items() if name not in _PROSE}
    return [_declared(entry) for entry in value] if isinstance(value, list) else value
