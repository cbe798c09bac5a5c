"""Macros that call themselves, directly or through others: DuckDB only says that the called one does not exist."""

import re
from collections.abc import Mapping

from etl_assets.project.version import plain_sql

_NAME = re.compile(
    r"\bcreate\s+(?:or\s+replace\s+)?(?:temp(?:orary)?\s+)?(?:macro|function)\s+(?:if\s+not\s+exists\s+)?\"?(\w+)\"?",
    re.IGNORECASE,
)
_CALL = re.compile(r"'(?:[^']|'')*'|\"?\b(\w+)\"?\s*\(")


def find_cycle(macros: Mapping[str, str]) -> list[str]:
    """The files' stems of macros of which each calls the next and the last one the first; empty without any."""
    texts = {stem: plain_sql(text) for stem, text in macros.items()}
    stems = {found[1].lower(): stem for stem, text in texts.items() if (found := _NAME.search(text))}
    calls = {stem: [stems[name] for name in _called(text) if name in stems] for stem, text in texts.items()}
    for start in sorted(calls):
        cycle = _back_to(start, [start], calls)
        if cycle:
            return cycle
    return []


def _called(text: str) -> list[str]:
    """The names before parentheses, after the macro's own."""
    found = _NAME.search(text)
    body = text[found.end() :] if found else text
    return [match[1].lower() for match in _CALL.finditer(body) if match[1]]


def _back_to(start: str, path: list[str], calls: Mapping[str, list[str]]) -> list[str]:
    for name in calls[path[-1]]:
        if name == start:
            return path
        if name not in path and (found := _back_to(start, [*path, name], calls)):
            return found
    return []
