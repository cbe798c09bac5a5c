"""The header of a file and how its text is structured: encoding, delimiter, quote, lines before and after the records.

DuckDB's sniffer finds the structure of the decoded text. Where what it says does not fit the records, the delimiter
under which most records have as many cells as the header is taken.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.reading import formats, objects
from etl_assets.engine.reading.encodings import Encoding, Opened, chunks_of, detect
from etl_assets.engine.reading.exports import Export, unopened
from etl_assets.engine.reading.verified import stat_files
from etl_assets.engine.sql_text import pattern_literal
from etl_assets.project.dialect import Dialect

# What a packed file may unpack to in a draft.
MAX_UNPACKED_BYTES = 16 << 30
_SAMPLE_BYTES = 1 << 20
_DELIMITERS = (",", ";", "\t", "|")
_PLAIN = Dialect()
_NOTHING = "(empty)"
# Records that must have as many cells as the header says.
_SOUND_SHARE = 0.8
_MAX_FOOTER_LINES = 10
_LINES_COUNTED = 50


@dataclass(frozen=True)
class Sniffed:
    """A file's header, the words of its dialect that are not the default ones, and what in them is a guess."""

    header: tuple[str, ...]
    words: Mapping[str, object] = field(default_factory=dict)
    guesses: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Structure:
    delimiter: str
    quote: str = '"'
    escape: str = '"'
    skip_lines: int = 0
    comment: str = ""


def sniff(path: Path, scratch: Path) -> Sniffed | None:
    """What the bytes of a file say; None when it has no header with at least two columns.

    `scratch` is a folder for a sample of the text. duckdb.Error when a Parquet file cannot be read, InputError when a
    packed one cannot be unpacked.
    """
    export = unopened(path.parent, stat_files([path], path.parent)[0])
    if export.is_parquet:
        return _sniff_parquet(path)
    if export.is_objects:
        return _sniff_objects(export)
    if export.is_sheet:
        return _sniff_sheet(export)
    opened = partial(export.open, MAX_UNPACKED_BYTES)
    encoding = detect(opened)
    text, is_whole = _sample(opened, encoding.name)
    by_sniffer = _by_sniffer(text, scratch)
    structures = [*([by_sniffer] if by_sniffer else []), *(_by_widths(text, delimiter) for delimiter in _DELIMITERS)]
    judged = [(_sound_share(text, one), one) for one in structures]
    if by_sniffer is None or judged[0][0] < _SOUND_SHARE:
        judged.sort(key=lambda pair: -pair[0])
    share, structure = judged[0]
    return _described(text, structure, encoding, export, is_whole=is_whole) if share else None


def _sniff_parquet(path: Path) -> Sniffed | None:
    with duck.reader(path.parent) as connection:
        rows = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({pattern_literal(path)})").fetchall()
    return Sniffed(tuple(row[0] for row in rows)) if len(rows) > 1 else None


def _sniff_objects(export: Export) -> Sniffed | None:
    """The fields of the first records that hold values; those of objects in them by their path."""
    with export.open(MAX_UNPACKED_BYTES) as stream:
        fields = objects.fields_with_values(stream)
    return Sniffed(fields) if len(fields) > 1 else None


def _sniff_sheet(export: Export) -> Sniffed | None:
    """The first row of the first sheet with several cells, and how many rows are before it."""
    with export.open(MAX_UNPACKED_BYTES) as stream:
        text = b"".join(chunks_of(stream, _SAMPLE_BYTES)).decode("utf-8", "replace")
    for number, row in enumerate(_each(csv.reader(io.StringIO(text, newline="")))):
        filled = [place for place, cell in enumerate(row, 1) if cell.strip()]
        if len(filled) > 1:
            guess = (f"skip_lines: {number} rows before the header",) if number else ()
            return Sniffed(tuple(row[: filled[-1]]), {"skip_lines": number} if number else {}, guess)
    return None


def _sample(opened: Opened, encoding: str) -> tuple[str, bool]:
    """The first whole lines of the text, and whether they are all of it."""
    with opened() as stream:
        data = b"".join(chunks_of(stream, _SAMPLE_BYTES))
        is_whole = not stream.read(1)
    text = data.decode(encoding, "replace").removeprefix("\ufeff").replace("\r\n", "\n")
    return (text if is_whole else text[: text.rfind("\n") + 1]), is_whole


def _by_sniffer(text: str, scratch: Path) -> _Structure | None:
    path = scratch / "sample.csv"
    path.write_text(text, encoding="utf-8", newline="")
    with duck.reader(scratch) as connection:
        try:
            row = connection.execute(
                "SELECT Delimiter, Quote, Escape, Comment, SkipRows "
                f"FROM sniff_csv({pattern_literal(path)}, header = true, all_varchar = true)"
            ).fetchone()
        except duckdb.Error:
            return None
    assert row is not None
    delimiter, quote, escape, comment = ("" if row[place] == _NOTHING else str(row[place]) for place in range(4))
    try:
        structure = _Structure(delimiter, quote or '"', "\\" if escape == "\\" else quote or '"', int(row[4]), comment)
        Dialect(delimiter=structure.delimiter, quote=structure.quote, escape=structure.escape, comment=comment)
    except ValueError:
        return None
    return structure


