"""Files that look like a source's data and are read by none: each stops its source, by name.

Such a file is in the source's own folder, or it is beside the source's files and has a similar name or the source's
columns. Without this check the run would succeed, and its rows would be missing.
"""

import contextlib
import glob
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from etl_assets.engine.reading import formats, other_programs
from etl_assets.engine.reading.exports import open_export
from etl_assets.engine.reading.file_names import Likeness, likeness, stem_of
from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.reading.mapping import map_source
from etl_assets.engine.reading.verified import stat_files
from etl_assets.errors import EtlError, InputError, shown
from etl_assets.project.contract import Contract, Source
from etl_assets.project.file_patterns import matches

_SHOWN = 5
_ENTRIES_LISTED, _NAMES_LISTED = 10_000, 100
# Files of other names whose headers are compared with the source's columns; and how many columns say something.
_HEADERS_READ, _TELLING_COLUMNS = 50, 4


@dataclass(frozen=True)
class _Room:
    """The folders of the exports as one source sees them. `read` are the files that any source reads."""

    source: Source
    contract: Contract
    root: Path
    files: Sequence[Path]
    read: frozenset[Path]
    # Folders in which other sources read.
    shared: frozenset[Path]

    @cached_property
    def folders(self) -> frozenset[Path]:
        """The folders in which it reads itself, at any depth."""
        return frozenset(folder for path in self.files for folder in path.parents)

    def is_ignored(self, path: Path) -> bool:
        """Whether a source says that this is no data: one word is enough, whichever sources it looks like."""
        name, is_folder = path.relative_to(self.root).as_posix(), path.is_dir()
        return any(source.ignores(name, is_folder=is_folder) for source in self.contract.sources)


def refuse_strays(contract: Contract, source: Source, root: Path) -> None:
    """InputError when files that look like data of this source are read by no source of the contract.

    InputError as for `find_files` for the source's own files; those that other sources lack are for these to say.
    """
    files = find_files(source, root)
    of_others = _files_of(contract, root, but=source)
    shared = frozenset(folder for path in of_others for folder in path.parents)
    room = _Room(source, contract, root, files, frozenset(of_others.union(files)), shared)
    _refuse_parts(room)
    found = list(dict.fromkeys([*_in_own_folders(room), *_beside(room)]))
    if found:
        raise _unread(room, found)


def unread_names(contract: Contract, root: Path) -> tuple[str, ...]:
    """The files in the folder of the exports that no source reads, for a report: the first of them, in order.

    Marks of other programs are left out. A folder of more entries than anyone lists is looked through in part; one that
    may not be read has none, and its sources say why.
    """
    found = []
    with contextlib.suppress(PermissionError):
        read = _files_of(contract, root)
        for path in itertools.islice(_entries_below(root), _ENTRIES_LISTED):
            if path not in read and path.is_file():
                found.append(path.relative_to(root).as_posix())
    return tuple(sorted(found)[:_NAMES_LISTED])


def _files_of(contract: Contract, root: Path, but: Source | None = None) -> set[Path]:
    """The files that the sources and their key maps read; of the source `but`, those of its key map."""
    found: set[Path] = set()
    for source in contract.sources:
        for one in (None if but is not None and source.name == but.name else source, map_source(source)):
            if one is not None:
                with contextlib.suppress(InputError):
                    found.update(find_files(one, root))
    return found


def _refuse_parts(room: _Room) -> None:
    for folder in sorted({path.parent for path in room.files} | set(_own_folders(room))):
        finding = other_programs.not_whole(folder)
        if finding:
            name = folder.relative_to(room.root).as_posix()
            raise InputError(f"The folder {shown(name)} of source '{room.source.name}' {finding}", subject=name)


def _own_folders(room: _Room) -> Iterator[Path]:
    """The folders in which only this source reads."""
    if not room.source.files:
        candidates = [room.root / room.source.name]
    else:
        candidates = [room.root.joinpath(*_fixed_steps(pattern)) for pattern in room.source.files]
    for folder in candidates:
        is_its_own = folder != room.root and folder not in room.shared
        if is_its_own and folder in room.folders:
            yield folder


def _fixed_steps(pattern: str) -> Iterator[str]:
    """The folders that a pattern names without a wildcard."""
    for step in PurePosixPath(pattern).parts[:-1]:
        if glob.has_magic(step):
            return
        yield step


def _in_own_folders(room: _Room) -> Iterator[Path]:
    for folder in _own_folders(room):
        for path in _entries_below(folder):
            if path not in room.read and path not in room.folders and not room.is_ignored(path):
                yield path


def _entries_below(folder: Path) -> Iterator[Path]:
    """What may be data in a folder, and in those below it."""
    for path in sorted(folder.iterdir()):
        if _is_passed_over(path):
            continue
        # A linked folder as such: it may lead back here.
        if path.is_dir() and not path.is_symlink():
            yield from _entries_below(path)
        else:
            yield path


