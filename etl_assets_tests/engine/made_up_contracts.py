"""Contracts and exports that hypothesis makes up, with what must be published of them.

A value is drawn first and then spelled as the contract's dialect says. So what a cell means is known without reading
it, and nothing here can share a mistake with the engine's reading.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import xxhash
from hypothesis import strategies as st

from etl_assets_tests.oracle import json_text

Value = str | int | float | Decimal | bool | date | datetime | None
# How the files of a source are written: the words of `csv`.
Dialect = Mapping[str, Any]
Spell = Callable[[st.DrawFn, Any, Dialect], str]

# Letters that every encoding below has; in a text they are marks of some dialect, too.
_LETTERS = "abzÄé ;,|\t\"'\\/\n#"
_ZONES = {"Z": 0, "+02:00": 120, " +0530": 330, "-05": -300}


class Cell(NamedTuple):
    """A cell: how each dialect writes it, what it means, and whether it breaks the contract, so that it means null."""

    texts: tuple[str, ...]
    value: Value
    is_invalid: bool = False


@dataclass(frozen=True)
class Row:
    """A row: the key's parts as each dialect writes them, the key that they mean (None: none), and its other cells."""

    key_texts: tuple[tuple[str, ...], ...]
    key: str | None
    cells: tuple[Cell, ...]

    @property
    def values(self) -> tuple[Value, ...]:
        return tuple(cell.value for cell in self.cells)


@dataclass(frozen=True)
class MadeUp:
    """A contract as its YAML, the two dialects of each source, and its rows in file order.

    The second file of a source is written in its second dialect, the others in the first one.
    """

    contract: dict[str, Any]
    dialects: Mapping[str, tuple[Dialect, Dialect]]
    rows: Mapping[str, Sequence[Row]] = field(repr=False)

    @property
    def sources(self) -> Mapping[str, Mapping[str, Any]]:
        found: Mapping[str, Mapping[str, Any]] = self.contract["sources"]
        return found


@st.composite
def dialects(draw: st.DrawFn) -> Dialect:
    delimiter, quote = draw(st.sampled_from([(",", '"'), (";", '"'), ("\t", '"'), ("|", "'"), (",", "'")]))
    decimal, thousands = draw(st.sampled_from([(".", ""), (".", ","), (",", "."), (",", " "), (".", "'"), (".", "_")]))
    return {
        "delimiter": delimiter,
        "quote": quote,
        "escape": draw(st.sampled_from([quote, "\\"])),
        "encoding": draw(st.sampled_from(["utf-8", "utf-16", "cp1252", "latin-1"])),
        "skip_lines": draw(st.integers(0, 2)),
        "footer_lines": draw(st.integers(0, 1)),
        "surplus_cell": draw(st.booleans()),
        "decimal": decimal,
        "thousands": thousands,
        "dates": draw(st.sampled_from([[], ["%d.%m.%Y", "%d.%m.%Y %H:%M:%S"]])),
        "nulls": draw(st.sampled_from([None, [], ["N/A", "-"]])),
        "true_words": draw(st.sampled_from([["true"], ["ja", "1"]])),
        "false_words": draw(st.sampled_from([["false"], ["nein", "0"]])),
    }


def _number_text(draw: st.DrawFn, number: int | Decimal, dialect: Dialect) -> str:
    mark = dialect["thousands"] if draw(st.booleans()) else ""
    sign, text = ("-" if number < 0 else draw(st.sampled_from(["", "+"]))), f"{abs(number):,f}"
    return sign + text.translate({ord(","): mark, ord("."): dialect["decimal"]})


def _bool_text(draw: st.DrawFn, value: bool, dialect: Dialect) -> str:
    word: str = draw(st.sampled_from(dialect["true_words" if value else "false_words"]))
    return draw(st.sampled_from([word, word.upper()]))


def _date_text(draw: st.DrawFn, value: date, dialect: Dialect) -> str:
    return value.strftime(draw(st.sampled_from(["%Y-%m-%d", *dialect["dates"][:1]])))


