"""Why a file cannot be read as it is declared: what it is instead, and the line of the contract that reads it.

Looked for only when reading has failed. The contract's own columns decide: the structure under which the most of them
are found is the file's.
"""

import contextlib
import glob
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, cast

from etl_assets.engine.reading import formats, unpacking, verified, workbooks
from etl_assets.engine.reading.encodings import chunks_of, detect_in
from etl_assets.engine.reading.formats import Format, Packing
from etl_assets.engine.reading.headers import missing_columns
from etl_assets.engine.reading.kinds import Kind, kind_of
from etl_assets.engine.reading.listing import find_files
from etl_assets.engine.reading.text_headers import cells_of
from etl_assets.engine.reading.verified import FileStat, stat_files
from etl_assets.engine.stopping import Stop
from etl_assets.errors import EtlError, InputError, shown
from etl_assets.project.contract import Source
from etl_assets.project.dialect import Dialect

# A date, an address or a number: no name of a column.
_NO_NAME = re.compile(r"\d{4}-\d\d-\d\d|@.+\.|^\s*-?\d+([.,]\d+)?\s*$")
_SAMPLE_BYTES = 64 << 10
_LINES = 40
_SIBLINGS = 20
_DELIMITERS = (",", ";", "\t", "|", ":", "^", "~", "\x01")
_NAMES = {"\t": "tabs", "\x01": "the character \\x01"}
_KIND_OF_PACKING = {Packing.GZIP: ".gz", Packing.ZSTD: ".zst", Packing.ZIP: ".zip"}
_KIND_OF_FORMAT = {Format.PARQUET: ".parquet", Format.SHEET: ".xlsx", Format.OBJECTS: ".jsonl"}


def diagnosed(error: InputError, source: Source, root: Path, stat: FileStat) -> InputError:
    """The error with what the file is, where its bytes say so; else the same error."""
    try:
        found = _diagnosis(source, root, stat)
    except (EtlError, OSError, ValueError, LookupError):
        return error
    if found is None:
        return error
    return InputError(f"{shown(stat.name)} of source '{source.name}' {found}", subject=source.name)


def _diagnosis(source: Source, root: Path, stat: FileStat) -> str | None:
    start = _start(root, stat, None)
    if not start.strip():
        return None
    packing, form, kind = formats.packing_of(stat.name), formats.format_of(stat.name), kind_of(start)
    if formats.refusal(stat.name):
        # Its name says enough, unless the bytes say something else.
        return _wrong_kind(kind, stat.name) if kind and not kind.ending and not kind.is_old_workbook else None
    dialect = formats.dialect_of(source.dialect_of(stat.name), stat.name)
    if form is Format.OBJECTS and not packing and _encoding(dialect, start) != dialect.encoding:
        encoding = _encoding(dialect, start)
        return f"is {encoding} text. {_written(source, dialect, {'encoding': encoding}, root, stat)}"
    expected = _KIND_OF_PACKING[packing] if packing else _KIND_OF_FORMAT.get(form, "")
    if kind is not None and not _is_expected(kind, expected):
        return None if kind.is_old_workbook and form is Format.SHEET else _wrong_kind(kind, stat.name)
    if kind is None and expected not in ("", ".jsonl") and _is_text(start):
        return f"is text, not what its name says. Rename it to {shown(_renamed(stat.name, '.csv'))}."
    if form is Format.SHEET:
        return _of_sheet(source, root, stat, dialect)
    if form is not Format.TEXT:
        return None
    data = _unpacked(root, stat, packing) if packing else start
    inner = kind_of(data) if packing else None
    if inner is not None:
        return f"holds {shown(inner.what)}. {inner.advice or 'Unpack it, and name it by what it is.'}"
    return _of_text(source, dialect, data, root, stat)


def _is_expected(kind: Kind, expected: str) -> bool:
    # Of a large workbook, the first parts may not say that it is one.
    return bool(kind.ending) and kind.ending in (expected, ".zip" if expected == ".xlsx" else expected)


def _is_text(start: bytes) -> bool:
    text = start[: start.rfind(b"\n") + 1 or len(start)].decode("utf-8", "replace")
    return all(mark.isprintable() or mark.isspace() for mark in text) and "\ufffd" not in text


def _wrong_kind(kind: Kind, name: str) -> str:
    advice = kind.advice
    if kind.ending in _KIND_OF_PACKING.values():
        new = name if formats.suffix_of(name) else f"{name}.csv"
        advice = f"Rename it to {shown(new)}{kind.ending}."
    elif kind.ending:
        advice = f"Rename it to {shown(_renamed(name, kind.ending))}."
    return f"is {shown(kind.what)}, not what its name says. {advice}"


