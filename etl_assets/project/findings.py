"""What is wrong with an `etl_assets.yaml`, in lines that a person can act on: line, place, expected, found.

Pydantic finds most of it, in words for programmers; YAML itself knows the lines. All findings are given at once.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from etl_assets.project.columns import Relationship
from etl_assets.project.contract import Column, Contract, ProfileColumn, Source
from etl_assets.project.dialect import Dialect, FileDialect
from etl_assets.project.entries import MisdeclaredError
from etl_assets.project.identity import Key, KeyMap
from etl_assets.project.severity import CheckRule

Location = Sequence[str | int]
_Finding = tuple[int, str]


def words_of(model: type[BaseModel]) -> list[str]:
    """The words that a user may write for the fields of a model."""
    return [field.alias or name for name, field in model.model_fields.items()]


# The words that may stand at a place; a name is the word before the colon where several have one.
_WORDS: Mapping[tuple[str, ...], Sequence[str]] = {
    (): words_of(Contract),
    ("key",): words_of(Key),
    ("sources",): [word for word in words_of(Source) if word != "name"],
    ("sources", "csv"): words_of(Dialect),
    ("sources", "csv_by_file"): words_of(FileDialect),
    ("sources", "key_map"): words_of(KeyMap),
    ("sources", "key_map", "csv"): words_of(Dialect),
    ("sources", "key_map", "csv_by_file"): words_of(FileDialect),
    ("sources", "columns"): [word for word in words_of(Column) if word != "name"],
    ("sources", "columns", "relationships"): words_of(Relationship),
    ("profile",): [word for word in words_of(ProfileColumn) if word != "name"],
    ("profile", "relationships"): words_of(Relationship),
    ("checks",): [word for word in words_of(CheckRule) if word != "name"],
}
# Words of dbt that have another name here: one word for one thing.
_DBT_WORDS = {"not_null": "required", "accepted_values": "values"}
# By pydantic's type of error, or the first word of it; with its own details in braces.
_EXPECTED = {
    "string_pattern_mismatch": "expected small letters, digits and underscores, a letter first, at most 63 in all",
    "string": "expected text",
    "bool": "expected true or false",
    "int": "expected a whole number",
    "enum": "expected {expected}",
    "tuple": "expected a list",
    "texts": "expected a text or a list of texts",
    "names": "expected names, each with what is declared of it",
    "model": "expected words with values",
    "too_short": "expected at least one entry",
    "greater": "expected at least {ge}",
    "less": "expected at most {le}",
}
# Places where names stand, each with what is declared of it.
_NAMED = ("sources", "columns", "profile")
# Places where one text stands for a list of one.
_ONE_OR_MORE = ("files", "key", "from", "to", "row_key")
_YAML_TRUTH = "; YAML reads on, off, yes and no as true or false: put such a word in quotes"


def findings(error: ValidationError, tree: yaml.Node | None) -> list[_Finding]:
    """Line and text of each finding."""
    errors = error.errors(include_url=False)
    places = [one["loc"] for one in errors]
    return [
        finding
        for one in errors
        # A list lacks the entries that have errors of their own.
        if one["type"] != "too_short" or not any(_is_within(place, one["loc"]) for place in places)
        for finding in _worded(dict(one), tree)
    ]


def doubled(node: yaml.Node | None) -> Iterator[_Finding]:
    """Words that one mapping has twice: YAML would silently keep the last one."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            word = str(key.value)
            if word in seen:
                yield key.start_mark.line + 1, f"'{word}' is written twice"
            seen.add(word)
            yield from doubled(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from doubled(value)


def unknown_checks(contract: Contract, known: Sequence[str], tree: yaml.Node | None) -> list[_Finding]:
    """Names under `checks` that no check has."""
    found = []
    for number, rule in enumerate(contract.checks):
        if rule.name not in known:
            words, line = _place(("checks", number), tree)
            close = difflib.get_close_matches(rule.name, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known) or 'none'}"
            found.append((line, f"{'.'.join(words)}: no check is called {rule.name}; {hint}"))
    return found


