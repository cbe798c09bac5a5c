"""A draft: everything that is to be declared, made from the files, with the guesses that a person should look at."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import duckdb

from etl_assets.drafting.grouping import group_files, is_readable, list_files
from etl_assets.drafting.linking import Keys, Node, Overlap, find_keys
from etl_assets.drafting.naming import free_name, snake_case
from etl_assets.drafting.observing import MORE_THAN_ONCE, Observed, Table, observe
from etl_assets.drafting.sniffing import Sniffed, sniff
from etl_assets.engine import duck
from etl_assets.engine.reading.formats import LISTED, partition_of
from etl_assets.engine.reading.forms import MACROS
from etl_assets.engine.sql_text import identifier
from etl_assets.errors import Action, Advice, InputError

_ENTITIES = ("customers", "people", "entities", "subjects")
# A source in which fewer of the keys have several rows has one row a key, and some twice by mistake.
_MANY_SHARE = 0.05
_MAX_REJECT_RATIO = 0.05
_LATEST = ("updated", "modified", "changed", "last", "date", "created")
_TIMES = ("date", "timestamp")
_NO_TABLE = "it has no header of at least two columns that fits its rows"
# What must be alike in all files of a source.
_OF_ONE_KIND = ("delimiter", "quote", "escape", "skip_lines", "comment", "surplus_cell")


@dataclass(frozen=True)
class SourceDraft:
    """A source as it is to be declared; `columns` are those besides the key."""

    table: Table
    key_header: str
    key_count: int
    keyless_count: int
    columns: tuple[Observed, ...]
    has_many: bool = False
    row_key: str = ""
    latest_by: str = ""
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The source's name."""
        return self.table.group.name

    @property
    def reject_ratio(self) -> float:
        """The share of its rows that will go to quarantine."""
        table = self.table
        return (self.keyless_count + table.damaged_count) / table.row_count if table.row_count else 0.0


