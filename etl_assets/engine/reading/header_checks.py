"""The files and headers of all sources compared with the contract, every mistake found; no row is read."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from etl_assets.engine.reading.exports import open_export
from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.reading.mapping import map_source
from etl_assets.engine.reading.strays import refuse_strays
from etl_assets.engine.reading.verified import stat_files
from etl_assets.errors import Action, Advice, InputError
from etl_assets.project.contract import Contract, Source


@dataclass(frozen=True)
class Looked:
    """The files that a source would read, those of its key map, and what is wrong with them.

    `absent_columns` are those of the contract that need not be there, and that the first records of no file have.
    """

    files: tuple[Path, ...]
    extra_columns: tuple[str, ...] = ()
    absent_columns: tuple[str, ...] = ()
    errors: tuple[InputError, ...] = ()
    map_files: tuple[Path, ...] = ()


def look_at(source: Source, root: Path, contract: Contract | None = None) -> Looked:
    """Find the files of a source and of its key map and read their headers; errors are returned, not raised.

    With the whole contract, files that look like its data and that no source reads are errors too.
    """
    looked, mapped = _look(source, root), map_source(source)
    if contract is not None:
        try:
            refuse_strays(contract, source, root)
        except InputError as error:
            if error.finding not in {one.finding for one in looked.errors}:
                looked = replace(looked, errors=(*looked.errors, error))
    if mapped is None:
        return looked
    # A map is a part of a file that has other columns too: those for other sources.
    of_map = _look(mapped, root)
    return replace(looked, map_files=of_map.files, errors=(*looked.errors, *of_map.errors))


def _look(source: Source, root: Path) -> Looked:
    files, errors = _find(source, root)
    extra: list[str] = []
    absent: list[frozenset[str]] = []
    for stat in stat_files(files, root):
        try:
            export = open_export(source, root, stat)
            extra += export.extra_columns
            absent.append(frozenset(export.absent))
        except InputError as error:
            errors.append(error)
    in_none = frozenset.intersection(*absent) if absent else frozenset()
    absent_columns = tuple(name for name in source.required if name in in_none)
    return Looked(tuple(files), tuple(dict.fromkeys(extra)), absent_columns, tuple(errors))


def _find(source: Source, root: Path) -> tuple[list[Path], list[InputError]]:
    """The files of each pattern on its own, so that one that matches nothing does not hide the others."""
    files: dict[Path, None] = {}
    errors = []
    for pattern in source.files or (None,):
        one = source if pattern is None else source.with_files((pattern,))
        try:
            files |= dict.fromkeys(find_files(one, root))
        except InputError as error:
            errors.append(error)
    return list(files), errors


def refuse_shared_files(files: Mapping[str, Sequence[Path]], root: Path) -> None:
    """InputError when a file belongs to two sources: its records would count twice. As a key map any number may."""
    shared = shared_files(files)
    if shared:
        path, names = next(iter(shared.items()))
        raise InputError(worded(path, names, root), Advice(Action.EDIT, value="etl_assets.yaml"), subject=names[0])


def shared_files(files: Mapping[str, Sequence[Path]]) -> dict[Path, list[str]]:
    """The files that several sources would read, and the names of these."""
    owners: dict[Path, list[str]] = defaultdict(list)
    for name, paths in files.items():
        for path in paths:
            owners[path].append(name)
    return {path: names for path, names in owners.items() if len(names) > 1}


def unread_files(looked: Iterable[Looked], root: Path) -> list[str]:
    """The files in the folder of the exports that no source reads, without hidden ones."""
    read = {path for found in looked for path in (*found.files, *found.map_files)}
    found = sorted(path for path in root.rglob("*") if path.is_file() and path not in read)
    names = [path.relative_to(root) for path in found]
    return [name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts)]


def worded(path: Path, names: Sequence[str], root: Path) -> str:
    """What is wrong with a shared file."""
    return (
        f"{path.relative_to(root).as_posix()} belongs to the sources {' and '.join(names)}: change the files: of one."
    )
