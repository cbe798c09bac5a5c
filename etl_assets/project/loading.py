"""Find and load a project folder: `etl_assets.yaml`, `sql/profiles.sql`, `sql/macros/`, `sql/checks/`.

Every bad file gives one form of error, which lists all that is wrong with it, with lines. Without a folder of the
user's own the shipped project is loaded. Reads text only; whether the SQL is sound is the engine's question.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.project.contract import Column, Contract, Key, ProfileColumn, Source
from etl_assets.project.version import project_version

CONTRACT_FILE = "etl_assets.yaml"
_SHIPPED = "customer360"
# The one in C, where PyYAML was built with it, takes a tenth of the time; both are safe.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FIELDS = {name for model in (Contract, Source, Column, ProfileColumn, Key) for name in model.model_fields} - {"name"}


@dataclass(frozen=True)
class Project:
    """Everything a user declares; `macros` and `checks` map file stems to SQL, in name order."""

    contract: Contract
    profiles_sql: str
    macros: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None

    @cached_property
    def version(self) -> str:
        """The hash of what decides a profile; prose changes nothing."""
        macros = {f"macros/{name}": text for name, text in self.macros.items()}
        return project_version(self.contract, {"profiles": self.profiles_sql, **macros})


def load_project(folder: Path | str | None = None) -> Project:
    """Load a project folder, or the shipped project when none is named.

    ConfigError names the file and lists everything that is wrong in it, each with its line.
    """
    root = Path(folder) if folder is not None else shipped_folder()
    contract = _load_contract(root / CONTRACT_FILE)
    return Project(
        contract,
        _read(root / "sql" / "profiles.sql"),
        _statements(root / "sql" / "macros"),
        _statements(root / "sql" / "checks"),
        root,
    )


def find_project(start: Path) -> Path | None:
    """The nearest folder, from `start` upwards, that holds a project; None when there is none."""
    return next((folder for folder in (start, *start.parents) if (folder / CONTRACT_FILE).is_file()), None)


def shipped_folder() -> Path:
    """The folder of the shipped project."""
    return Path(str(resources.files("etl_assets.project"))) / _SHIPPED


def _statements(folder: Path) -> dict[str, str]:
    return {path.stem: _read(path) for path in sorted(folder.glob("*.sql"))}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"{path} cannot be read ({reason}). Expected a file of the project in that place.",
            Advice(Action.EDIT, value=str(path)),
            subject=str(path),
        ) from error


def _load_contract(path: Path) -> Contract:
    text = _read(path)
    try:
        loader = _Loader(text)
        tree = loader.get_single_node()
        value = loader.construct_document(tree) if tree is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise _bad(path, [f"{line} {getattr(error, 'problem', error)}".strip()]) from error
    problems = [f"line {line}: '{name}' is written twice" for line, name in _doubled(tree)]
    if not isinstance(value, dict):
        problems.append("expected words with values, such as name: and sources:")
    if problems:
        raise _bad(path, problems)
    try:
        return Contract.model_validate(value)
    except ValidationError as error:
        raise _bad(path, [_worded(dict(one), tree) for one in error.errors(include_url=False)]) from error


def _bad(path: Path, problems: Sequence[str]) -> ConfigError:
    listed = "".join(f"\n  {problem}" for problem in problems)
    return ConfigError(
        f"{path} is not a sound contract:{listed}", Advice(Action.EDIT, value=str(path)), subject=str(path)
    )


def _worded(one: Mapping[str, Any], tree: yaml.Node | None) -> str:
    """One finding of pydantic: the line, the place, what is wrong and, for an unknown word, the nearest known one."""
    names, line = _place(one["loc"], tree)
    where = f"line {line}: {'.'.join(names)}" if names else f"line {line}"
    if one["type"] == "extra_forbidden":
        close = difflib.get_close_matches(names[-1], _FIELDS, n=1)
        return f"{where}: unknown word" + (f"; did you mean '{close[0]}'?" if close else "")
    message = str(one["msg"]).removeprefix("Value error, ")
    found = "" if isinstance(one["input"], dict | list | tuple | BaseModel) else f", found {one['input']!r}"
    return f"{where}: {message[0].lower()}{message[1:]}{found}"


def _place(location: Sequence[str | int], tree: yaml.Node | None) -> tuple[list[str], int]:
    """The words that lead to a value, and its line; mappings were numbered on the way into the models."""
    names: list[str] = []
    node, line = tree, 1
    for step in location:
        child = _child(node, step)
        if child is None:
            if isinstance(step, str):
                names.append(step)
            break
        name, node, line = child
        names.append(name)
    return names, line


def _child(node: yaml.Node | None, step: str | int) -> tuple[str, yaml.Node, int] | None:
    entries: list[tuple[str, yaml.Node, int]] = []
    if isinstance(node, yaml.MappingNode):
        entries = [(str(key.value), value, key.start_mark.line + 1) for key, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        entries = [(str(number), value, value.start_mark.line + 1) for number, value in enumerate(node.value)]
    if isinstance(step, int):
        return entries[step] if step < len(entries) else None
    return next((entry for entry in entries if entry[0] == step), None)


def _doubled(node: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Words that one mapping has twice: YAML would keep the last without a sound."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield key.start_mark.line + 1, str(key.value)
            seen.add(str(key.value))
            yield from _doubled(value)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _doubled(value)
