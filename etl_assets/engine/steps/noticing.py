"""What is noticed about the whole while it is merged; written into the warehouse beside the profiles.

Nothing here stops a merge or changes a profile.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from etl_assets.engine.published import tables
from etl_assets.engine.published.notices import Notice, source_notices
from etl_assets.engine.published.overlap import SourceOverlap, measure_overlap, overlap_notices, overlap_rows
from etl_assets.engine.published.publication_figures import PublishedFigures, before, figure_rows, kept, read_past
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.published.warehouse import Publication
from etl_assets.engine.site import Site
from etl_assets.engine.steps.comparing import comparison_notices, not_compared
from etl_assets.engine.steps.counting import count_figures
from etl_assets.engine.steps.duplicates import Distinct
from etl_assets.engine.steps.near_keys import near_key_notices


@dataclass(frozen=True)
class Noticed:
    """The notices of a publication, and what its sources share."""

    notices: tuple[Notice, ...] = ()
    overlap: tuple[SourceOverlap, ...] = ()


def notice(
    connection: duckdb.DuckDBPyConnection,
    site: Site,
    snapshots: Mapping[str, Snapshot],
    publication: Publication,
    distinct: Distinct,
    before: Sequence[Notice] = (),
) -> Noticed:
    """Look at the profiles of the current database, and write its tables of what was noticed now and `before`."""
    contract = site.contract
    overlap = measure_overlap(connection, contract.source_names)
    compared, figures = _compare(connection, site, snapshots, publication)
    notices = [
        *before,
        *source_notices(snapshots.values()),
        *overlap_notices(overlap, contract, publication.record_count, connection),
        *(near_key_notices(connection, contract) if distinct.has_near_keys else ()),
        *compared,
    ]
    contents: list[tuple[tables.Table, Iterable[object]]] = [
        (tables.SOURCE_OVERLAP, overlap_rows(overlap)),
        (tables.PUBLICATION_NOTICES, notices),
        (tables.PUBLICATION_FIGURES, figure_rows(figures)),
    ]
    for table, rows in contents:
        table.create(connection)
        table.insert(connection, rows)
    return Noticed(tuple(notices), overlap)


def _compare(
    connection: duckdb.DuckDBPyConnection, site: Site, snapshots: Mapping[str, Snapshot], publication: Publication
) -> tuple[list[Notice], Sequence[PublishedFigures]]:
    """What is unusual, and the figures that this warehouse carries on; a partial publication is no measure."""
    past = read_past(site.home)
    if publication.is_partial:
        return [not_compared("This publication is partial.")], kept(past.publications)
    present = count_figures(connection, site, snapshots, publication)
    return list(comparison_notices(present, past, site.contract.entity)), kept([*before(past, present), present])