def _timestamp_text(draw: st.DrawFn, value: datetime, dialect: Dialect) -> str:
    """The same moment in some zone; forms without a zone are in UTC."""
    if dialect["dates"] and draw(st.booleans()):
        return value.strftime(dialect["dates"][1])
    zone, minutes = draw(st.sampled_from(list(_ZONES.items())))
    local = value.replace(tzinfo=UTC).astimezone(timezone(timedelta(minutes=minutes)))
    return local.strftime("%Y-%m-%d") + draw(st.sampled_from("T ")) + local.strftime("%H:%M:%S") + zone


# By type: values, how one is spelled, and cells that no dialect above can mean.
_MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(2100, 1, 1)).map(lambda moment: moment.replace(microsecond=0))
TYPES: Mapping[str, tuple[st.SearchStrategy[Any], Spell, Sequence[str]]] = {
    "text": (st.text(_LETTERS, max_size=5).map("x{}x".format), lambda _draw, value, _dialect: str(value), ()),
    "int": (st.integers(-(10**15), 10**15), _number_text, ("1e+3", "12/5", "x", "9" * 30)),
    "float": (st.decimals(-99_999, 99_999, places=3), _number_text, ("inf", "-nan", "1..5", "x")),
    "decimal(12,2)": (
        st.decimals(Decimal(-9_999_999_999), 9_999_999_999, places=2),
        _number_text,
        ("0001.125x", "1e3", "9" * 11),
    ),
    "bool": (st.booleans(), _bool_text, ("maybe", "2")),
    "date": (st.dates(date(1900, 1, 1), date(2100, 1, 1)), _date_text, ("2026-02-30", "05/01/2026", "x")),
    "timestamp": (_MOMENTS, _timestamp_text, ("2026-02-30T00:00:00Z", "12:30", "x")),
}


def null_words(dialect: Dialect) -> Sequence[str]:
    """The words that are null in this dialect: those that it declares, else some of the default ones."""
    declared = dialect["nulls"]
    return ["NULL", "n/a", " None "] if declared is None else declared


@st.composite
def cells(draw: st.DrawFn, kind: str, ways: Sequence[Dialect]) -> Cell:
    values, spell, invalid = TYPES[kind]
    choice = draw(st.integers(0, 9))
    if choice == 0:
        return Cell(tuple(draw(st.sampled_from(["", " ", *null_words(dialect)])) for dialect in ways), None)
    if choice == 1 and invalid:
        return Cell((draw(st.sampled_from(invalid)),) * len(ways), None, is_invalid=True)
    value = draw(values)
    texts = [spell(draw, value, dialect) for dialect in ways]
    if kind == "float":
        value = float(value) or 0.0
    elif kind == "decimal(12,2)":
        value = value + 0  # minus zero is zero
    elif kind != "text" and draw(st.booleans()):
        texts = [f" {text} " for text in texts]
    return Cell(tuple(texts), value)


@st.composite
def keys(
    draw: st.DrawFn, key: Mapping[str, Any], part_count: int, ways: Sequence[Dialect]
) -> tuple[tuple[tuple[str, ...], ...], str | None]:
    """The parts of a key as each dialect writes them, and the key that they mean."""
    if draw(st.integers(0, 11)) == 0:
        place = draw(st.integers(0, part_count - 1))
        empty = [draw(st.sampled_from(["", "  ", *null_words(dialect)])) for dialect in ways]
        return tuple(tuple(text if number == place else "A" for number in range(part_count)) for text in empty), None
    parts = [draw(st.sampled_from(["A", "a", "Äb", "007", "x/y", "back\\slash"])) for _ in range(part_count)]
    blanks = ["", " ", "\t"] + (["\u00a0"] if key["strip"] == "unicode" else [])
    texts = tuple(f"{draw(st.sampled_from(blanks))}{part}{draw(st.sampled_from(blanks))}" for part in parts)
    if part_count > 1:
        parts = [part.replace("\\", "\\\\").replace("/", "\\/") for part in parts]
    found = "/".join(parts)
    return (texts,) * len(ways), found.lower() if key["case"] == "lower" else found


