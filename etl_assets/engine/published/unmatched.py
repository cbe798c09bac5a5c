"""What a key map did for the rows of its source: the ids for which it has no key, or several. Shows no personal ids."""

from collections.abc import Iterator
from dataclasses import dataclass

from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.reading.rules import ambiguous_key
from etl_assets.errors import shown
from etl_assets.project.contract import Source

_FILES_SHOWN = 3
_CHARS_SHOWN = 60


@dataclass(frozen=True)
class Unmatched:
    """Rejected rows whose ids the map lacks, or gives several keys; `examples` are a few ids, none of personal ones."""

    reason: str
    is_ambiguous: bool
    row_count: int
    id_count: int
    examples: tuple[str, ...]


@dataclass(frozen=True)
class KeyMapFacts:
    """A key map as it was read with a snapshot: its files, its rows, those that were ignored, and its ids."""

    files: tuple[str, ...]
    rows_in: int
    rows_ignored: int
    id_count: int
    unmatched: tuple[Unmatched, ...]


def key_map_facts(source: Source, snapshot: Snapshot) -> KeyMapFacts | None:
    """What is known of the key map; None without one."""
    figures = snapshot.key_map
    if figures is None:
        return None
    unmatched = tuple(
        Unmatched(
            reason,
            reason == ambiguous_key(source.key),
            snapshot.reasons.get(reason, 0),
            ids.id_count,
            () if source.has_personal_ids else tuple(_short(example) for example in ids.examples),
        )
        for reason, ids in sorted(figures.unmatched.items(), reverse=True)
    )
    return KeyMapFacts(figures.files, figures.rows_in, figures.rows_ignored, figures.id_count, unmatched)


def unmatched_texts(source: str, facts: KeyMapFacts | None) -> Iterator[str]:
    """A sentence without its point for each thing that a person may have to change in the map of a source.

    Ignored rows of the map are reported only if ids are missing: not every account is in every system.
    """
    if facts is None or not facts.unmatched:
        return
    more = " and others" if len(facts.files) > _FILES_SHOWN else ""
    files = f"{', '.join(map(shown, facts.files[:_FILES_SHOWN]))}{more}"
    name = f"The key_map of {source} ({files}; {_counted(facts.id_count, 'id')})"
    for one in facts.unmatched:
        verb = "gives several keys to" if one.is_ambiguous else "lacks"
        examples = f", such as {', '.join(one.examples)}" if one.examples else ""
        yield f"{name} {verb} {_counted(one.id_count, 'id')} of {_counted(one.row_count, 'row')}{examples}"
    if facts.rows_ignored:
        yield (
            f"{name}: {facts.rows_ignored:,} of {_counted(facts.rows_in, 'row')} ignored, without an id, without "
            "a key or malformed"
        )


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _short(text: str) -> str:
    return shown(text if len(text) <= _CHARS_SHOWN else f"{text[:_CHARS_SHOWN]}…")