@dataclass(frozen=True)
class Draft:
    """A project to be written; `left_out` are files and sources that it does not read, each with the reason."""

    key_name: str
    entity: str
    keys: Keys
    sources: tuple[SourceDraft, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """How the sources' keys overlap."""
        return self.keys.overlaps

    @property
    def max_reject_ratio(self) -> float | None:
        """The setting that lets the exports pass as they are; None where the default does."""
        worst = max((source.reject_ratio for source in self.sources), default=0.0)
        return None if worst <= _MAX_REJECT_RATIO else min(1.0, int(worst * 100 + 2) / 100)


def draft_project(root: Path, scratch: Path, limits: duck.Limits) -> Draft:
    """Draft a project from the exports in `root`; `scratch` is an empty folder for copies.

    InputError when the folder holds no file that can be read as a table.
    """
    sniffed, left_out = _sniff_all(root, scratch)
    headers = {path: one.header for path, one in sniffed.items()}
    kinds = {path: str([one.words.get(word) for word in _OF_ONE_KIND]) for path, one in sniffed.items()}
    groups = group_files(root, headers, kinds)
    with _connected(limits, scratch, root) as connection:
        tables, number = [], 0
        for group in groups:
            tables.append(observe(connection, group, _common(group.files, sniffed), root, scratch, number))
            number += len(group.files)
        keys = find_keys(connection, tables)
        left_out |= {
            table.group.name: _why_left_out(table, keys) for table in tables if table.group.name not in keys.chosen
        }
        key_name = _key_name(keys)
        sources = [_source(connection, node, key_name) for node in _in_order(tables, keys)]
    names = {source.name for source in sources}
    entity = next(name for name in (*_ENTITIES, "merged_entities") if name not in names)
    return Draft(key_name, entity, keys, tuple(sources), left_out)


@contextlib.contextmanager
def _connected(limits: duck.Limits, scratch: Path, root: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duck.workbench(limits, scratch, folders=[root], keep_order=False) as connection:
        duck.add_macros(connection, MACROS)
        yield connection


def _sniff_all(root: Path, scratch: Path) -> tuple[dict[Path, Sniffed], dict[str, str]]:
    """What each file's bytes say, and why the others are not read."""
    if not root.is_dir():
        raise InputError(f"The folder of the exports, {root}, does not exist.", subject=str(root))
    found: dict[Path, Sniffed] = {}
    left_out = {}
    for path in list_files(root):
        name = path.relative_to(root).as_posix()
        if not is_readable(path):
            left_out[name] = f"its format is not read; expected {LISTED}"
            continue
        try:
            sniffed = sniff(path, scratch) if path.stat().st_size else None
        except (duckdb.Error, OSError, InputError) as error:
            left_out[name] = f"it cannot be read ({str(error).splitlines()[0]})"
            continue
        if sniffed is None:
            left_out[name] = _NO_TABLE if path.stat().st_size else "it is empty"
        else:
            written = {header.strip().lower() for header in sniffed.header}
            partition = (column for column in partition_of(name) if column.strip().lower() not in written)
            found[path] = replace(sniffed, header=(*sniffed.header, *partition))
    if not found:
        listed = "; ".join(f"{name}: {reason}" for name, reason in left_out.items()) or "it holds no file"
        raise InputError(
            f"Nothing in {root} can be read as a table ({listed[:500]}).",
            Advice(Action.EXPORT_AGAIN),
            subject=str(root),
        )
    return found, left_out


def _common(files: Sequence[Path], sniffed: Mapping[Path, Sniffed]) -> Sniffed:
    """What holds for all files of a group: the columns that all have, an encoding that reads each."""
    first = sniffed[files[0]]
    others = [{header.strip().lower() for header in sniffed[path].header} for path in files[1:]]
    header = tuple(one for one in first.header if all(one.strip().lower() in names for names in others))
    encoded = [sniffed[path] for path in files if "encoding" in sniffed[path].words]
    words = {**first.words, **({"encoding": encoded[0].words["encoding"]} if encoded else {})}
    missing = [one for one in first.header if one not in header and one.strip()]
    notes = [f"left out: {one}, which not every file has" for one in missing]
    guesses = dict.fromkeys(guess for path in files for guess in sniffed[path].guesses)
    return replace(first, header=header, words=words, guesses=(*guesses, *notes))


def _in_order(tables: Sequence[Table], keys: Keys) -> list[Node]:
    """The sources with one row a key first: their columns lead in a profile."""
    nodes = [keys.chosen[table.group.name] for table in tables if table.group.name in keys.chosen]
    return sorted(nodes, key=lambda node: (node is not keys.hub, not node.is_nearly_unique))


def _key_name(keys: Keys) -> str:
    column = keys.hub.column
    if column.is_email:
        return "email"
    name = snake_case(column.header, "customer_id")
    is_bare = name in ("id", "key", "number", "no", "code", "name", "sources", "issues", "shard_id", "idempotency_key")
    return f"{keys.hub.source.removesuffix('s')}_{name}"[:60] if is_bare else name


def _source(connection: duckdb.DuckDBPyConnection, node: Node, key_name: str) -> SourceDraft:
    table, key = node.table, identifier(node.column.name)
    row = connection.execute(
        f"SELECT count({key}), count(DISTINCT {key}), "
        f"(SELECT count(*) FROM (SELECT 1 FROM {identifier(table.name)} WHERE {key} <> '' GROUP BY lower({key}) "
        f"HAVING count(*) > 1)) FROM {identifier(table.name)}"
    ).fetchone()
    assert row is not None
    with_key, key_count, repeated = row
    columns = _columns(node, key_name)
    # A row without its own key would be rejected: what names rows is in every one of them.
    filled = table.row_count - table.damaged_count
    labels = [one for one in columns if one.is_unique and one.is_label and not one.is_email and one.filled == filled]
    has_many = repeated > 0 and (repeated > _MANY_SHARE * key_count or bool(labels))
    unkeyed = table.row_count - table.damaged_count - with_key
    source = SourceDraft(table, node.column.header, key_count, unkeyed, columns, has_many, notes=table.notes)
    if has_many:
        return replace(source, row_key=labels[0].name if labels else "")
    if not repeated:
        return source
    latest = _latest_by(columns)
    chosen = f"latest_by: {latest}" if latest else "the last row in the order of the files counts"
    note = f"rows: one, as only {repeated:,} of {key_count:,} keys have several rows; {chosen}"
    return replace(source, latest_by=latest, notes=(*source.notes, note))


def _columns(node: Node, key_name: str) -> tuple[Observed, ...]:
    """The columns besides the key; none has the key's name."""
    others = [one for one in node.table.columns if one is not node.column]
    taken = {key_name, *(one.name for one in others)}
    return tuple(
        replace(one, name=free_name(f"{node.source}_{one.name}"[:60], taken)) if one.name == key_name else one
        for one in others
    )


def _latest_by(columns: Sequence[Observed]) -> str:
    moments = [one.name for one in columns if one.type in _TIMES]
    ranked = [name for word in _LATEST for name in moments if word in name]
    return next(iter([*ranked, *moments]), "")


def _why_left_out(table: Table, keys: Keys) -> str:
    of_it = [one for one in keys.others if table.group.name in (one.one.source, one.other.source)]
    near = f"; the nearest: {of_it[0]}" if of_it else ""
    # The key may be among the columns that cannot be read.
    doubled = "".join(f"; {note}" for note in table.notes if note.endswith(MORE_THAN_ONCE))
    return f"no column of it has values of {keys.hub}{near}{doubled}"