def _renamed(name: str, ending: str) -> str:
    suffix = formats.suffix_of(name) or Path(name).suffix
    return f"{name.removesuffix(suffix)}{ending}"


def _unpacked(root: Path, stat: FileStat, packing: Packing) -> bytes:
    with (
        verified.open_verified(root, stat) as stream,
        unpacking.unpacked(stream, packing, stat, Stop(), None) as text,
    ):
        return b"".join(chunks_of(cast("IO[bytes]", text), _SAMPLE_BYTES))


def _of_sheet(source: Source, root: Path, stat: FileStat, dialect: Dialect) -> str | None:
    form = replace(workbooks.reading_of(source, dialect), skip_lines=0, footer_lines=0, row_count=_LINES)
    with workbooks.opened(root, stat, form, Stop()) as stream:
        data = b"".join(chunks_of(stream, _SAMPLE_BYTES))
    return _told(source, dialect, "utf-8", data.decode("utf-8", "replace"), root, stat)


def _of_text(source: Source, dialect: Dialect, data: bytes, root: Path, stat: FileStat) -> str | None:
    encoding = _encoding(dialect, data)
    text = data.decode(encoding, "replace").removeprefix("\ufeff")
    if "\r" in text and "\n" not in text:
        return "ends its lines with CR alone, as old programs for the Mac do. Convert it: tr '\\r' '\\n'"
    return _told(source, dialect, encoding, text, root, stat) or _no_header(source, dialect, text)


def _encoding(dialect: Dialect, data: bytes) -> str:
    """The declared encoding if the bytes may be of it, else the one that they look like."""
    found = detect_in(data)
    if dialect.encoding == "utf-8" or found.name.startswith("utf-16"):
        return dialect.encoding if found.name == "utf-8" else found.name
    with contextlib.suppress(UnicodeDecodeError):
        # The last character of a sample may be cut.
        data[: data.rfind(b"\n") + 1].decode(dialect.encoding)
        return dialect.encoding
    return found.name


@dataclass(frozen=True)
class _Fit:
    """A structure, the header under it, and how many columns it lacks."""

    delimiter: str
    skip_lines: int
    header: tuple[str, ...]
    missing_count: int


def _told(source: Source, dialect: Dialect, encoding: str, text: str, root: Path, stat: FileStat) -> str | None:
    is_sheet = formats.format_of(stat.name) is Format.SHEET
    lines = list(io.StringIO(text, newline=None))[:_LINES]
    fits = list(_fits(source, dialect, lines, is_sheet=is_sheet))
    if not fits:
        return None
    as_declared = (dialect.separator, dialect.skip_lines)
    declared = next((fit for fit in fits if (fit.delimiter, fit.skip_lines) == as_declared), None)
    # The declared structure first, then the earliest line.
    best = min(fits, key=lambda fit: (fit.missing_count, fit is not declared, fit.skip_lines))
    needed = len(source.required)
    if best.missing_count * 2 > needed:
        return _quoted_lines(source, dialect, lines)
    changes: dict[str, object] = {}
    said = []
    if encoding != dialect.encoding:
        changes["encoding"] = encoding
        said.append(f"{'is' if encoding.startswith('utf') else 'looks like'} {encoding} text")
    if best.delimiter != dialect.separator:
        changes["delimiter"] = best.delimiter
        said.append(f"is separated by {_NAMES.get(best.delimiter, repr(best.delimiter))}")
    if best.skip_lines != dialect.skip_lines:
        changes["skip_lines"] = best.skip_lines
        said.append(f"has its header {'in row' if is_sheet else 'on line'} {best.skip_lines + 1}")
    if not changes:
        return None
    expected = f"{dialect.encoding} text separated by {_NAMES.get(dialect.separator, repr(dialect.separator))}"
    if "skip_lines" in changes:
        expected = f"{'' if is_sheet else f'{expected}, '}the header {'in row' if is_sheet else 'on line'} " + str(
            dialect.skip_lines + 1
        )
    line = f"{' and '.join(said)}; expected {expected}. {_written(source, dialect, changes, root, stat)}"
    if best.missing_count:
        missing = ", ".join(" or ".join(headers) for headers, _ in missing_columns(source, best.header))
        line += f" It lacks the columns {missing} then; its header has: {shown(', '.join(best.header)[:500])}."
    return line