@st.composite
def made_up(draw: st.DrawFn) -> MadeUp:
    """A contract with one to three sources, and a few rows of each."""
    key = {
        "name": "the_key",
        "case": draw(st.sampled_from(["keep", "lower"])),
        "strip": draw(st.sampled_from(["ascii", "unicode"])),
    }
    part_count = draw(st.integers(1, 2))
    sources: dict[str, Any] = {}
    ways: dict[str, tuple[Dialect, Dialect]] = {}
    rows: dict[str, list[Row]] = {}
    for name in [f"s{number}" for number in range(draw(st.integers(1, 3)))]:
        pair = ways[name] = (draw(dialects()), draw(dialects()))
        kinds = ["int", *draw(st.lists(st.sampled_from(list(TYPES)), min_size=1, max_size=4))]
        columns = {f"c{number}": {"type": kind, "from": f"Column {number} (é)"} for number, kind in enumerate(kinds)}
        source: dict[str, Any] = {"key": [f"Key {part}" for part in range(part_count)], "columns": columns}
        source["csv"] = pair[0]
        source["csv_by_file"] = [{"files": f"{name}/part-1.csv", **pair[1]}]
        if draw(st.booleans()):
            source["rows"] = "many"
        if draw(st.booleans()):
            source["latest_by"] = "c0"
        if "rows" in source and (draw(st.booleans()) or "latest_by" in source):
            source["row_key"] = "c1"
        sources[name] = source
        one_row = st.builds(
            lambda key_of, *found: Row(key_of[0], key_of[1], tuple(found)),
            keys(key, part_count, pair),
            *(cells(kind, pair) for kind in kinds),
        )
        rows[name] = draw(st.lists(one_row, max_size=8))
    contract = {"name": "made_up", "entity": "things", "key": key, "sources": sources}
    return MadeUp(contract, ways, rows)


