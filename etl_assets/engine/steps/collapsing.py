"""Ids that collapse are noticed: a source of one record a key, most of whose rows replace each other, is refused.

The usual causes are a spreadsheet that made `1.23457E+12` of every long id, and an export with a row for each ticket or
invoice. In both, all rows but one of each id would vanish without a fault.
"""

from pathlib import Path

import duckdb

from etl_assets.engine import duck
from etl_assets.engine.published.snapshots import QUARANTINE_FILE, SUPERSEDED, Snapshot
from etl_assets.engine.reading.judging import FILE_INDEX
from etl_assets.engine.site import Site
from etl_assets.engine.sql_text import identifier, literal, pattern_literal
from etl_assets.errors import Action, Advice, CollapsedError, shown
from etl_assets.project.contract import Source

SETTING = "ETL_MAX_SUPERSEDED_RATIO"
# Rows of one id that a small export may well have: of one record a key, and of many.
_HANDFUL, _HANDFUL_OF_MANY = 5, 20
_IDS_SHOWN, _CHARS_SHOWN = 3, 40


def count_repeated(connection: duckdb.DuckDBPyConnection, source: Source, folder: Path, file_count: int) -> int:
    """Rows whose key another row of the same file has, one of each key left out; of a source with one record a key.

    Files that each hold all keys, such as an export for each day, replace each other's rows and repeat none. It
    takes the slices in `folder` and the temp table `rejected` as `finish_slices` leaves them.
    """
    if source.has_many:
        return 0
    count = duck.scalar(connection, f"SELECT count(*) FROM rejected WHERE reason = {literal(SUPERSEDED)}")
    assert isinstance(count, int), "a count"
    if not count or file_count == 1:
        return count
    key, slices = identifier(source.key.name), f"read_parquet({pattern_literal(folder)} || '/shard_*.parquet')"
    count = duck.scalar(
        connection,
        f"""
        WITH replaced AS (SELECT file_index, key FROM rejected WHERE reason = {literal(SUPERSEDED)}),
        rows AS (
            FROM replaced UNION ALL
            SELECT {FILE_INDEX}, {key} FROM {slices} kept SEMI JOIN replaced ON kept.{key} = replaced.key
        )
        SELECT count(*) - (SELECT count(*) FROM (SELECT DISTINCT file_index, key FROM rows)) FROM rows""",
    )
    assert isinstance(count, int), "a difference of counts"
    return count


def check_collapse(site: Site, source: Source, snapshot: Snapshot, max_ratio: float) -> None:
    """CollapsedError when more of a source's rows repeat an id than are allowed, or all of them have one id.

    With `latest_by`, several rows of an id are meant: then only one id for all rows is refused.
    """
    superseded = 0 if source.has_many else snapshot.reasons.get(SUPERSEDED, 0)
    row_count = snapshot.rows_accepted + superseded
    repeated = snapshot.rows_repeated
    if not is_collapsed(source, snapshot, max_ratio):
        return
    if _has_one_id(source, snapshot, max_ratio):
        cells = f"all {row_count:,} rows have the same {source.key.name}"
    else:
        cells = (
            f"{repeated:,} of {row_count:,} rows ({repeated / row_count:.1%}) have the {source.key.name} of another "
            f"row of their file, at most {max_ratio:.1%} are allowed ({SETTING}); there are {snapshot.key_count:,} "
            "different ones"
        )
    raise CollapsedError(
        f"Source '{source.name}': {cells}{_examples(site, source, snapshot)}. Of each, only one row would be kept. "
        f"Either the {source.key.name} was damaged, for example by a spreadsheet that wrote 1.23457E+12; or another "
        "column is the one (key:); or there are several rows of each (rows: many, or latest_by: for the one that "
        "counts).",
        *_advice(source, repeated, row_count),
        subject=source.name,
    )


def is_collapsed(source: Source, snapshot: Snapshot, max_ratio: float) -> bool:
    """Whether `check_collapse` refuses the snapshot."""
    if _has_one_id(source, snapshot, max_ratio):
        return True
    row_count = snapshot.rows_accepted + snapshot.reasons.get(SUPERSEDED, 0)
    is_limited = not source.has_many and not source.latest_by and snapshot.rows_repeated >= _HANDFUL
    return is_limited and snapshot.rows_repeated > max_ratio * row_count


def _has_one_id(source: Source, snapshot: Snapshot, max_ratio: float) -> bool:
    if snapshot.key_count != 1:
        return False
    if source.has_many:
        return max_ratio < 1 and snapshot.rows_accepted > _HANDFUL_OF_MANY
    return snapshot.rows_repeated >= _HANDFUL


def _advice(source: Source, repeated: int, row_count: int) -> tuple[Advice, ...]:
    again, edit = Advice(Action.EXPORT_AGAIN), Advice(Action.EDIT, value=f"the source {source.name} in etl_assets.yaml")
    share = 1.0 if source.has_many else min(1.0, int(100 * repeated / row_count + 1) / 100)
    is_lifted = source.has_many or not (source.latest_by or repeated == row_count - 1)
    return (again, edit, Advice(Action.SET, SETTING, f"{share:g}")) if is_lifted else (again, edit)


def _examples(site: Site, source: Source, snapshot: Snapshot) -> str:
    """The ids with the most rows, unless ids are personal."""
    if source.has_many or source.has_personal_ids or source.key.name in site.contract.personal_columns:
        return ""
    folder = site.home.snapshot(source.name, snapshot.folder)
    rows = pattern_literal(folder / QUARANTINE_FILE)
    key = identifier(source.key.name)
    with duck.reader(folder) as connection:
        found = connection.execute(
            f"SELECT {key}, count(*) + 1 FROM read_parquet({rows}) WHERE reason = {literal(SUPERSEDED)} "
            f"GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT {_IDS_SHOWN}"
        ).fetchall()
    listed = ", ".join(f"{_short(text)} ({count:,} rows)" for text, count in found)
    return f": most often {listed}" if listed else ""


def _short(text: str) -> str:
    return shown(text if len(text) <= _CHARS_SHOWN else f"{text[:_CHARS_SHOWN]}…")