def _fits(source: Source, dialect: Dialect, lines: Sequence[str], *, is_sheet: bool) -> Iterator[_Fit]:
    for number, line in enumerate(lines):
        for delimiter in (",",) if is_sheet else dict.fromkeys((dialect.separator, *_DELIMITERS)):
            if delimiter == dialect.quote or delimiter not in line:
                continue
            marked = dialect.model_copy(update={"delimiter": delimiter})
            try:
                header = tuple(cells_of(line.rstrip("\r\n"), marked))
            except (ValueError, StopIteration):
                continue
            missing = missing_columns(source, header)
            yield _Fit(delimiter, number, header, len(missing))


def _no_header(source: Source, dialect: Dialect, text: str) -> str | None:
    """Whether the first line is a record: as many cells as columns, and some of them are no names. It is not shown."""
    cells = cells_of(text.split("\n", 1)[0].rstrip("\r"), dialect)
    is_width = len(cells) in (len(source.required), len(source.columns) + len(source.key_headers))
    if is_width and len(missing_columns(source, cells)) == len(cells) and any(map(_NO_NAME.search, cells)):
        names = dialect.separator.join([*source.key_headers, *(column.headers[0] for column in source.columns)])
        return f"seems to have no header: its first line is a record. Export it with one, such as {shown(names)}"
    return None


def _quoted_lines(source: Source, dialect: Dialect, lines: Sequence[str]) -> str | None:
    """Whether each line as a whole is in quotes, so that it is one cell."""
    for line in lines[dialect.skip_lines : dialect.skip_lines + 1]:
        cells = cells_of(line.rstrip("\r\n"), dialect)
        if len(cells) == 1 and line.startswith(dialect.quote):
            inner = cells_of(cells[0], dialect)
            if len(missing_columns(source, inner)) * 2 <= len(source.required):
                return (
                    "has each line as a whole in quotes, so that it is one cell. Export it without, or take them "
                    "away: sed -e 's/^\"//' -e 's/\"\\r*$//' -e 's/\"\"/\"/g'"
                )
    return None


def _written(source: Source, dialect: Dialect, changes: dict[str, object], root: Path, stat: FileStat) -> str:
    """The line of the contract: for all files of the source, or for this one if another one is as declared."""
    line = yaml_line(dialect, changes)
    if _is_exception(source, root, stat):
        line = f"csv_by_file: [{yaml_words({'files': glob.escape(stat.name)} | changes)}]"
    return f"Write for {source.name} in etl_assets.yaml: {shown(line)}"


def _is_exception(source: Source, root: Path, stat: FileStat) -> bool:
    """Whether another file of the source has its header as it is declared."""
    for path in find_files(source, root)[:_SIBLINGS]:
        other = stat_files([path], root)[0]
        if other.name == stat.name or formats.format_of(other.name) is not Format.TEXT:
            continue
        packing, dialect = formats.packing_of(other.name), formats.dialect_of(source.dialect_of(other.name), other.name)
        with contextlib.suppress(EtlError, ValueError, StopIteration):
            text = _start(root, other, packing).decode(dialect.encoding, "replace").removeprefix("\ufeff")
            header = list(io.StringIO(text, newline=None))[dialect.skip_lines]
            if not missing_columns(source, cells_of(header.rstrip("\r\n"), dialect)):
                return True
    return False


def _start(root: Path, stat: FileStat, packing: Packing | None) -> bytes:
    if packing:
        return _unpacked(root, stat, packing)
    with verified.open_verified(root, stat) as stream:
        return b"".join(chunks_of(stream, _SAMPLE_BYTES))


def yaml_line(declared: Dialect, changes: dict[str, object]) -> str:
    """The word `csv` with what is declared already and these changes, as a line of the contract."""
    words = {name: value for name, value in declared.model_dump(exclude_unset=True).items() if name != "files"}
    return f"csv: {yaml_words(words | changes)}"


def yaml_words(words: Mapping[str, object]) -> str:
    """Words of a dialect as a mapping on one line."""
    written = ", ".join(f"{name}: {_yaml(value)}" for name, value in words.items() if value is not None)
    return f"{{{written}}}"


def _yaml(value: object) -> str:
    """A value as YAML; JSON is YAML too, and names of encodings need no quotes."""
    is_word = isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum() and not value.isdigit()
    if is_word and str(value).lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n"):
        return str(value)
    return json.dumps(value, ensure_ascii=False)
