"""The figures of this publication and of the last ones: carried from warehouse to warehouse, to see what is unusual.

Counts only, of no less than `MIN_COUNT` profiles where a word of the data is named, and no word of a column of personal
data: what was deleted from the exports is not kept here.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.files import publishing
from etl_assets.engine.files.layout import Home
from etl_assets.engine.published.tables import PUBLICATION_FIGURES

MAX_PUBLICATIONS = 10
# A word is named, and a change noticed, from this number of rows or profiles on.
MIN_COUNT = 20


class FigureKind(StrEnum):
    """What is counted."""

    ROWS = "rows"  # of a source's files
    PROFILES = "profiles"
    REJECTED = "rejected"  # rows of a source, by reason
    INVALID_CELLS = "invalid_cells"  # of a source, by reason
    NULLS = "nulls"  # profiles in which a column is null
    WORDS = "words"  # distinct words of a column that has few
    VALUE = "value"  # profiles that have one of them


@dataclass(frozen=True)
class Figure:
    """A count: `amount` of `total`, which is None where there is nothing it is a share of."""

    kind: FigureKind
    source: str
    column: str
    value: str
    amount: int
    total: int | None = None

    @property
    def subject(self) -> tuple[FigureKind, str, str, str]:
        """What is counted; the same in every publication."""
        return self.kind, self.source, self.column, self.value

    @property
    def share(self) -> float:
        """The share of the total; 0 of nothing."""
        return self.amount / self.total if self.total else 0.0


@dataclass(frozen=True)
class PublishedFigures:
    """The figures of one publication. `input_hash` and `code_version` are the same for the same input and project."""

    published_at: datetime
    input_hash: str
    code_version: str
    figures: tuple[Figure, ...]

    @cached_property
    def by_subject(self) -> Mapping[tuple[FigureKind, str, str, str], Figure]:
        """The figures by what they count."""
        return {figure.subject: figure for figure in self.figures}


@dataclass(frozen=True)
class Past:
    """The last publications, the oldest first; `why_none` says why there are none."""

    publications: tuple[PublishedFigures, ...] = ()
    why_none: str = ""


@dataclass(frozen=True)
class FigureRow:
    """A row of `publication_figures`."""

    published_at: datetime
    input_hash: str
    code_version: str
    kind: str
    source: str
    column_name: str
    value: str
    amount: int
    total: int | None


def read_past(home: Home) -> Past:
    """The figures that the published warehouse has of itself and of those before it."""
    if not publishing.is_regular(home.warehouse):
        return Past(why_none="There is no earlier publication.")
    try:
        with duck.opened(home.warehouse, PUBLICATION_FIGURES.name) as connection:
            rows = connection.execute(
                "SELECT epoch_us(published_at), input_hash, code_version, kind, source, column_name, value, amount, "
                f"total FROM {PUBLICATION_FIGURES.name} ORDER BY published_at, rowid"
            ).fetchall()
        found: dict[tuple[int, str, str], list[Figure]] = {}
        for moment, input_hash, code_version, kind, *figure in rows:
            found.setdefault((moment, input_hash, code_version), []).append(Figure(FigureKind(kind), *figure))
        past = tuple(
            PublishedFigures(datetime.fromtimestamp(moment / 1e6, UTC), input_hash, code_version, tuple(figures))
            for (moment, input_hash, code_version), figures in found.items()
        )
    # The file may be anyone's: a moment may be null, or none that there is.
    except (duckdb.Error, OSError, ValueError, OverflowError, TypeError):
        return Past(why_none="The figures of the last warehouse could not be read.")
    return Past(past, "" if past else "The last warehouse has no figures.")


def before(past: Past, present: PublishedFigures) -> tuple[PublishedFigures, ...]:
    """The publications that went before: the last one is this very one if the same input was merged again."""
    last = past.publications[-1:]
    is_again = [(one.input_hash, one.code_version) for one in last] == [(present.input_hash, present.code_version)]
    return past.publications[:-1] if is_again else past.publications


def figure_rows(publications: Iterable[PublishedFigures]) -> Iterator[FigureRow]:
    """The rows of the table."""
    for one in publications:
        for figure in one.figures:
            yield FigureRow(
                one.published_at,
                one.input_hash,
                one.code_version,
                figure.kind,
                figure.source,
                figure.column,
                figure.value,
                figure.amount,
                figure.total,
            )


def kept(publications: Sequence[PublishedFigures]) -> Sequence[PublishedFigures]:
    """Those that the next warehouse carries on."""
    return publications[-MAX_PUBLICATIONS:]
