"""The version of what a project declares: a hash that changes with the result and with nothing else.

Meanings, titles, comments, blank lines and the order of files are prose: changing them leaves every shard current. What
the engine adds to a version (its own result version, DuckDB's) is in `engine.site`.
"""

import json
import re
from collections.abc import Mapping

import xxhash
from pydantic import BaseModel

from etl_assets.project.contract import Contract, Source
from etl_assets.project.identity import KeyMap

VERSION_CHARS = 12
_PROSE = frozenset({"meaning", "title", "pii"})
# What is checked of the finished warehouse decides no profile.
_CHECKED = frozenset({"checks", "unique", "relationships"})
# Which files are left out shows in the list of those that are read.
_UNREAD = frozenset({"ignore"})
# How exports are read changes which records a source has, never what is made of them.
_READING = frozenset({"files", "ignore", "key_from", "key_map", "from_", "csv", "csv_by_file", "sheet"})
# Where and with how much memory the work is done decides nothing of the result.
_NO_RESULT = _READING | {"settings"}
# Strings, quoted identifiers and dollar-quoted texts stay as they are; comments and white space become one blank.
_TOKEN = re.compile(
    r"""(?P<kept>\b[eE]'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"""
    r"""|(?:--[^\n]*|/\*.*?\*/|\s)+""",
    re.DOTALL,
)


def source_version(source: Source) -> str:
    """Changes when a row of this source would be read, judged or routed differently."""
    written = [_written(one) for one in (source, source.key_map) if one is not None]
    return version_of({"key": _declared(source.key), "source": _declared(source), "written": written})


def project_version(contract: Contract, statements: Mapping[str, str]) -> str:
    """Changes when a profile would be another: the contract and the project's SQL, by name."""
    declared = _declared(contract.model_copy(update={"name": ""}), _NO_RESULT)
    return version_of({"contract": declared, "sql": {name: plain_sql(text) for name, text in statements.items()}})


def version_of(facts: object) -> str:
    """A short hash of a JSON value, whatever the order of its keys."""
    text = json.dumps(facts, sort_keys=True, ensure_ascii=False)
    return xxhash.xxh3_128_hexdigest(text.encode())[:VERSION_CHARS]


def plain_sql(text: str) -> str:
    """The statement without comments and with single blanks; text in quotes is kept."""
    return _TOKEN.sub(lambda match: match["kept"] or " ", text).strip()


def _declared(model: BaseModel, left_out: frozenset[str] = frozenset()) -> object:
    """What a model declares, without prose, checks and what is as it is by default: a new word changes no version."""
    return _without(model.model_dump(mode="json", exclude_defaults=True), _PROSE | _CHECKED | _UNREAD | left_out)


def _written(declared: Source | KeyMap) -> list[object]:
    """How files are written. Not as it is declared: a word that is as by default may stand for another one of `csv`."""
    dialects = [((), declared.csv), *((one.files, one.over(declared.csv)) for one in declared.csv_by_file)]
    return [(files, _declared(one)) for files, one in dialects]


def _without(value: object, left_out: frozenset[str]) -> object:
    if isinstance(value, dict):
        return {name: _without(entry, left_out) for name, entry in value.items() if name not in left_out}
    return [_without(entry, left_out) for entry in value] if isinstance(value, list) else value
