"""Load a project folder: `etl_assets.yaml`, `sql/profiles.sql`, `sql/macros/`, `sql/checks/`.

Every bad file gives one form of error, which lists all that is wrong with it, with lines. Without a folder of the
user's own the shipped project is loaded. Reads text only; the engine finds out whether the SQL is sound.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml
from pydantic import ValidationError

from etl_assets.errors import Action, Advice, ConfigError
from etl_assets.project.column_checks import column_checks
from etl_assets.project.contract import Contract
from etl_assets.project.findings import doubled, findings, unknown_checks, unreadable
from etl_assets.project.locating import CONTRACT_FILE, Loader, find_project, shipped_folder
from etl_assets.project.version import project_version

__all__ = ["CONTRACT_FILE", "Project", "find_project", "load_project", "shipped_folder", "source_lines"]

# Dagster's rule.
_CHECK_NAME = re.compile(r"[A-Za-z0-9_]+", re.ASCII)


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
    checks = _statements(root / "sql" / "checks")
    _refuse_names(root, checks)
    contract = _load_contract(root / CONTRACT_FILE, checks)
    return Project(contract, _read(root / "sql" / "profiles.sql"), _statements(root / "sql" / "macros"), checks, root)


def source_lines(folder: Path) -> dict[str, int]:
    """The line of each source in a project's file that can be loaded; for what is wrong with its files."""
    tree = Loader(_read(folder / CONTRACT_FILE)).get_single_node()
    entries_of_file = tree.value if isinstance(tree, yaml.MappingNode) else []
    sources = next((value for key, value in entries_of_file if key.value == "sources"), None)
    if isinstance(sources, yaml.MappingNode):
        return {str(key.value): key.start_mark.line + 1 for key, _ in sources.value}
    entries = sources.value if isinstance(sources, yaml.SequenceNode) else []
    return {
        str(value.value): entry.start_mark.line + 1
        for entry in entries
        for key, value in entry.value
        if key.value == "name"
    }


def _statements(folder: Path) -> dict[str, str]:
    return {path.stem: _read(path) for path in sorted(folder.glob("*.sql"))}


def _refuse_names(root: Path, checks: Iterable[str]) -> None:
    """ConfigError for files of checks whose names cannot be those of checks in Dagster."""
    bad = [str(root / "sql" / "checks" / f"{name}.sql") for name in checks if not _CHECK_NAME.fullmatch(name)]
    if bad:
        raise ConfigError(
            f"The name of a check has letters, digits and underscores only: rename {', '.join(bad)}.",
            subject=bad[0],
        )


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


def _load_contract(path: Path, sql_checks: Iterable[str]) -> Contract:
    text = _read(path)
    try:
        loader = Loader(text)
        tree = loader.get_single_node()
        value = loader.construct_document(tree) if tree is not None else None
    except yaml.YAMLError as error:
        raise _bad(path, [unreadable(error)]) from error
    problems = list(doubled(tree))
    if not isinstance(value, dict):
        raise _bad(path, [(1, "expected words with values, such as name: and sources:")])
    try:
        contract = Contract.model_validate(value)
    except ValidationError as error:
        raise _bad(path, [*problems, *findings(error, tree)]) from error
    known = [*sql_checks, *(check.name for check in column_checks(contract))]
    problems += unknown_checks(contract, known, tree)
    if problems:
        raise _bad(path, problems)
    return contract


def _bad(path: Path, problems: Sequence[tuple[int, str]]) -> ConfigError:
    listed = "".join(f"\n  line {line}: {text}" for line, text in sorted(problems))
    return ConfigError(
        f"{path} is not a sound contract:{listed}", Advice(Action.EDIT, value=str(path)), subject=str(path)
    )
