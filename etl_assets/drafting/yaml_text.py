"""A draft as `etl_assets.yaml`: what was found, and a comment wherever it is a guess."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from etl_assets.drafting.draft import Draft, SourceDraft
from etl_assets.drafting.observing import Observed

SCHEMA_NAME = ".etl_assets.schema.json"
SCHEMA_LINE = f"# yaml-language-server: $schema=./{SCHEMA_NAME}\n"
# Text that YAML takes for nothing but text.
_BARE = re.compile(r"[A-Za-z][A-Za-z0-9_]*( [A-Za-z0-9_]+)*")
_WORDS_OF_YAML = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n", "none"})


def contract_text(draft: Draft, name: str, sources_folder: str) -> str:
    """The whole file; `sources_folder` is the folder of the exports as seen from the project's."""
    return "".join(
        f"{line}\n"
        for line in [
            SCHEMA_LINE.rstrip(),
            "# Drafted from exports by `etl-assets init`. Every `# guess:` deserves a look; all else is what the files",
            "# say. After a change: etl-assets check",
            f"name: {_text(name)}",
            f"entity: {_text(draft.entity)}",
            *_key_lines(draft),
            "",
            "sources:",
            *(line for source in draft.sources for line in _source_lines(source, draft)),
            *(f"# left out: {what}: {_comment(why)}" for what, why in draft.left_out.items()),
            *_profile_lines(draft),
            "",
            *_setting_lines(draft, sources_folder),
        ]
    )


def _key_lines(draft: Draft) -> Iterator[str]:
    hub = draft.keys.hub
    if len(draft.sources) > 1 and not draft.overlaps:
        yield f"# guess: the key, as no values overlap. It is {_comment(str(hub))}."
    elif draft.overlaps:
        yield "# guess: the key, by how its values overlap:"
        yield from (f"#   {_comment(str(overlap))}" for overlap in draft.overlaps)
        if draft.keys.others:
            yield "# Other columns that overlap:"
            yield from (f"#   {_comment(str(overlap))}" for overlap in draft.keys.others)
    folded = ", case: lower" if draft.keys.folds_case else ""
    yield f"key: {{name: {_text(draft.key_name)}{folded}}}"


def _source_lines(source: SourceDraft, draft: Draft) -> Iterator[str]:
    files = source.table.group.patterns
    yield f"  {_text(source.name)}:"
    yield from (f"    # guess: {_comment(note)}" for note in source.notes)
    if source.reject_ratio:
        lost = source.keyless_count + source.table.damaged_count
        yield f"    # {lost:,} of {source.table.row_count:,} rows have no key or are damaged: they go to quarantine."
    yield f"    files: {_list(files)}"
    yield f"    key: {_text(source.key_header)}"
    if source.table.words:
        yield f"    csv: {_mapping(source.table.words)}"
    if source.has_many:
        yield "    rows: many"
        if source.row_key:
            yield f"    row_key: {_text(source.row_key)}"
    if source.latest_by:
        yield f"    latest_by: {_text(source.latest_by)}"
    yield "    columns:"
    width = max(len(_text(column.name)) for column in source.columns) + 1
    yield from (_column_line(column, width) for column in source.columns)


def _column_line(column: Observed, width: int) -> str:
    words: dict[str, object] = {}
    if column.type != "text":
        words["type"] = column.type
    if column.header != column.name:
        words["from"] = column.header
    if column.is_personal:
        words["pii"] = True
    note = f"  # guess: {_comment(column.note)}" if column.note else ""
    return f"      {_text(column.name) + ':':{width}} {_mapping(words)}{note}"


def _profile_lines(draft: Draft) -> Iterator[str]:
    """Personal columns that `profiles.sql` gives another name than their source does."""
    from etl_assets.drafting.query_text import renamed_personal

    names = renamed_personal(draft)
    if names:
        yield ""
        yield "# Personal data under names of sql/profiles.sql."
        yield "profile:"
        yield from (f"  {_text(name)}: {{pii: true}}" for name in names)


def _setting_lines(draft: Draft, sources_folder: str) -> Iterator[str]:
    yield "# Folders count from this file's. Environment variables (ETL_SOURCES, ETL_HOME, ...) come before these."
    yield "settings:"
    yield f"  sources: {_text(sources_folder)}"
    yield "  home: data"
    yield "  dagster_home: .dagster"
    if draft.max_reject_ratio is not None:
        worst = max(draft.sources, key=lambda source: source.reject_ratio)
        yield f"  # guess: that is as it should be; {worst.reject_ratio:.0%} of {worst.name} has no key or is damaged."
        yield f"  max_reject_ratio: {draft.max_reject_ratio:g}"


def _mapping(words: Mapping[str, object]) -> str:
    return f"{{{', '.join(f'{name}: {_value(value)}' for name, value in words.items())}}}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return _text(value)
    return _list(value) if isinstance(value, Sequence) else str(value)


def _list(values: Sequence[object]) -> str:
    return f"[{', '.join(_value(value) for value in values)}]"


def _text(value: str) -> str:
    """Text as YAML reads it back; JSON's quotes are YAML's, too."""
    is_bare = bool(_BARE.fullmatch(value)) and value.lower() not in _WORDS_OF_YAML
    # A type has a comma, which ends an entry unless it is quoted.
    return value if is_bare else json.dumps(value, ensure_ascii=not value.isprintable())


def _comment(text: str) -> str:
    """Text on one line, as it may come from a file."""
    return " ".join("".join(mark if mark.isprintable() else " " for mark in text).split())
