"""What is noticed about a publication of a lake, from the figures of its shards: no profile is read."""

from collections.abc import Iterator, Mapping, Sequence

from etl_assets.engine import duck
from etl_assets.engine.published.notices import Notice, source_notices
from etl_assets.engine.published.overlap import overlap_notices
from etl_assets.engine.published.publication_figures import (
    Figure,
    FigureKind,
    PublishedFigures,
    before,
    kept,
    read_past,
)
from etl_assets.engine.published.shard_figures import ShardFigures, overlap_of
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.published.warehouse import PROFILES_TABLE, Publication
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier
from etl_assets.engine.steps.comparing import comparison_notices, not_compared
from etl_assets.engine.steps.counting import engine_columns, with_sources, word_figures
from etl_assets.engine.steps.noticing import Noticed
from etl_assets.engine.steps.shrinking import Emptied, own_columns


def notice_in_lake(
    site: Site,
    snapshots: Mapping[str, Snapshot],
    publication: Publication,
    figures: ShardFigures,
    columns: Mapping[str, str],
    earlier: Sequence[Notice],
) -> tuple[Noticed, Sequence[PublishedFigures]]:
    """The notices and the overlap, and the figures that the next publication is compared with.

    Deliberately without ids that look alike: those of two shards could be compared only by reading all of them.
    """
    contract = site.contract
    overlap = overlap_of(figures, contract.source_names)
    past = read_past(site.home)
    if publication.is_partial:
        compared, carried = [not_compared("This publication is partial.")], kept(past.publications)
    else:
        counted = _of_columns(site, publication.record_count, figures, columns)
        present = with_sources(site, snapshots, publication, counted)
        compared = list(comparison_notices(present, past, contract.entity))
        carried = kept([*before(past, present), present])
    with duck.reader() as connection:
        # Without rows, so that the notices have no examples of ids.
        listed = ", ".join(f"{identifier(name)} {kind}" for name, kind in columns.items())
        connection.execute(f"CREATE TABLE {PROFILES_TABLE} ({listed})")
        shared = list(overlap_notices(overlap, contract, publication.record_count, connection))
    notices = (*earlier, *source_notices(snapshots.values()), *shared, *compared)
    return Noticed(notices, overlap), carried


def emptied_in_lake(site: Site, figures: ShardFigures, columns: Sequence[str]) -> Emptied:
    """The columns without any value, and how many the last publication had in each."""
    own = own_columns(site)
    empty = [name for name in columns if name not in own and not figures.filled.get(name)]
    past = read_past(site.home).publications
    known = past[-1].by_subject if past else {}
    counts = {}
    for name in empty:
        figure = known.get((FigureKind.NULLS, "", name, ""))
        if figure is not None:
            counts[name] = (figure.total or 0) - figure.amount
    return counts, []


def _of_columns(site: Site, record_count: int, figures: ShardFigures, columns: Mapping[str, str]) -> Iterator[Figure]:
    engines = engine_columns(site.contract)
    for name in columns:
        if name in engines:
            continue
        present = figures.filled.get(name, 0)
        yield Figure(FigureKind.NULLS, "", name, "", record_count - present, record_count)
        if name in figures.words:
            rows = sorted(figures.words[name].items(), key=lambda one: (-one[1], one[0]))
            yield from word_figures(name, present, rows)