def write(made: MadeUp, folder: Path, file_count: int) -> Path:
    """Write each source's rows in their order, spread over a number of files, two at least."""
    for name, source in made.sources.items():
        header = [*source["key"], *(column["from"] for column in source["columns"].values())]
        rows = made.rows[name]
        for number in range(file_count):
            start, end = (len(rows) * edge // file_count for edge in (number, number + 1))
            way = int(number == 1)
            dialect = made.dialects[name][way]
            lines = [[*row.key_texts[way], *(cell.texts[way] for cell in row.cells)] for row in rows[start:end]]
            path = folder / name / f"part-{number}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_file_text([header, *lines], dialect).encode(dialect["encoding"]))
    return folder


def _file_text(lines: Sequence[Sequence[str]], dialect: Dialect) -> str:
    stream = io.StringIO()
    doubled = dialect["escape"] == dialect["quote"]
    writer = csv.writer(
        stream,
        delimiter=dialect["delimiter"],
        quotechar=dialect["quote"],
        doublequote=doubled,
        escapechar=None if doubled else dialect["escape"],
        quoting=csv.QUOTE_ALL,
        lineterminator="\n",
    )
    for number, line in enumerate(lines):
        writer.writerow([*line, ""] if dialect["surplus_cell"] and number else line)
    before: str = "".join(f"report line {number}\n" for number in range(dialect["skip_lines"]))
    after: str = "total\n" * dialect["footer_lines"]
    return before + stream.getvalue() + after


def kept_rows(made: MadeUp, name: str) -> tuple[dict[str, list[Row]], dict[str, int], set[str]]:
    """The rows of a source that count, by key; the reasons of the others, counted; keys of which one was rejected."""
    source = made.sources[name]
    named, rejected = "row_key" in source, set[str]()
    reasons = {"missing_the_key": 0, "missing:c1": 0, "invalid:c1": 0, "superseded": 0}
    groups: dict[Any, list[tuple[Any, int, Row]]] = {}
    for number, row in enumerate(made.rows[name]):
        if row.key is None:
            reasons["missing_the_key"] += 1
            continue
        record = row.cells[1]
        if named and record.value is None:
            reasons["invalid:c1" if record.is_invalid else "missing:c1"] += 1
            rejected.add(row.key)
            continue
        # Nulls come first.
        order = row.cells[0].value
        latest = (order is not None, order or 0) if "latest_by" in source else ()
        group = record.value if named else number if source.get("rows") == "many" else row.key
        groups.setdefault(group, []).append((latest, number, row))
    found: dict[str, list[Row]] = {}
    for group_rows in groups.values():
        last = max(group_rows, key=lambda entry: entry[:2])[2]
        # A row whose order is unreadable may have been the last one.
        doubtful = "latest_by" in source
        rejected |= {str(row.key) for *_, row in group_rows if doubtful and row is not last and row.cells[0].is_invalid}
        reasons["superseded"] += len(group_rows) - 1
        assert last.key is not None
        found.setdefault(last.key, []).append(last)
    return found, {reason: count for reason, count in reasons.items() if count}, rejected


def expected_profiles(made: MadeUp) -> dict[str, dict[str, Any]]:
    """What must be published: by key, the sources, the issues, the idempotency key and each source's values."""
    kept = {name: kept_rows(made, name) for name in made.sources}
    profiles = {}
    for key in sorted({key for rows, _, _ in kept.values() for key in rows}):
        parts: list[str | None] = ["v1"]
        found: dict[str, Any] = {"the_key": key, "sources": [], "issues": []}
        for name, source in made.sources.items():
            rows, _, rejected = kept[name]
            records = rows.get(key, [])
            parts.append(name if records else None)
            if records:
                found["sources"].append(name)
            bad = {f"{name}.c{place}" for row in records for place, cell in enumerate(row.cells) if cell.is_invalid}
            found["issues"] += sorted(bad) + ([f"{name}: row rejected"] if key in rejected else [])
            if source.get("rows") == "many":
                texts = sorted(_array([value_text(value) for value in row.values]) for row in records)
                parts.append(_array(texts) if records else None)
                found[f"{name}_records"] = texts
                continue
            values = records[0].values if records else (None,) * len(source["columns"])
            parts += [value_text(value) for value in values]
            found |= {f"{name}_c{place}": value for place, value in enumerate(values)}
        found["idempotency_key"] = f"{key}:{xxhash.xxh3_128_hexdigest(_array(parts).encode())}"
        profiles[key] = found
    return profiles


def profiles_sql(made: MadeUp) -> str:
    """A query that shows every value of every source."""
    shown = ["base.the_key", "base.sources", "base.issues", "base.shard_id", "base.idempotency_key"]
    joins = []
    for name, source in made.sources.items():
        if source.get("rows") == "many":
            cells_of = ", ".join(f"{column}::VARCHAR" for column in source["columns"])
            joins.append(
                f"LEFT JOIN (SELECT the_key, list_sort(list(to_json([{cells_of}])::VARCHAR)) AS records FROM {name} "
                f"GROUP BY the_key) AS of_{name} ON of_{name}.the_key = base.the_key"
            )
            shown.append(f"coalesce(of_{name}.records, []) AS {name}_records")
        else:
            shown += [f"{name}.{column} AS {name}_{column}" for column in source["columns"]]
    return f"SELECT {', '.join(shown)} FROM things {' '.join(joins)}"


def value_text(value: Value) -> str | None:
    """A value's text in the encoding of the idempotency key."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case datetime():
            return value.isoformat(" ")
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case _:
            return repr(value)


def _array(parts: Sequence[str | None]) -> str:
    return "[" + ",".join("null" if part is None else json_text(part) for part in parts) + "]"
