"""The files of a source: one of its name, a folder of its name, or what the contract's patterns name.

Only regular files count, and something else of an export's name is refused: it may be meant to be read.
"""

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from etl_assets.engine.files.access import explained_to_users
from etl_assets.engine.files.regular import NotRegularError, open_regular, require_regular
from etl_assets.engine.reading.file_names import Likeness, likeness
from etl_assets.engine.reading.formats import LISTED, SUFFIXES, suffix_of, unreadable
from etl_assets.engine.reading.kinds import kind_of
from etl_assets.engine.reading.other_programs import is_kept_apart, is_mark
from etl_assets.engine.reading.patterns import matching_files, names_in, natural_order
from etl_assets.engine.reading.verified import not_a_file
from etl_assets.errors import Action, Advice, InputError, shown
from etl_assets.project.contract import Source

_FILES_SHOWN = 20
_NEAR_SHOWN = 3
_START_BYTES = 64 << 10


def find_files(source: Source, root: Path) -> list[Path]:
    """The files of a source in natural order of their names; InputError says what was expected and what was found."""
    with explained_to_users(root, source.name):
        return _readable_files(source, root)


def _readable_files(source: Source, root: Path) -> list[Path]:
    if not root.is_dir():
        raise InputError(
            f"The folder of the exports, {root}, does not exist.",
            Advice(Action.SET, "ETL_SOURCES"),
            Advice(Action.GENERATE, value=str(root)),
            subject=str(root),
        )
    found = _find_files(source, root)
    _require_named(source, found, root)
    return found


def _require_named(source: Source, files: Sequence[Path], root: Path) -> None:
    """InputError for an entry of `csv_by_file` that counts for no file: some file is read with another meaning."""
    used = [source.file_dialect(path.relative_to(root).as_posix()) for path in files] if source.csv_by_file else []
    unused = [one for one in source.csv_by_file if not any(one is other for other in used)]
    if unused:
        names = ", ".join(path.relative_to(root).as_posix() for path in files[:_FILES_SHOWN])
        raise InputError(
            f"No file of source '{source.name}' is read as csv_by_file says of {', '.join(unused[0].files)}. The files "
            f"are: {shown(names)}.",
            Advice(Action.EDIT, value="etl_assets.yaml"),
            subject=source.name,
        )


def _find_files(source: Source, root: Path) -> list[Path]:
    if source.files:
        found = [path for path in matching_files(source, root) if _is_meant(path, source, root)]
        if not found:
            raise InputError(
                f"No file of source '{source.name}' is left: its ignore names all that its files name.",
                Advice(Action.EDIT, value="etl_assets.yaml"),
                subject=source.name,
            )
        return found
    candidates = (path for path in root.iterdir() if path.name.startswith(source.name))
    named = [path for path in candidates if path.name[len(source.name) :].lower() in SUFFIXES]
    _refuse_folder_of_parts(source, named)
    found = natural_order(path for path in named if _is_meant(path, source, root))
    folder = root / source.name
    if folder.is_dir() and not source.ignores(folder.name, is_folder=True):
        found += [folder]
    if not found:
        raise InputError(
            f"No export of source '{source.name}' in {root}: expected {source.name}.csv, a file {source.name} of "
            f"another format ({LISTED}) or a folder {source.name}/, found {names_in(root)}.{_near(source, root)}",
            Advice(Action.SET, "ETL_SOURCES"),
            subject=source.name,
        )
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(
            f"Source '{source.name}' has more than one export in {root}: {names}. Keep one of them.",
            subject=source.name,
        )
    return _files_in(folder, source, root) if found == [folder] else found


def _near(source: Source, root: Path) -> str:
    """A sentence on the files whose names speak of the source: what they are, or the line that reads them."""
    alike = [path for path in natural_order(root.iterdir()) if likeness(path.name, [source.name])[0] is Likeness.SAME]
    said = []
    files = [path for path in alike if path.is_file() and not is_mark(path.name)]
    endings = {suffix_of(path.name) for path in files}
    if len(files) > 1 and len(endings) == 1 and all(path.name.startswith(source.name) for path in files):
        # Such as the parts of one export.
        pattern = f"{source.name}*{endings.pop()}"
        names = f"{shown(files[0].name)} and {len(files) - 1:,} more"
        return f' {names} may be it: write for {source.name} in etl_assets.yaml: files: ["{pattern}"]'
    for path in files[:_NEAR_SHOWN]:
        reason = _what_it_is(path) or unreadable(path.name)
        way = f'write for {source.name} in etl_assets.yaml: files: ["{shown(glob.escape(path.name))}"]'
        said.append(f" {shown(path.name)} may be it: {f'it {reason}' if reason else way}")
    return "".join(said)


def _what_it_is(path: Path) -> str:
    """What the first bytes of a file of a foreign ending say."""
    if suffix_of(path.name):
        return ""
    with open_regular(path) as stream:
        kind = kind_of(stream.read(_START_BYTES))
    if kind is None:
        return ""
    return f"is {shown(kind.what)}. {kind.advice or f'Give its name the ending {kind.ending}.'}"


def _refuse_folder_of_parts(source: Source, named: Sequence[Path]) -> None:
    """InputError for a folder with the name of a file: Spark writes the parts of an export to `parts.csv/`."""
    folder = next((path for path in named if path.is_dir() and any(map(_is_export, path.iterdir()))), None)
    if folder is not None:
        raise InputError(
            f"{shown(folder.name)} of source '{source.name}' is a folder of files. To read them, write for "
            f'{source.name} in etl_assets.yaml: files: ["{shown(folder.name)}/**"]',
            subject=source.name,
        )


def _require_text(path: Path) -> None:
    """Quarantine names files, and neither DuckDB nor JSON can hold a name that is not text."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The name of {os.fsencode(path)!r} is not UTF-8 text. Rename the file.") from error


def _files_in(folder: Path, source: Source, root: Path) -> list[Path]:
    files = [path for path in natural_order(filter(_is_export, folder.iterdir())) if _is_meant(path, source, root)]
    if not files:
        below = any(path.is_dir() and not is_kept_apart(path.name) for path in folder.iterdir())
        way = f' To read the folders in it, write for {source.name}: files: ["{source.name}/**"]' if below else ""
        raise InputError(
            f"The folder {folder} of source '{source.name}' holds no export, such as a .csv file. Formats: {LISTED}."
            f"{way}",
            subject=source.name,
        )
    return files


def _is_export(path: Path) -> bool:
    name = path.name.lower()
    return name.endswith(SUFFIXES) and not is_mark(path.name)


def _is_meant(path: Path, source: Source, root: Path) -> bool:
    """Whether there is a file that the source does not ignore; InputError as for `_is_file`."""
    return not source.ignores(path.relative_to(root).as_posix()) and _is_file(path, root)


def _is_file(path: Path, root: Path) -> bool:
    """Whether there is a file; InputError for something else of that name: it may be meant to be read."""
    _require_text(path)
    try:
        require_regular(path, os.stat(path))
    except NotRegularError as error:
        raise not_a_file(path, root, error.kind) from error
    except PermissionError:
        raise
    except OSError as error:
        if path.is_symlink():
            raise not_a_file(path, root, "a link that leads nowhere") from error
        return False
    return True
