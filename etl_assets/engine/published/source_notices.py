"""What a person should know of a source that was accepted: nothing of it is wrong, and all of it may be."""

from collections.abc import Iterator

from etl_assets.engine.published.snapshots import Snapshot
from etl_assets.errors import shown

_FILES_SHOWN = 3


def notices_of(snapshot: Snapshot) -> Iterator[str]:
    """A sentence without its point for each thing."""
    if not snapshot.rows_accepted:
        yield (
            f"{snapshot.source} has no rows: none of its {snapshot.rows_in:,} rows was accepted"
            if (snapshot.rows_in)
            else f"{snapshot.source} has no rows: its files hold a header only"
        )
    names = [shown(name) for name in snapshot.unended_files]
    if names:
        more = f" and {len(names) - _FILES_SHOWN} more" if len(names) > _FILES_SHOWN else ""
        verb, its = ("ends", "its") if len(names) == 1 else ("end", "their")
        yield (
            f"{', '.join(names[:_FILES_SHOWN])}{more} ({snapshot.source}) {verb} in the middle of a line, without a "
            f"line break: if the transfer was cut, a part of {its} last row is missing"
        )