def unreadable(error: yaml.YAMLError) -> _Finding:
    """Where and why YAML could not be read."""
    mark = getattr(error, "problem_mark", None)
    parts = [getattr(error, "context", None), getattr(error, "problem", None)]
    return (mark.line + 1 if mark else 1), ": ".join(part for part in parts if part) or str(error)


def _is_within(place: Location, outer: Location) -> bool:
    return len(place) > len(outer) and list(place[: len(outer)]) == list(outer)


def _worded(one: Mapping[str, Any], tree: yaml.Node | None) -> Iterator[_Finding]:
    """One error of pydantic; those of a whole list are several findings."""
    cause = one.get("ctx", {}).get("error")
    if isinstance(cause, MisdeclaredError):
        for place, text in cause.findings:
            words, line = _place([*one["loc"], *place], tree)
            yield line, f"{'.'.join(words)}: {text}"
        return
    location = one["loc"]
    is_entry = len(location) > 1 and location[-1] == "name" and isinstance(location[-2], int)
    if is_entry or one["type"] == "missing":
        # A name is the word before the colon, or an entry of a list; a missing word has no place of its own.
        location = location[:-1]
    is_unknown = one["type"] in ("extra_forbidden", "invalid_key")
    if is_unknown:
        # A number before a colon is a word too.
        location = (*location[:-1], str(location[-1]))
    words, line = _place(location, tree)
    text = _unknown(location) if is_unknown else _expected(one)
    yield line, ": ".join([*filter(None, [".".join(words)]), text])


def _expected(one: Mapping[str, Any]) -> str:
    kind, value, last = str(one["type"]), one["input"], one["loc"][-1] if one["loc"] else None
    if kind == "missing":
        return f"'{last}' is missing"
    if kind == "tuple_type" and last in _NAMED:
        kind = "names"
    elif kind == "tuple_type" and last in _ONE_OR_MORE:
        kind = "texts"
    form = _EXPECTED.get(kind) or _EXPECTED.get(kind.partition("_")[0])
    # Deliberately not formatted: pydantic's own text quotes what the user wrote, braces included.
    text = form.format(**one.get("ctx", {})) if form else str(one["msg"]).removeprefix("Value error, ")
    # What was found in a whole mapping is in the text, where it matters.
    if kind == "too_short" or isinstance(value, dict | BaseModel):
        return text
    hint = _YAML_TRUTH if isinstance(value, bool) and kind.startswith(("string", "texts")) else ""
    return f"{text}, found {'nothing' if value is None else repr(value)}{hint}"


def _unknown(location: Location) -> str:
    """An unknown word, with the nearest known one or all of them."""
    known = _WORDS[tuple(step for step in location[:-1] if isinstance(step, str))]
    same = _DBT_WORDS.get(str(location[-1]), "")
    close = [same] if same in known else difflib.get_close_matches(str(location[-1]), known, n=1)
    return f"unknown word; did you mean '{close[0]}'?" if close else f"unknown word; known are {', '.join(known)}"


def _place(location: Location, tree: yaml.Node | None) -> tuple[list[str], int]:
    """The words that lead to a value, and its line; mappings were numbered on the way into the models."""
    words: list[str] = []
    node, line = tree, 1
    for step in location:
        child = _child(node, step)
        if child is None:
            words += [step] if isinstance(step, str) else []
            break
        word, node, line = child
        words.append(word)
    return words, line


def _child(node: yaml.Node | None, step: str | int) -> tuple[str, yaml.Node, int] | None:
    entries: list[tuple[str, yaml.Node, int]] = []
    if isinstance(node, yaml.MappingNode):
        entries = [(str(key.value), value, key.start_mark.line + 1) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        entries = [(str(number), value, value.start_mark.line + 1) for number, value in enumerate(node.value)]
    if isinstance(step, int):
        return entries[step] if step < len(entries) else None
    return next((entry for entry in entries if entry[0] == step), None)