def _beside(room: _Room) -> Iterator[Path]:
    own = set(_own_folders(room))
    headers_left = _HEADERS_READ
    for folder in sorted({room.root} | {path.parent for path in room.files} - own):
        if any(folder.is_relative_to(one) for one in own):
            continue
        for path in sorted(folder.iterdir()):
            is_known = path in room.read or path in own or _is_passed_over(path) or room.is_ignored(path)
            alike = None if is_known else _likeness(room, path)
            if alike is None:
                continue
            if alike is Likeness.SAME:
                if path.is_file() or (path not in room.shared and _has_entries(room, path)):
                    yield path
            elif headers_left and path.is_file():
                headers_left -= 1
                if _has_columns(room, path, is_named_alike=alike is Likeness.MENTIONS):
                    yield path


def _has_entries(room: _Room, folder: Path) -> bool:
    return any(not room.is_ignored(path) for path in _entries_below(folder))


def _is_passed_over(path: Path) -> bool:
    if path.is_dir():
        return other_programs.is_kept_apart(path.name)
    return other_programs.is_mark(path.name) or other_programs.is_document(path.name)


def _likeness(room: _Room, path: Path) -> Likeness | None:
    """How much a name speaks of this source; None when it speaks of another one more than of this."""
    mine, size = likeness(path.name, _names_of(room.source))
    others = (likeness(path.name, _names_of(one)) for one in room.contract.sources if one.name != room.source.name)
    if any(found[0] and found[1] >= size and found > (mine, size) for found in others):
        return None
    return mine


def _names_of(source: Source) -> list[str]:
    """The names under which a source's files are known."""
    return [source.name, *filter(None, map(stem_of, source.files))]


def _has_columns(room: _Room, path: Path, *, is_named_alike: bool) -> bool:
    """Whether a file can be read as one of this source."""
    source = room.source
    if not formats.suffix_of(path.name) or not (is_named_alike or len(source.columns) >= _TELLING_COLUMNS):
        return False
    try:
        open_export(source, room.root, stat_files([path], room.root)[0])
    except (EtlError, OSError):
        return False
    return True


def _unread(room: _Room, found: Sequence[Path]) -> InputError:
    source, root = room.source, room.root
    names = [path.relative_to(root).as_posix() + "/" * path.is_dir() for path in found]
    read = [path.relative_to(root).as_posix() for path in room.files]
    looks, them = (
        ("looks like its data too and is", "it") if len(names) == 1 else ("look like its data too and are", "them")
    )
    return InputError(
        f"Source '{source.name}' reads only {_listed(read)}. {_listed(names)} {looks} not read. "
        f"{_way_in(room, names)}{_way_out(names)}, or move {them} out of {root}.",
        subject=source.name,
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(map(shown, names[:_SHOWN])) + more


def _way_in(room: _Room, names: Sequence[str]) -> str:
    """The line of the contract that reads these files too, and what must be done to those that no line reads."""
    reasons = {name: formats.unreadable(name) for name in names}
    refused = next((f"{shown(name)} {reason} " for name, reason in reasons.items() if reason), "")
    rest = [name for name, reason in reasons.items() if not reason]
    if not rest:
        return f"{refused}Do that; "
    patterns = ", ".join(f'"{pattern}"' for pattern in _patterns(room, rest))
    which = "the others" if refused else "it" if len(rest) == 1 else "them"
    return (
        f"{refused}To read {which} too, write for {room.source.name} in etl_assets.yaml: files: [{shown(patterns)}]; "
    )


def _way_out(names: Sequence[str]) -> str:
    """The line of the contract that leaves these files and folders out."""
    patterns = ", ".join(f'"{glob.escape(name.rstrip("/"))}{"/**" * name.endswith("/")}"' for name in names[:_SHOWN])
    more = ", …" if len(names) > _SHOWN else ""
    return f"to leave {'it' if len(names) == 1 else 'them'} out: ignore: [{shown(patterns)}{more}]"


def _patterns(room: _Room, names: Sequence[str]) -> list[str]:
    """Patterns that name what is read now, and these files and folders too; and no file of another source."""
    source, root = room.source, room.root
    folders = [name.rstrip("/") for name in names if name.endswith("/")]
    files = [name for name in names if not name.endswith("/")]
    wanted = [*(path.relative_to(root).as_posix() for path in room.files), *files]
    own = [folder.relative_to(root).as_posix() for folder in _own_folders(room)]
    kept = [f"{folder}/**" for folder in own]
    rest = [name for name in wanted if not any(matches(pattern, name) for pattern in kept)]
    if not source.files and rest and not own:
        endings = {formats.suffix_of(name) for name in rest}
        wide = f"{source.name}*{endings.pop() if len(endings) == 1 else ''}"
        # Not where it names other files as well, such as those of another source with a longer name.
        if set(rest) == {path.name for path in root.iterdir() if matches(wide, path.name)}:
            rest = [wide]
    if source.files and not own:
        kept += source.files
    kept += [name if "*" in name else glob.escape(name) for name in rest if not _is_matched(name, kept)]
    return [*kept, *(f"{glob.escape(folder)}/**" for folder in folders)]


def _is_matched(name: str, patterns: Iterable[str]) -> bool:
    return any(matches(pattern, name) for pattern in patterns)
