"""What is noticed about the whole while it is merged; written into the warehouse beside the profiles.

Nothing here stops a merge or changes a profile.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb

from etl_assets.engine.published import tables
from etl_assets.engine.published.notices import Notice, source_notices
from etl_assets.engine.published.overlap import SourceOverlap, measure_overlap, overlap_notices, overlap_rows
from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.engine.published.warehouse import Publication
from etl_assets.engine.site import Site
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
    notices = [
        *before,
        *source_notices(snapshots.values()),
        *overlap_notices(overlap, contract, publication.record_count),
        *(near_key_notices(connection, contract) if distinct.has_near_keys else ()),
    ]
    for table, rows in ((tables.SOURCE_OVERLAP, list(overlap_rows(overlap))), (tables.PUBLICATION_NOTICES, notices)):
        table.create(connection)
        table.insert(connection, rows)
    return Noticed(tuple(notices), overlap)