def _by_widths(text: str, delimiter: str) -> _Structure:
    """A structure whose header is the first line with several cells."""
    widths = _widths(text, delimiter)
    return _Structure(delimiter, skip_lines=next((place for place, width in enumerate(widths) if width > 1), 0))


def _widths(text: str, delimiter: str) -> list[int]:
    """The cells of the first lines."""
    lines = text.split("\n", _LINES_COUNTED)[:_LINES_COUNTED]
    return [len(_cells(line, delimiter)) for line in lines]


def _rows(text: str, structure: _Structure) -> list[list[str]]:
    lines = io.StringIO(text, newline="")
    for _ in range(structure.skip_lines):
        lines.readline()
    escape = None if structure.escape == structure.quote else structure.escape
    rows = csv.reader(
        (line for line in lines if not structure.comment or not line.startswith(structure.comment)),
        delimiter=structure.delimiter,
        quotechar=structure.quote,
        escapechar=escape,
        doublequote=escape is None,
    )
    return [row for row in _each(rows) if row]


def _each(rows: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows without those that are damaged, which say nothing of the structure."""
    while True:
        try:
            yield next(rows)
        except csv.Error:
            continue
        except StopIteration:
            return


def _cells(line: str, delimiter: str, quote: str = '"') -> list[str]:
    """The cells of one line; none in a damaged one."""
    return next(_each(csv.reader([line], delimiter=delimiter, quotechar=quote)), [])


def _sound_share(text: str, structure: _Structure) -> float:
    """The share of the records with as many cells as the header, which has at least two; 0 where it is no header."""
    header, *rows = _rows(text, structure) or [[]]
    if len(header) < 2 or not any(cell.strip() for cell in header):
        return 0.0
    skipped = _widths(text, structure.delimiter)[: structure.skip_lines]
    if skipped and skipped[0] >= len(header):
        # Not lines before the header but a header that does not fit: the first record would name the columns.
        return 0.0
    if not rows:
        return 1.0
    widths = Counter(len(row) for row in rows)
    return max(widths[len(header)], widths[len(header) + 1] * _ends_in_nothing(rows, len(header))) / len(rows)


def _ends_in_nothing(rows: Sequence[Sequence[str]], width: int) -> bool:
    return all(not row[width].strip() for row in rows if len(row) == width + 1)


def _described(text: str, structure: _Structure, encoding: Encoding, export: Export, *, is_whole: bool) -> Sniffed:
    header, *rows = _rows(text, structure)
    has_surplus = any(len(row) == len(header) + 1 for row in rows) and _ends_in_nothing(rows, len(header))
    # A header that ends in a delimiter too has a last column without a name.
    words = {
        "delimiter": structure.delimiter,
        "quote": structure.quote,
        "escape": structure.escape,
        "encoding": encoding.name,
        "skip_lines": structure.skip_lines,
        "footer_lines": _footer_lines(text, structure, len(header)) if is_whole else 0,
        "comment": structure.comment,
        "surplus_cell": has_surplus and all(len(row) == len(header) + 1 for row in rows),
    }
    guesses = [f"encoding {encoding.name}: {encoding.guess}"] if encoding.guess else []
    if structure.skip_lines:
        guesses.append(f"skip_lines: the first line is {text.splitlines()[0][:40]!r}")
    if words["footer_lines"]:
        guesses.append(f"footer_lines: the last line begins with {text.rstrip().splitlines()[-1][:40]!r}")
    usual = formats.dialect_of(_PLAIN, export.member or export.name)
    usual_words = {**usual.model_dump(), "delimiter": usual.separator}
    kept = {name: value for name, value in words.items() if value != usual_words[name]}
    return Sniffed(tuple(header), kept, tuple(guesses))


def _footer_lines(text: str, structure: _Structure, width: int) -> int:
    """Lines at the end that are no records: of another number of cells, with nothing between quotes."""
    lines = text.rstrip("\n").split("\n")[structure.skip_lines + 1 :]
    count = 0
    for line in reversed(lines):
        cells = _cells(line, structure.delimiter, structure.quote)
        if len(cells) >= min(width, 2) and len(cells) >= width / 2:
            break
        count += 1
    is_footer = 0 < count <= _MAX_FOOTER_LINES and count < len(lines)
    # A value with a line break in it ends in such a line too.
    has_open_quote = any(line.count(structure.quote) % 2 for line in lines[-count:]) if count else False
    return count if is_footer and not has_open_quote else 0
