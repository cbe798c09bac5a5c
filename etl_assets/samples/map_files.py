"""The key maps of a sample: which files hold them, and with which columns.

Where a map is the export of another source, that export has the columns of the map too. Files that are nothing but maps
have a row for each key; sources that share one have a column of ids each.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from etl_assets.project.contract import Contract, Source
from etl_assets.project.dialect import Dialect
from etl_assets.project.file_patterns import files_of
from etl_assets.project.identity import KeyMap
from etl_assets.samples.any_project import Field

# The parts of a pattern of files, as regular expressions.
_PARTS = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
_PART = re.compile(r"\*\*/|\*|\?|\[[^\]]+\]")


@dataclass
class MapFile:
    """A file that is nothing but a map; its columns by their names in small letters."""

    dialect: Dialect
    columns: dict[str, Field] = field(default_factory=dict)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Its columns in order."""
        return tuple(self.columns.values())


@dataclass
class MapFiles:
    """The files that are nothing but maps, and the further columns of the exports that are maps too."""

    files: dict[str, MapFile] = field(default_factory=dict)
    of_exports: dict[str, tuple[Field, ...]] = field(default_factory=dict)


def map_files(
    contract: Contract, exports: Mapping[str, Iterable[str]], name_of: Callable[[str, Source], str]
) -> MapFiles:
    """Plan the maps of all sources; `exports` are each source's files, and `name_of` makes a name of a pattern."""
    found = MapFiles()
    for source in contract.sources:
        if source.key_map is None:
            continue
        fields = _fields(source, source.key_map)
        for pattern in source.key_map.files:
            form = _form(pattern)
            owners = [name for name, files in exports.items() if any(map(form.fullmatch, files))]
            for owner in owners:
                found.of_exports[owner] = (*found.of_exports.get(owner, ()), *fields)
            names = [name for name in found.files if form.fullmatch(name)]
            if not owners and not names:
                names = [name_of(pattern, source)]
            for name in names:
                file = found.files.setdefault(name, MapFile(source.key_map.csv))
                for one in fields:
                    file.columns.setdefault(one.header.strip().lower(), one)
    return found


def _fields(source: Source, declared: KeyMap) -> list[Field]:
    keys = [Field(header, part=number, part_count=len(declared.to)) for number, header in enumerate(declared.to)]
    ids = [
        Field(header, part=number, part_count=len(declared.from_), ids_of=source.name)
        for number, header in enumerate(declared.from_)
    ]
    return [*keys, *ids]


def _form(pattern: str) -> re.Pattern[str]:
    """The names that a pattern of files matches."""
    text, end = "", 0
    whole = files_of(pattern)
    for part in _PART.finditer(whole):
        text += re.escape(whole[end : part.start()]) + _PARTS.get(part[0], part[0].replace("[!", "[^"))
        end = part.end()
    return re.compile(text + re.escape(whole[end:]))
