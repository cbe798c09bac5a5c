"""Lists of entries with names, as `etl_assets.yaml` may have them: `columns: {name: {…}}`, or a list."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class HasName(Protocol):
    """An entry."""

    @property
    def name(self) -> str:
        """The name that it is declared under."""
        ...


class MisdeclaredError(ValueError):
    """What is wrong with several entries of a list; `findings` are pairs of the steps that lead to one, and a text."""

    def __init__(self, findings: Sequence[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, place))}: {text}" for place, text in findings))
        self.findings = tuple(findings)


def with_named(value: Any, field: str) -> Any:
    """Turn `field: {name: {…}}` or `field: [name, …]` into a list of mappings with their names."""
    entries = value.get(field) if isinstance(value, Mapping) else None
    if isinstance(entries, Mapping):
        renamed = [
            ((field, number, "name"), "the word before the colon is the name; leave this one out")
            for number, spec in enumerate(entries.values())
            if isinstance(spec, Mapping) and "name" in spec
        ]
        if renamed:
            raise MisdeclaredError(renamed)
        named = [
            {"name": name, **(spec or {})} if spec is None or isinstance(spec, Mapping) else spec
            for name, spec in entries.items()
        ]
    elif isinstance(entries, list | tuple):
        named = [{"name": entry} if isinstance(entry, str) else entry for entry in entries]
    else:
        return value
    return {**value, field: named}


def doubled_names(entries: Sequence[HasName], field: str) -> list[tuple[tuple[str | int, ...], str]]:
    """The findings about names in the list `field` that are there more than once."""
    names = [entry.name for entry in entries]
    return [
        ((field, number), f"{name} is declared more than once")
        for number, name in enumerate(names)
        if name in names[:number]
    ]
