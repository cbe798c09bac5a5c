"""What was noticed about a publication that is no error: one form for the table, the check, `run` and `status`.

Everything that is to be noticed becomes a `Notice`. What reading a source brings to light, `source_notices` says from
the accounting of its snapshot; what the merge sees in the whole is added by `steps.noticing`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.snapshots import SUPERSEDED, Snapshot
from etl_assets.engine.published.tables import PUBLICATION_NOTICES
from etl_assets.errors import shown

# Rows below the header that fit on a sheet of Excel, in its old form and in its present one.
_ROWS_OF_A_SHEET = (65_535, 1_048_575)
# Below this share of a source's rows, superseded ones are only in the counts of the quarantine.
_MIN_SUPERSEDED_RATIO = 0.01


class NoticeKind(StrEnum):
    """What a notice is about."""

    SUPERSEDED = "superseded"
    NO_OVERLAP = "no_overlap"
    NEAR_KEYS = "near_keys"
    ROW_COUNT = "row_count"
    REJECTS = "rejects"
    NULL_SHARE = "null_share"
    VALUE_SHARE = "value_share"
    FIGURES_NOT_COMPARED = "figures_not_compared"
    SHRUNK = "shrunk"
    NOT_COMPARED = "not_compared"
    EMPTY_SOURCE = "empty_source"
    UNENDED_FILE = "unended_file"
    FULL_SHEET = "full_sheet"
    TOTAL_ROW = "total_row"
    HEADER_ROW = "header_row"


@dataclass(frozen=True)
class Notice:
    """Something noticed: `subject` is the source, the column or the table; `figures` are the numbers in `finding`.

    `finding` is whole sentences, with names and cells from files made visible by `errors.shown`, personal data masked.
    Without `is_warning` it is worth knowing and leaves the check `nothing_unusual` passed.
    """

    kind: str
    subject: str
    finding: str
    figures: Mapping[str, float] = field(default_factory=dict)
    is_warning: bool = True

    @property
    def figures_json(self) -> str:
        """The numbers as the table keeps them."""
        return json.dumps(dict(self.figures), sort_keys=True)


def source_notices(snapshots: Iterable[Snapshot]) -> Iterator[Notice]:
    """What reading these sources brought to light; known before anything is published."""
    for snapshot in snapshots:
        yield from _superseded(snapshot)
        yield from _empty(snapshot)
        yield from _unended(snapshot)
        yield from _full_sheets(snapshot)
        yield from _totals(snapshot)
        yield from _headers(snapshot)


def read_notices(home: Home) -> tuple[Notice, ...]:
    """The notices of the published warehouse, warnings first; none when there is none that can be read."""
    if not publishing.is_regular(home.warehouse):
        return ()
    try:
        with duck.opened(home.warehouse, PUBLICATION_NOTICES.name) as connection:
            rows = connection.execute(
                f"SELECT kind, subject, finding, figures, is_warning FROM {PUBLICATION_NOTICES.name} "
                "ORDER BY NOT is_warning, rowid"
            ).fetchall()
        return tuple(Notice(kind, subject, text, json.loads(values), bad) for kind, subject, text, values, bad in rows)
    except (duckdb.Error, OSError, ValueError):
        return ()


def _superseded(snapshot: Snapshot) -> Iterator[Notice]:
    count = snapshot.reasons.get(SUPERSEDED, 0)
    if not count or count < _MIN_SUPERSEDED_RATIO * snapshot.rows_in:
        return
    yield Notice(
        NoticeKind.SUPERSEDED,
        snapshot.source,
        f"{snapshot.source}: {count:,} of {snapshot.rows_in:,} rows ({count / snapshot.rows_in:.1%}) are superseded by "
        "a later row of the same key.",
        {"superseded_count": count, "rows_in": snapshot.rows_in},
        is_warning=False,
    )


def _empty(snapshot: Snapshot) -> Iterator[Notice]:
    """A source without rows: right for a system that no one uses yet, and what a failed query leaves."""
    if snapshot.rows_accepted:
        return
    why = f"of {snapshot.rows_in:,} rows none was accepted" if snapshot.rows_in else "its files hold no rows"
    yield Notice(
        NoticeKind.EMPTY_SOURCE,
        snapshot.source,
        f"{snapshot.source} is empty: {why}.",
        {"rows_in": snapshot.rows_in},
        is_warning=snapshot.rows_in > 0,
    )


def _unended(snapshot: Snapshot) -> Iterator[Notice]:
    """Text files without a last line break, as a cut file is; many programs write none, so it is no warning."""
    for name in snapshot.unended_files:
        yield Notice(
            NoticeKind.UNENDED_FILE,
            snapshot.source,
            f"{shown(name)} ({snapshot.source}) ends without a line break: if it was cut, its last row is not whole.",
            is_warning=False,
        )


def _totals(snapshot: Snapshot) -> Iterator[Notice]:
    """Keys that are words for a sum, as a report's last row has; nothing tells for sure that they are no keys."""
    if snapshot.total_keys:
        listed = ", ".join(f"'{shown(key)}'" for key in snapshot.total_keys)
        yield Notice(
            NoticeKind.TOTAL_ROW,
            snapshot.source,
            f"{snapshot.source} has a row whose key is {listed}: a sum at the end of a report passes for a record. "
            "Leave it out of the export, or write for the source: csv: {footer_lines: 1}",
            {"key_count": len(snapshot.total_keys)},
        )


def _headers(snapshot: Snapshot) -> Iterator[Notice]:
    """Keys that are the key's own name, as in files that were put together, or the dashes below a header."""
    if snapshot.header_keys:
        listed = ", ".join(f"'{shown(key)}'" for key in snapshot.header_keys)
        yield Notice(
            NoticeKind.HEADER_ROW,
            snapshot.source,
            f"{snapshot.source} has a row whose key is {listed}: a header, or the line below one, passes for a record. "
            "Take it out of the export. A line that begins with a mark of its own is left out by, for example, "
            'csv: {comment: "--"}',
            {"key_count": len(snapshot.header_keys)},
        )


def _full_sheets(snapshot: Snapshot) -> Iterator[Notice]:
    """Files with as many rows as fit on an Excel sheet. Excel drops the rest, and warns only the person who saves."""
    for name, count in zip(snapshot.files, snapshot.file_rows, strict=False):
        if count in _ROWS_OF_A_SHEET:
            yield Notice(
                NoticeKind.FULL_SHEET,
                snapshot.source,
                f"{shown(name)} ({snapshot.source}) has {count:,} rows, exactly as many as fit on a sheet of Excel: "
                "rows beyond them may be missing.",
                {"row_count": count},
            )
