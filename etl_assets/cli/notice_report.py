"""What was noticed about a publication, at the end of `run` and in `status`: the notices, and what sources share."""

from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from etl_assets.cli import terminal
from etl_assets.engine.published.notices import Notice
from etl_assets.engine.published.overlap import SourceOverlap
from etl_assets.engine.published.tables import PUBLICATION_NOTICES, SOURCE_OVERLAP

# Of each kind: an export that lost a third of its rows moves the share of every one of its columns.
_NOTICES_OF_A_KIND = 3
_SOURCES_SHOWN = 4
_STYLES = {True: ("warning: ", "yellow"), False: ("note: ", "cyan")}


def show_notices(console: Console, notices: Sequence[Notice]) -> None:
    """The first notices of each kind, and how many more there are."""
    by_kind: dict[str, list[Notice]] = defaultdict(list)
    for notice in notices:
        by_kind[notice.kind].append(notice)
    for kind, those in by_kind.items():
        for notice in those[:_NOTICES_OF_A_KIND]:
            console.print(Text.assemble(_STYLES[notice.is_warning], terminal.plain(notice.finding)), soft_wrap=True)
        rest = len(those) - _NOTICES_OF_A_KIND
        if rest > 0:
            noun = "notice" if rest == 1 else "notices"
            what = f"{rest:,} more {noun} of {kind.replace('_', ' ')}"
            console.print(f"{what}; see the table {PUBLICATION_NOTICES.name}", soft_wrap=True)


def show_overlap_line(console: Console, overlap: Sequence[SourceOverlap], record_count: int, entity: str) -> None:
    """One line, unless every key is in every source."""
    if not overlap or overlap[0].all_count == record_count:
        return
    alone = sorted((one for one in overlap if one.only_count), key=lambda one: -one.only_count)
    listed = ", ".join(f"{one.source} {one.only_count:,}" for one in alone[:_SOURCES_SHOWN])
    more = f" and {len(alone) - _SOURCES_SHOWN} more" if len(alone) > _SOURCES_SHOWN else ""
    only = f"; in no other source: {listed}{more}" if alone else ""
    console.print(
        terminal.plain(
            f"overlap: {overlap[0].all_count:,} of {record_count:,} {entity} in all {len(overlap)} sources{only}"
        ),
        soft_wrap=True,
    )


def show_overlap(console: Console, overlap: Sequence[SourceOverlap]) -> None:
    """A row a source."""
    if not overlap:
        return
    shown = terminal.table(
        ("source", "left"), ("keys", "right"), ("in others", "right"), ("only here", "right"), ("shares most", "left")
    )
    for one in overlap:
        other, shared = max(one.shared_counts.items(), key=lambda pair: pair[1])
        shown.add_row(
            terminal.plain(one.source),
            *map(terminal.number, (one.key_count, one.elsewhere_count, one.only_count)),
            terminal.plain(f"{other} {shared:,}" if shared else "-"),
        )
    console.print()
    console.print(
        Text.assemble(
            ("Overlap  ", "bold"),
            f"{overlap[0].all_count:,} in all {len(overlap)} sources; pairs are in the table {SOURCE_OVERLAP.name}",
        ),
        soft_wrap=True,
    )
    console.print(shown)
