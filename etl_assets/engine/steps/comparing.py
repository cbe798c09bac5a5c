"""What is unusual about a publication, compared with the last ones. The rule is simple, so that a person can check it.

The usual is the median of up to `MEDIAN_OF` earlier publications by the same project and version. Noticed is, from
`MIN_COUNT` rows or profiles on:

- a number of rows or profiles that is off by more than `MAX_COUNT_CHANGE` of the usual;
- a reason for rejects whose share of the rows rose by more than `MAX_REJECTS_RISE`;
- a column's share of nulls, or a word's share of the values of its column, that moved by more than `MAX_SHARE_MOVE`.
"""

from collections.abc import Iterator, Sequence
from statistics import median

from etl_assets.engine.published.notices import Notice, NoticeKind
from etl_assets.engine.published.publication_figures import (
    MIN_COUNT,
    Figure,
    FigureKind,
    Past,
    PublishedFigures,
    before,
)
from etl_assets.errors import shown

MEDIAN_OF = 5
MAX_COUNT_CHANGE = 0.2
MAX_REJECTS_RISE = 0.01
MAX_SHARE_MOVE = 0.1
_CHARS_SHOWN = 40
_COUNTS = (FigureKind.ROWS, FigureKind.PROFILES)
_REJECTS = (FigureKind.REJECTED, FigureKind.INVALID_CELLS)
# Fewer rows explain more nulls, so they come first.
_ORDER = (NoticeKind.ROW_COUNT, NoticeKind.REJECTS, NoticeKind.NULL_SHARE, NoticeKind.VALUE_SHARE)


def comparison_notices(present: PublishedFigures, past: Past, entity: str) -> Iterator[Notice]:
    """What is unusual, the largest move of a kind first; or a note that says why nothing was compared."""
    earlier = before(past, present)
    usual = [one for one in earlier if one.code_version == present.code_version][-MEDIAN_OF:]
    if not usual:
        why = "The last publications were made by another version of the project." if earlier else past.why_none
        yield not_compared(why or "There is no earlier publication.")
        return
    noticed = [found for figure in _all_figures(present, usual) for found in _compared(figure, usual, entity)]
    yield from (notice for *_, notice in sorted(noticed, key=lambda one: (_ORDER.index(one[0]), -one[1])))


def not_compared(why: str) -> Notice:
    """The note that nothing was compared, and why."""
    finding = f"The figures of this publication are compared with no other. {why}"
    return Notice(NoticeKind.FIGURES_NOT_COMPARED, "publication", finding, is_warning=False)


def _all_figures(present: PublishedFigures, usual: Sequence[PublishedFigures]) -> list[Figure]:
    """The present figures, and a zero for each word that occurred before and does not any more."""
    found = {figure.subject: figure for figure in present.figures}
    for one in usual:
        for figure in one.figures:
            words = found.get((FigureKind.WORDS, "", figure.column, ""))
            if figure.kind is FigureKind.VALUE and words is not None:
                found.setdefault(figure.subject, Figure(*figure.subject, amount=0, total=words.total))
    return list(found.values())


def _compared(
    figure: Figure, usual: Sequence[PublishedFigures], entity: str
) -> Iterator[tuple[NoticeKind, float, Notice]]:
    """The notice about one figure, if it is unusual, with its kind and the size of the move to sort by."""
    known = [amount for one in usual for amount in _amounts(figure, one)]
    if not known:
        return
    middle = median(known)
    publications = f"the last {len(known)} publications" if len(known) > 1 else "the last publication"
    if figure.kind in _COUNTS:
        move = figure.amount - middle
        if abs(move) < MIN_COUNT or abs(move) <= MAX_COUNT_CHANGE * middle:
            return
        change = f" ({move / middle:+.0%})" if middle else ""
        what = (
            f"{figure.source} has {figure.amount:,} rows" if figure.source else f"There are {figure.amount:,} {entity}"
        )
        finding = f"{what}{change}; in {publications} {middle:,.0f}."
        kind, figures = NoticeKind.ROW_COUNT, {"amount": figure.amount, "usual": middle}
        relative = abs(move) / middle if middle else 1.0
    else:
        relative = figure.share - middle if figure.kind in _REJECTS else abs(figure.share - middle)
        limit = MAX_REJECTS_RISE if figure.kind in _REJECTS else MAX_SHARE_MOVE
        if relative <= limit or relative * (figure.total or 0) < MIN_COUNT:
            return
        kind, what = _described(figure, entity)
        finding = f"{what} ({figure.share:.1%}); in {publications} {middle:.1%}."
        figures = {"amount": figure.amount, "total": figure.total or 0, "share": figure.share, "usual_share": middle}
    yield kind, relative, Notice(kind, figure.source or figure.column or entity, finding, figures)


def _amounts(figure: Figure, one: PublishedFigures) -> Iterator[float]:
    """What an earlier publication has for this figure: an amount or a share, 0 for what it would have counted."""
    subjects = one.by_subject
    known = subjects.get(figure.subject)
    if known is not None:
        yield known.amount if figure.kind in _COUNTS else known.share
        return
    # The count without which this one is not known to have been zero.
    whole = FigureKind.ROWS if figure.kind in _REJECTS else FigureKind.WORDS if figure.value else None
    if whole and (whole, figure.source, figure.column, "") in subjects:
        yield 0.0


def _described(figure: Figure, entity: str) -> tuple[NoticeKind, str]:
    """The kind of the notice about a share, and the beginning of its sentence."""
    amount, total = f"{figure.amount:,}", f"{figure.total or 0:,}"
    match figure.kind:
        case FigureKind.REJECTED:
            return NoticeKind.REJECTS, f"{figure.source}: {amount} of {total} rows are quarantined as {figure.value}"
        case FigureKind.INVALID_CELLS:
            return NoticeKind.REJECTS, f"{figure.source}: {amount} of {total} rows have a cell that is {figure.value}"
        case FigureKind.NULLS:
            return NoticeKind.NULL_SHARE, f"{figure.column} is null in {amount} of {total} {entity}"
        case _:
            word = shown(figure.value if len(figure.value) <= _CHARS_SHOWN else f"{figure.value[:_CHARS_SHOWN]}…")
            return (
                NoticeKind.VALUE_SHARE,
                f"{figure.column} is '{word}' in {amount} of the {total} {entity} that have one",
            )
