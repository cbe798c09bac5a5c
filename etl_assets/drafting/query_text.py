"""A draft's `sql/profiles.sql`: all columns; of sources with many rows a key their counts, sums and last days."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from etl_assets.drafting.draft import Draft, SourceDraft
from etl_assets.drafting.naming import free_name, snake_case
from etl_assets.drafting.observing import Observed
from etl_assets.engine import duck
from etl_assets.engine.sql_text import literal
from etl_assets.project.contract import IDEMPOTENCY_COLUMN, ISSUES_COLUMN, SHARD_COLUMN, SOURCES_COLUMN

_BASE_AFTER = (SOURCES_COLUMN, ISSUES_COLUMN, SHARD_COLUMN, IDEMPOTENCY_COLUMN)
# Numbers of which the sum says nothing.
_MEANS = re.compile(r"rating|score|percent|pct|rate|ratio|satisfaction|nps|csat|age|price|latitude|longitude|duration")
_STATES = re.compile(r"status|state|stage|type|priority|kind|plan|channel")
_EMAIL = "email"


@dataclass(frozen=True)
class _Shown:
    """A column of a source in the profile: what it is called there."""

    source: SourceDraft
    column: Observed
    name: str


def profiles_text(draft: Draft) -> str:
    """The whole file: one SELECT, with a common table expression for each source with many rows a key."""
    many = [source for source in draft.sources if source.has_many]
    key = _name(draft.key_name)
    selected = [f"base.{key}", *_email_lines(draft), *(_single(shown) for shown in _shown(draft))]
    joins = []
    for source in many:
        relation = _name(f"{source.name}_of_key")
        selected += [f"coalesce({relation}.row_count, 0) AS {_name(_free(draft, f'{source.name}_count'))}"]
        selected += [f"{relation}.{_name(name)}" for name, _ in _aggregates(draft, source)]
        joins.append(f"LEFT JOIN {relation} ON {relation}.{key} = base.{key}")
    selected += [f"base.{name}" for name in _BASE_AFTER]
    head = [
        "-- The profile: one row for each key, drafted by `etl-assets init`; change it as you like.",
        f"-- `{draft.entity}` has `base` and a struct for each source with one row a key; each source is a relation.",
        *_names_left_out(many),
    ]
    relations = ",\n".join(_relation(draft, source) for source in many)
    columns = ",\n".join(f"    {one}" for one in selected)
    return "\n".join(
        [
            *head,
            *([f"WITH {relations}"] if many else []),
            f"SELECT\n{columns}",
            f"FROM {_name(draft.entity)}",
            *joins,
            "",
        ]
    )


def renamed_personal(draft: Draft) -> list[str]:
    """The personal columns that have another name in the profile."""
    return [one.name for one in _shown(draft) if one.column.is_personal and one.name != one.column.name]


def _shown(draft: Draft) -> list[_Shown]:
    """The columns of sources with one row a key; with the source's name before them where two have the same."""
    singles = [(source, column) for source in draft.sources if not source.has_many for column in source.columns]
    together = len(_emails(draft)) > 1
    singles = [(source, column) for source, column in singles if not (together and _is_email(column))]
    counts = Counter(column.name for _, column in singles)
    reserved = {draft.key_name, *_BASE_AFTER, *([_EMAIL] if together else [])}
    taken = set(reserved)
    shown = []
    for source, column in singles:
        is_alone = counts[column.name] == 1 and column.name not in reserved
        name = free_name(column.name if is_alone else f"{source.name}_{column.name}"[:60], taken)
        taken.add(name)
        shown.append(_Shown(source, column, name))
    return shown


def _emails(draft: Draft) -> list[tuple[SourceDraft, Observed]]:
    """The addresses beside the key: of each source with one row a key, the first."""
    singles = (source for source in draft.sources if not source.has_many and draft.key_name != _EMAIL)
    firsts = ((source, next(filter(_is_email, source.columns), None)) for source in singles)
    return [(source, column) for source, column in firsts if column is not None]


def _is_email(column: Observed) -> bool:
    return column.is_email and "mail" in column.name


def _email_lines(draft: Draft) -> Iterator[str]:
    found = _emails(draft)
    if len(found) > 1:
        names = ", ".join(f"{_name(source.name)}.{_name(column.name)}" for source, column in found)
        yield f"coalesce({names}) AS {_EMAIL}"


def _single(shown: _Shown) -> str:
    written = f"{_name(shown.source.name)}.{_name(shown.column.name)}"
    return written if shown.name == shown.column.name else f"{written} AS {_name(shown.name)}"


def _relation(draft: Draft, source: SourceDraft) -> str:
    key = _name(draft.key_name)
    lines = [key, "count(*) AS row_count", *(f"{value} AS {_name(name)}" for name, value in _aggregates(draft, source))]
    listed = ",\n".join(f"        {line}" for line in lines)
    select = f"    SELECT\n{listed}\n    FROM {_name(source.name)}\n    GROUP BY {key}"
    return f"{_name(f'{source.name}_of_key')} AS (\n{select}\n)"


def _aggregates(draft: Draft, source: SourceDraft) -> list[tuple[str, str]]:
    """Names and expressions; each gives the same for any order of the rows."""
    found: list[tuple[str, str]] = []
    for column in source.columns:
        for suffix, value in _of_column(column):
            taken = [*(name for name, _ in found), *(one.name for one in _shown(draft)), "row_count"]
            found.append((free_name(f"{source.name}_{suffix}"[:60], taken), value))
    return found


def _of_column(column: Observed) -> Iterator[tuple[str, str]]:
    name = _name(column.name)
    if column.type in ("date", "timestamp"):
        yield f"last_{column.name}", f"max({name})"
    elif column.type == "bool":
        yield f"{column.name}_count", f"count(*) FILTER ({name})"
    elif column.type == "text":
        if _STATES.search(column.name) and len(column.words) > 1:
            for word in column.words:
                yield f"{snake_case(word, 'other')}_count", f"count(*) FILTER ({name} = {literal(word)})"
    elif _MEANS.search(column.name):
        # The order makes the mean of doubles the same for any order of the rows.
        yield f"avg_{column.name}", f"round(avg({name} ORDER BY {name}), 6)"
    elif column.type == "int":
        yield f"{column.name}_sum", f"sum({name})::BIGINT"
    elif column.type == "float":
        yield f"{column.name}_sum", f"sum({name} ORDER BY {name})"
    else:
        yield f"{column.name}_sum", f"sum({name})"


def _free(draft: Draft, name: str) -> str:
    return free_name(name, [one.name for one in _shown(draft)])


def _names_left_out(many: Sequence[SourceDraft]) -> Iterator[str]:
    """The texts of sources with many rows a key, which no sum and no count brings in."""
    for source in many:
        names = [column.name for column in source.columns if not list(_of_column(column))]
        if names:
            yield f"-- Not in it, of {source.name}: {', '.join(names)}."


def _name(name: str) -> str:
    """The name, in quotes where it is a word of SQL."""
    return f'"{name}"' if name in _keywords() else name


def _keywords() -> frozenset[str]:
    if not _KEYWORDS:
        with duck.reader() as connection:
            rows = connection.execute(
                "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
            ).fetchall()
        _KEYWORDS.extend(str(row[0]) for row in rows)
    return frozenset(_KEYWORDS)


_KEYWORDS: list[str] = []
